//! The floors of the house, checked: reads what each file of `src` names, and fails with the table when an arrow
//! points upward or a crate is used outside its one place.
#![cfg(test)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const TABLE: &str = "
    floor                            may use
    domain                           nothing; no runtime, no I/O
    lifecycle, seldom, latest        nothing
    meter, trace                     domain
    wire, upstream, store, cluster,
    identity                         domain, lifecycle, meter, seldom, latest, trace; never one another
    turn, access, jobs               all of the floors below; never one another
    http                             all below
    main, cli, config, lib           all below, and one another

    sqlx only in store; redis only in cluster; axum, hyper's server side and utoipa only in http; HTTP clients only
    in upstream, identity, cli and trace; jsonwebtoken only in identity; spawning only in lifecycle.";

/// The height of a part of the house.
fn floor(part: &str) -> Option<u8> {
    Some(match part {
        "domain" => 0,
        "lifecycle" | "meter" | "seldom" | "latest" | "trace" => 1,
        "wire" | "upstream" | "store" | "cluster" | "identity" => 2,
        "turn" | "access" | "jobs" => 3,
        "http" => 4,
        "main" | "cli" | "config" | "lib" => 5,
        _ => return None,
    })
}

fn may_use(user: &str, used: &str) -> bool {
    let (Some(high), Some(low)) = (floor(user), floor(used)) else { return true };
    user == used || (high > low && !matches!(user, "lifecycle" | "seldom" | "latest")) || (high == 5 && low == 5)
}

/// Where a crate may be named; `None` = everywhere.
fn places(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "sqlx" => &["store"],
        "redis" => &["cluster"],
        "axum" | "axum_extra" | "tower_http" | "utoipa" | "utoipa_axum" | "utoipa_swagger_ui" => &["http"],
        "hyper" | "hyper_util" => &["http", "upstream"],
        "reqwest" | "reqwest_eventsource" | "httparse" => &["upstream", "identity", "cli", "trace"],
        "jsonwebtoken" => &["identity"],
        "opentelemetry" | "opentelemetry_otlp" | "opentelemetry_sdk" => &["trace"],
        "prometheus_client" => &["meter"],
        "rustls" | "tokio_rustls" => &["http", "upstream", "cli"],
        "rustls_platform_verifier" => &["upstream"],
        _ => return None,
    })
}

/// What spawns, as the last two names of a path.
const SPAWNS: [&str; 9] = [
    "tokio::spawn",
    "task::spawn",
    "task::spawn_blocking",
    "task::spawn_local",
    "task::JoinSet",
    "task::TaskTracker",
    "thread::spawn",
    "thread::Builder",
    "thread::scope",
];

/// What is not for a place without runtime and I/O.
const MACHINERY: [&str; 9] = [
    "tokio",
    "tokio_util",
    "tokio_stream",
    "futures",
    "async_stream",
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
];

/// A name, or one of the marks that make paths.
#[derive(Debug, PartialEq)]
enum Token {
    Name(String),
    Colons,
    Open,
    Close,
    Comma,
    Other(char),
}

/// The tokens of a file, without comments and without what is inside quotes.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied().unwrap_or(' ');
        if c == '/' && next == '/' {
            at += chars[at..].iter().take_while(|c| **c != '\n').count();
        } else if c == '/' && next == '*' {
            at += 2 + chars[at + 2..].windows(2).take_while(|two| *two != ['*', '/']).count() + 2;
        } else if c == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if let Some(hashes) = raw_string(&chars[at..]) {
            let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let open = at + chars[at..].iter().take_while(|c| **c != '"').count() + 1;
            let body = chars[open..].windows(end.len()).take_while(|window| *window != end).count();
            at = open + body + end.len();
        } else if c == '\'' {
            // A character, or the mark of a lifetime.
            let escaped = next == '\\';
            let end = if escaped { chars[at + 3..].iter().position(|c| *c == '\'').map(|n| n + 3) } else { Some(2) };
            at += end.filter(|n| chars.get(at + n) == Some(&'\'')).map_or(1, |n| n + 1);
        } else if c.is_alphabetic() || c == '_' {
            let name: String = chars[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect();
            at += name.chars().count();
            tokens.push(Token::Name(name));
        } else {
            let token = match (c, next) {
                (':', ':') => Token::Colons,
                ('{', _) => Token::Open,
                ('}', _) => Token::Close,
                (',', _) => Token::Comma,
                (c, _) => Token::Other(c),
            };
            at += if token == Token::Colons { 2 } else { 1 };
            if !matches!(token, Token::Other(c) if c.is_whitespace()) {
                tokens.push(token);
            }
        }
    }
    tokens
}

/// The hashes of a raw string that begins here.
fn raw_string(chars: &[char]) -> Option<usize> {
    let prefix = chars.iter().take_while(|c| matches!(c, 'b' | 'r')).count();
    if !(1..=2).contains(&prefix) || chars[prefix - 1] != 'r' {
        return None;
    }
    let hashes = chars[prefix..].iter().take_while(|c| **c == '#').count();
    (chars.get(prefix + hashes) == Some(&'"')).then_some(hashes)
}

/// Every path that is named, braces of `use` lines spread out, `super` and `self` resolved against `home`.
fn paths(text: &str, home: &[String]) -> Vec<Vec<String>> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    // Inline modules that are open, by the depth of braces at which they close.
    let (mut inner, mut depth) = (Vec::<(String, usize)>::new(), 0);
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at..] {
            [Token::Name(keyword), Token::Name(name), Token::Open, ..] if keyword == "mod" => {
                inner.push((name.clone(), depth));
                depth += 1;
                at += 3;
            }
            [Token::Name(_), ..] => {
                let here: Vec<String> =
                    home.iter().cloned().chain(inner.iter().map(|(name, _)| name.clone())).collect();
                at += path(&tokens[at..], &[], &here, &mut found).max(1);
            }
            [Token::Open, ..] => (depth, at) = (depth + 1, at + 1),
            [Token::Close, ..] => {
                depth = depth.saturating_sub(1);
                inner.retain(|(_, opened)| *opened < depth);
                at += 1;
            }
            _ => at += 1,
        }
    }
    found
}

/// Reads one path, or a tree of them, after `prefix`; says how many tokens it took.
fn path(tokens: &[Token], prefix: &[String], here: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut whole = prefix.to_vec();
    let mut at = 0;
    loop {
        match &tokens[at..] {
            [Token::Name(name), ..] => {
                match name.as_str() {
                    "crate" | "tidegate" if whole.is_empty() => whole.push("crate".to_owned()),
                    "self" if whole.is_empty() => whole.extend(root(here)),
                    "super" if whole.is_empty() => {
                        whole.extend(root(here));
                        whole.pop();
                    }
                    "super" => {
                        whole.pop();
                    }
                    _ => whole.push(name.clone()),
                }
                at += 1;
            }
            [Token::Open, ..] => {
                at += 1;
                while !matches!(tokens.get(at), None | Some(Token::Close)) {
                    at += path(&tokens[at..], &whole, here, found).max(1);
                }
                return at + 1;
            }
            _ => break,
        }
        if tokens.get(at) == Some(&Token::Colons) && matches!(tokens.get(at + 1), Some(Token::Name(_) | Token::Open)) {
            at += 1;
        } else {
            break;
        }
    }
    if whole.len() > 1 {
        found.push(whole);
    }
    at
}

fn root(here: &[String]) -> Vec<String> {
    std::iter::once("crate".to_owned()).chain(here.iter().cloned()).collect()
}

/// Where a file is in the tree of modules, such as `["http", "turns"]`.
fn home(file: &str) -> Vec<String> {
    let mut parts: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod") || parts == ["lib"] || parts == ["main"] {
        parts.pop();
    }
    parts
}

/// Whether a file holds nothing but tests.
fn tests(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/")
}

/// The part of a file before its own tests: a module, in braces, that is only there for tests.
fn without_tests(text: &str) -> &str {
    let own =
        |at: &usize| text[*at..].lines().nth(1).is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'));
    let start = text.match_indices("#[cfg(test)]\n").map(|(at, _)| at).find(own);
    &text[..start.unwrap_or(text.len())]
}

/// What is wrong with one file, named by its path under `src`.
fn breaches(file: &str, text: &str) -> BTreeSet<String> {
    let part = file.split('/').next().unwrap().trim_end_matches(".rs");
    let mut breaches = BTreeSet::new();
    if floor(part).is_none() {
        breaches.insert(format!("{file}: `{part}` is on no floor"));
    }
    for path in paths(text, &home(file)) {
        let whole = path.join("::");
        if path[0] == "crate" && !may_use(part, &path[1]) {
            breaches.insert(format!("{file} uses {whole}"));
        }
    }
    // What tests of a floor need to see it from outside is not in the program.
    let shipped = if tests(file) { "" } else { without_tests(text) };
    for path in paths(shipped, &home(file)) {
        let whole = path.join("::");
        if places(&path[0]).is_some_and(|places| !places.contains(&part)) {
            breaches.insert(format!("{file} uses {whole}"));
        }
        let server = path.len() > 1 && path[1] == "server" && path[0].starts_with("hyper");
        if server && part != "http" {
            breaches.insert(format!("{file} uses {whole}"));
        }
        let spawns = path.windows(2).any(|two| SPAWNS.contains(&two.join("::").as_str()));
        if spawns && part != "lifecycle" {
            breaches.insert(format!("{file} spawns: {whole}"));
        }
        let machinery = MACHINERY.iter().any(|name| whole == *name || whole.starts_with(&format!("{name}::")));
        if machinery && part == "domain" {
            breaches.insert(format!("{file} uses {whole}"));
        }
    }
    breaches
}

/// Every file under a folder with that ending, by its path from there, in order.
fn files(folder: &Path, ending: &str) -> Vec<(String, String)> {
    let (mut found, mut open) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(at) = open.pop() {
        let Ok(entries) = std::fs::read_dir(folder.join(&at)) else { continue };
        for entry in entries.map(Result::unwrap) {
            let path = at.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                let text = std::fs::read_to_string(folder.join(&path)).unwrap();
                found.push((path.to_string_lossy().into_owned(), text));
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), ".rs")
}

#[test]
fn every_arrow_points_down_and_every_crate_is_in_its_place() {
    let breaches: Vec<_> = sources().iter().flat_map(|(file, text)| breaches(file, text)).collect();
    assert!(breaches.is_empty(), "\n    {}\n{TABLE}\n", breaches.join("\n    "));
}

#[test]
fn a_file_is_one_noun() {
    let mut lengths: Vec<_> = sources()
        .into_iter()
        .filter(|(file, _)| !tests(file))
        .map(|(file, text)| (without_tests(&text).lines().count(), file))
        .collect();
    lengths.sort();
    let part = |percent: usize| &lengths[(lengths.len() - 1) * percent / 100];
    for (percent, most) in [(50, 130), (90, 300), (100, 500)] {
        let (lines, file) = part(percent);
        assert!(*lines <= most, "{percent} % of the files have {lines} lines or fewer ({file}), {most} are allowed");
    }
    for (file, text) in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"), ".rs") {
        assert!(text.lines().count() <= 500, "tests/{file} is longer than 500 lines");
    }
}

#[test]
fn every_floor_opens_with_a_recipe() {
    for (file, text) in sources() {
        if let Some(folder) = file.strip_suffix("/mod.rs").filter(|folder| floor(folder).is_some()) {
            let opening: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
            assert!(opening.to_lowercase().contains("to add "), "{folder}/mod.rs does not say how to add one more");
        }
    }
}

#[test]
fn both_databases_have_the_same_migrations() {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let names =
        |kind: &str| files(&migrations.join(kind), ".sql").into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names("sqlite"), names("postgres"));
    let stores = sources().iter().any(|(file, _)| file.starts_with("store/"));
    assert!(!stores || !names("sqlite").is_empty(), "there is a store and no migration");
}

#[test]
fn the_checker_sees_what_is_wrong() {
    let wrong = [
        ("domain/event.rs", "use crate::wire::Sse;", "crate::wire::Sse"),
        ("domain/event.rs", "use std::{fmt, net::TcpStream};", "std::net::TcpStream"),
        ("store/turns.rs", "use crate::{domain::ids, upstream::{self, Call}};", "crate::upstream::Call"),
        ("wire/sse.rs", "fn f() { super::super::store::open() }", "crate::store::open"),
        ("wire/sse.rs", "mod tests { use super::super::super::turn::Log; }", "crate::turn::Log"),
        ("lifecycle.rs", "use crate::domain::ids;", "crate::domain::ids"),
        ("turn/log.rs", "fn f() -> crate::http::Reply {}", "crate::http::Reply"),
        ("turn/log.rs", "fn f() { sqlx::query(\"\") }", "sqlx::query"),
        ("turn/run.rs", "use tokio::task; fn f() { task::spawn(async {}) }", "task::spawn"),
        ("turn/run.rs", "fn f() { tokio::spawn(async {}) }", "tokio::spawn"),
        ("http/turns.rs", "use crate::config::Config;", "crate::config::Config"),
        ("http/turns.rs", "use reqwest::Client;", "reqwest::Client"),
        ("wire/tests.rs", "use crate::store::Pool;", "crate::store::Pool"),
        ("upstream/raw.rs", "use hyper::server::conn;", "hyper::server::conn"),
        ("main.rs", "use axum::Router;", "axum::Router"),
        ("lib.rs", "fn f(c: char) -> bool { c == '\"' } use sqlx::Pool;", "sqlx::Pool"),
        ("wire/sse.rs", "#[cfg(test)]\nmod tests;\nuse reqwest::Client;", "reqwest::Client"),
        ("attic/mod.rs", "", "on no floor"),
    ];
    for (file, text, what) in wrong {
        let seen = breaches(file, text);
        assert!(seen.iter().any(|breach| breach.contains(what)), "{file}: {text}: {seen:?}");
    }
    let right = [
        ("domain/event.rs", "use super::ids; // crate::wire\n/* crate::http */ const S: &str = \"crate::store::X\";"),
        ("store/turns.rs", "use crate::domain::ids; use super::pool; const S: &str = r#\"crate::http::\"#;"),
        ("turn/run.rs", "fn f(life: &crate::lifecycle::Lifecycle) { life.spawn(\"x\", async {}) }"),
        ("http/mod.rs", "use crate::turn::Log; use self::turns::x; fn f<'a>(x: &'a str) { axum::serve(x) }"),
        ("main.rs", "use tidegate::http; use tidegate::config::Config;"),
        ("lifecycle.rs", "fn f() { tokio::spawn(x) }"),
        ("http/tests/answers.rs", "use reqwest::Client;"),
        ("wire/sse.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use reqwest::Client;\n}"),
    ];
    for (file, text) in right {
        assert_eq!(breaches(file, text), BTreeSet::new(), "{file}: {text}");
    }
}
