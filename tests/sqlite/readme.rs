//! What the README says, held against the program. `TIDEGATE_TEST_UPDATE=1` writes its table anew.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{Database, Frame, Gateway, Request};

/// A page of the repository.
pub fn page(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn readme() -> String {
    page("README.md")
}

/// Fails unless `text` stands in the page between the two marks of `name`; writes it there when it is asked to.
#[track_caller]
pub fn assert_held(file: &str, name: &str, text: &str) {
    let whole = page(file);
    let (before, rest) = whole.split_once(&format!("<!-- {name}: ")).unwrap_or_else(|| panic!("no mark {name}"));
    let (mark, rest) = rest.split_once("-->\n").unwrap();
    let (inside, after) = rest.split_once(&format!("<!-- /{name} -->")).unwrap();
    if std::env::var("TIDEGATE_TEST_UPDATE").is_ok() {
        std::fs::write(path(file), format!("{before}<!-- {name}: {mark}-->\n{text}<!-- /{name} -->{after}")).unwrap();
    } else {
        assert_eq!(inside, text, "`{name}` in {file} has drifted; TIDEGATE_TEST_UPDATE=1 writes it anew");
    }
}

#[test]
fn its_words_for_the_demo_are_the_demos() {
    let source = include_str!("../../src/upstream/demo/mod.rs");
    let lines = source.lines().filter_map(|line| line.strip_prefix("//! |"));
    assert_held("README.md", "demo", &lines.map(|line| format!("|{line}\n")).collect::<String>());
}

/// The rows of the table under the heading, without its head: the first column's name in backticks.
fn names<'a>(readme: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, section) = readme.split_once(heading).unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    rows.take_while(|line| line.starts_with('|')).map(|line| line.split('`').nth(1).unwrap()).collect()
}

#[tokio::test]
async fn its_curl_is_the_one_that_is_printed() {
    let database = Database::fresh().await;
    let gateway = Gateway::on(&database).demo().set("default_model", "demo").start().await;
    let printed = std::fs::read_to_string(gateway.home().join("stdout")).unwrap();
    let curl = printed.lines().nth(1).unwrap();
    assert!(curl.starts_with("curl "), "{printed}");
    let usual = curl.replace(&gateway.address().to_string(), "127.0.0.1:8080");
    assert!(readme().contains(&format!("```sh\n{usual}\n```")), "{usual}");
}

#[tokio::test]
async fn its_events_are_those_that_come() {
    let readme = readme();
    let database = Database::fresh().await;
    let gateway = Gateway::on(&database).demo().set("default_model", "demo").start().await;
    let client = gateway.client();
    let conversation = client.conversation().await;
    let frames = client.ask(&conversation, "Think, and show me a chart.").await.rest().await;
    let told: BTreeSet<&str> = names(&readme, "## Events").into_iter().collect();
    let come: BTreeSet<&str> = frames.iter().map(Frame::kind).collect();
    assert_eq!(told, come);
}

#[tokio::test]
async fn its_routes_are_those_that_are_described() {
    let readme = readme();
    let database = Database::fresh().await;
    let gateway = Gateway::on(&database).demo().set("default_model", "demo").start().await;
    let document = gateway.client().get("/openapi.json").await.expect(200);
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|key| !matches!(key.as_str(), "parameters")) {
            described.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let told: BTreeSet<String> = names(&readme, "## Routes").into_iter().map(str::to_owned).collect();
    // Pages are not described.
    let pages = ["GET /", "GET /client.js", "GET /docs", "GET /events.schema.json"].map(str::to_owned).into();
    assert_eq!(told, &described | &pages);
    for page in ["/", "/client.js", "/docs", "/events.schema.json"] {
        assert_eq!(gateway.client().send(Request::get(page)).await.status, 200, "{page}");
    }
}

#[test]
fn its_settings_for_a_model_are_good() {
    let readme = readme();
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (settings, _) = rest.split_once("```").unwrap();
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("tidegate.toml"), settings).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    check.args(["config", "check", "tidegate.toml"]).env("OPENAI_API_KEY", "sk-1").current_dir(home.path());
    let output = check.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
