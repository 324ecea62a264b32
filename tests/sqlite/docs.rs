//! `docs/settings.md` and `docs/codes.md`, held against the program. `TIDEGATE_TEST_UPDATE=1` writes their tables anew, all
//! but the last column: that is written by hand, and may not be empty.

use std::fmt::Write;

use tidegate::config::keys::{KEYS, Shown};
use tidegate::http::code::Code;

use crate::readme::{assert_held, page};

/// What the last column says of each name in a page's table.
struct Advice(String);

impl Advice {
    fn of(&self, name: &str) -> &str {
        let row = format!("| `{name}` |");
        let row = self.0.lines().find(|line| line.starts_with(&row)).unwrap_or_default();
        row.trim_end_matches('|').rsplit(" | ").next().unwrap_or_default().trim()
    }
}

fn settings(advice: &Advice) -> String {
    let (mut text, mut current) = (String::new(), None);
    for key in &KEYS {
        let default = match key.shown {
            Shown::Default(value) => format!("`{value}`"),
            Shown::Sample(_) => "none".to_owned(),
        };
        let (_, section) = key.split();
        if current.replace(section) != Some(section) {
            let title = match section.strip_suffix(".*") {
                _ if section.is_empty() => "The top of the file".to_owned(),
                Some(list) => format!("`[[{list}]]`"),
                None => format!("`[{section}]`"),
            };
            let gap = if text.is_empty() { "" } else { "\n" };
            writeln!(
                text,
                "{gap}### {title}\n\n| setting | default | what it is | change it when |\n|---|---|---|---|"
            )
            .unwrap();
        }
        writeln!(text, "| `{}` | {default} | {} | {} |", key.path, key.note, advice.of(key.path)).unwrap();
    }
    text
}

fn codes(advice: &Advice) -> String {
    let mut text = "| code | status | when | what a client does |\n|---|---|---|---|\n".to_owned();
    for code in Code::ALL {
        let (name, status) = (code.as_str(), code.status().as_u16());
        writeln!(text, "| `{name}` | {status} | {} | {} |", code.doc(), advice.of(name)).unwrap();
    }
    text
}

#[test]
fn every_setting_is_told_as_it_is_and_when_to_change_it() {
    let advice = Advice(page("docs/settings.md"));
    assert_held("docs/settings.md", "settings", &settings(&advice));
    for key in &KEYS {
        assert!(!advice.of(key.path).is_empty(), "docs/settings.md does not say when to change {}", key.path);
    }
}

#[test]
fn every_code_is_told_as_it_is_and_what_to_do_about_it() {
    let advice = Advice(page("docs/codes.md"));
    assert_held("docs/codes.md", "codes", &codes(&advice));
    for code in Code::ALL {
        assert!(!advice.of(code.as_str()).is_empty(), "docs/codes.md does not say what to do about {}", code.as_str());
    }
}
