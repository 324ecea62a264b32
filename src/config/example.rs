//! A commented example of every supported setting, with its default.

use std::fmt::Write;

use super::keys::{KEYS, Shown};

const HEAD: &str = "\
# Every setting of Tidegate with its default; a line that starts with `#name` has none and shows what it could be.
# Stronger than this file: an environment variable (`limits.grace_s` is TIDEGATE_LIMITS__GRACE_S, the first upstream's
# address TIDEGATE_UPSTREAMS__0__BASE_URL, lists are `a,b` or JSON, tables are JSON), and stronger still: a flag.
# Sizes are in bytes, times in seconds. A path is taken from the working directory.
";

/// The example, as TOML.
pub fn example() -> String {
    let mut out = String::from(HEAD);
    let mut current = "";
    for key in &KEYS {
        let (name, section) = key.split();
        let (mark, value) = match key.shown {
            Shown::Default(value) => ("", value),
            Shown::Sample(value) => ("#", value),
        };
        out.push('\n');
        if section != current {
            out.push_str(&header(section, mark));
            current = section;
        }
        // A String takes whatever is written.
        let _ = writeln!(out, "# {}\n{mark}{name} = {value}", key.note);
    }
    out
}

/// A list that has no entry by default is commented out whole.
fn header(section: &str, mark: &str) -> String {
    let name = section.replace(".*", "");
    match section {
        "applications.*" => format!("# Those who share the gateway; what one has the others do not see.\n[[{name}]]\n"),
        "applications.*.widgets.*" => format!("# For pages whose visitors do not sign in.\n{mark}[[{name}]]\n"),
        "prices.*" => format!(
            "# What models cost, before what is known of well-known ones: a name comes before globs, a narrower glob before\n\
             # a wider, and then the latest that is valid.\n{mark}[[{name}]]\n"
        ),
        "upstreams.*" => format!("# The models behind the gateway, tried in order; several = fallback.\n[[{name}]]\n"),
        "applications.*.limits" => {
            format!("# What all its callers may use together, and each of them; 0: no limit.\n[{name}]\n")
        }
        _ => format!("[{name}]\n"),
    }
}
