//! What lies in `examples/` does what it is there for, over a connection that is cut in mid-answer. `scripts/test` installs
//! what runs it.
#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use fantoccini::Locator;
use serde_json::json;
use support::{Browser, Certificate, Foreign, Gate, Kind, Proxy, Scene, Script, Setup, eventually};

/// The kind of every fresh database here.
const DATABASE: Kind = Kind::Sqlite;
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

/// A web server of another origin, with the examples.
async fn site() -> (Foreign, String) {
    let serving = |address: SocketAddr| {
        let mut command = Command::new("python3");
        command.args([
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            "--directory",
            EXAMPLES,
            &address.port().to_string(),
        ]);
        command.stderr(Stdio::null());
        command
    };
    let (server, address) = Foreign::serve(serving).await;
    (server, format!("http://{address}"))
}

#[tokio::test]
async fn pages_of_another_origin_show_an_answer_over_a_cut() {
    let browser = Browser::start().await;
    let (_site, origin) = site().await;
    let scene = Scene::with(|setup| setup.set("cors.allowed_origins", vec![origin.clone()])).await;
    for page in ["event-source.html", "fetch.html", "client.html"] {
        let proxy = Proxy::to(scene.gateway.address()).await;
        let gate = Gate::new();
        scene.upstream.push(Script::new().role().delta("It ").gate(&gate).delta("rains.").finish("stop").done());
        let calls = scene.upstream.calls().len();
        browser.page.goto(&format!("{origin}/{page}?gateway=http://{}", proxy.address())).await.unwrap();
        browser.page.find(Locator::Id("ask")).await.unwrap().click().await.unwrap();
        let shown = "document.getElementById('answer').textContent";
        browser.until(page, &format!("return {shown} === 'It '")).await;
        proxy.cut();
        gate.open();
        proxy.heal();
        browser.until(page, "return document.getElementById('answer').dataset.status === 'completed'").await;
        assert_eq!(browser.js(&format!("return {shown}")).await, "It rains.", "{page}");
        assert_eq!(scene.upstream.calls().len(), calls + 1, "{page}");
        assert_eq!(browser.complaints().await, Vec::<String>::new(), "{page}");
    }
    browser.close().await;
}

#[tokio::test]
async fn programs_print_an_answer_over_a_cut() {
    let scene = Scene::new().await;
    for (program, example) in [("python3", "chat.py"), ("node", "chat.mjs"), ("bash", "chat.sh")] {
        let proxy = Proxy::to(scene.gateway.address()).await;
        let gate = Gate::new();
        scene.upstream.push(Script::new().role().delta("It ").gate(&gate).delta("rains.").finish("stop").done());
        let calls = scene.upstream.calls().len();
        let url = format!("http://{}", proxy.address());
        let run = |question: &str| {
            let mut command = Command::new(program);
            command.arg(format!("{EXAMPLES}/{example}")).args([question, &url]);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let child = run("What is the weather?");
        // What was said before the cut has reached it once the record has it: it reads on while it is cut off.
        scene.upstream.call(calls).await;
        eventually("the beginning to be said", async || {
            let said = scene.client.get("/v1/chat/example/history").await.json();
            (said["messages"].as_array()?.last()?["text"] == "It ").then_some(())
        })
        .await;
        proxy.cut();
        gate.open();
        proxy.heal();
        let (success, out, err) = ended(child).await;
        assert_eq!((success, out.as_str()), (true, "It rains.\n"), "{example}: {err}");
        assert_eq!(scene.upstream.calls().len(), calls + 1, "{example}");
        let (success, _, err) = ended(run("")).await;
        assert!(!success && err.contains("must not be empty"), "{example}: {err}");
    }
    let history = scene.client.get("/v1/chat/example/history").await.json();
    assert_eq!(history["messages"].as_array().unwrap().len(), 6, "{}", json!(history));
}

/// Whether it succeeded, and what it wrote.
async fn ended(mut child: Child) -> (bool, String, String) {
    eventually("an example to end", async || child.try_wait().unwrap()).await;
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[tokio::test]
async fn what_is_printed_under_tls_works_when_pasted() {
    let certificate = Certificate::fresh();
    let set = |setup: Setup| setup.set("upstreams.0.models", vec!["test-*"]).demo().set("default_model", "demo");
    let scene = Scene::with(|setup| set(setup).tls(&certificate)).await;
    let printed = std::fs::read_to_string(scene.gateway.home().join("stdout")).unwrap();
    let curl = printed.lines().nth(1).unwrap();
    assert!(curl.starts_with("curl ") && curl.contains(&format!(" {}/v1/", scene.gateway.url())), "{printed}");
    let output = Command::new("sh").args(["-c", curl]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let last = said.lines().last().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert!(last.contains("\"completed\""), "{said}");
}
