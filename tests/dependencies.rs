//! What the program is made of: licences that may be passed on with it, and no library twice but those that are known.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Licences that ask for no more than to be named (SPDX).
const LICENCES: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

/// Libraries of which the program has several majors, because two of its dependencies do not agree: sqlx, axum and aws-lc-rs lag
/// behind, and proc macros are moving to syn 3. One more is a reason to look.
const SEVERAL: [&str; 14] = [
    "base64",
    "block-buffer",
    "cpufeatures",
    "crypto-common",
    "digest",
    "getrandom",
    "hashbrown",
    "r-efi",
    "rand",
    "rand_core",
    "sha2",
    "syn",
    "untrusted",
    "windows-sys",
];

/// The packages that go into the program, without those of tests.
fn packages() -> Vec<Value> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--locked"]);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let nodes: BTreeMap<String, Value> =
        list(&metadata["resolve"]["nodes"]).into_iter().map(|node| (text(&node["id"]), node)).collect();
    let (mut open, mut seen) = (vec![text(&metadata["resolve"]["root"])], BTreeSet::new());
    while let Some(id) = open.pop() {
        if seen.insert(id.clone()) {
            let goes_in = |dependency: &Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            let further = list(&nodes[&id]["deps"]).into_iter().filter(goes_in);
            open.extend(further.map(|dependency| text(&dependency["pkg"])));
        }
    }
    list(&metadata["packages"]).into_iter().filter(|package| seen.contains(&text(&package["id"]))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Whether an expression (SPDX 2.3, annex D) can be met by licences of the list: each part of an `AND`, one of an `OR`. No
/// package here nests more than one pair of brackets.
fn may_be_passed_on(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let mut parts = Vec::new();
    let (mut depth, mut from) = (0, 0);
    for (at, letter) in expression.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 && expression[at..].starts_with(" AND ") {
            parts.push(&expression[from..at]);
            from = at + 5;
        }
    }
    parts.push(&expression[from..]);
    let one = |licence: &str| LICENCES.contains(&licence.split(" WITH ").next().unwrap_or_default().trim());
    parts.iter().all(|part| part.trim().trim_matches(['(', ')']).split(" OR ").any(one))
}

#[test]
fn every_licence_may_be_passed_on() {
    for (expression, may) in [
        ("MIT/Apache-2.0", true),
        ("ISC AND (Apache-2.0 OR GPL-3.0)", true),
        ("MIT AND (GPL-3.0 OR AGPL-3.0)", false),
        ("GPL-3.0 OR MIT", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("SSPL-1.0", false),
    ] {
        assert_eq!(may_be_passed_on(expression), may, "{expression}");
    }
    let packages = packages();
    assert!(packages.len() > 200, "{} packages", packages.len());
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(may_be_passed_on(licence), "{}: {licence}", package["name"]);
    }
}

#[test]
fn no_library_is_there_twice_but_those_that_are_known() {
    let mut majors = BTreeMap::<String, BTreeSet<String>>::new();
    for package in packages() {
        let version = text(&package["version"]);
        let mut parts = version.split('.');
        let (major, minor) = (parts.next().unwrap(), parts.next().unwrap());
        let major = if major == "0" { format!("0.{minor}") } else { major.to_owned() };
        majors.entry(text(&package["name"])).or_default().insert(major);
    }
    let several: Vec<_> = majors.iter().filter(|(_, majors)| majors.len() > 1).map(|(name, _)| name.as_str()).collect();
    assert_eq!(several, SEVERAL, "{majors:?}");
}
