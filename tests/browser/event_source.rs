//! The browser's own `EventSource`: it knows nothing of us but the standard.

use std::time::Duration;

use serde_json::json;

use crate::support::{Browser, Gate, Gateway, Scene, Script, assert_stamps, chance};

/// Opens the source, and keeps in `seen` the fold of what comes by the rule of snapshots.
const FOLLOW: &str = r#"
    window.seen = { text: "", seq: 0, opens: 0, ended: null, faults: [] };
    window.source = new EventSource("/v1/chat/stream?message=go&session_id=tides&key=k-1");
    source.onopen = () => { seen.opens += 1; };
    source.onmessage = ({ data, lastEventId }) => {
        const event = JSON.parse(data);
        if (event.seq === undefined) return;
        if (String(event.seq) !== lastEventId) seen.faults.push(`id ${lastEventId} of ${data}`);
        if (event.type === "snapshot") seen.text = event.message.content;
        else if (event.seq <= seen.seq) seen.faults.push(`after ${seen.seq} comes ${data}`);
        seen.seq = event.seq;
        if (event.type === "delta") seen.text += event.text;
        if (event.type === "turn.finished") seen.ended = event;
    };"#;

/// A page of the gateway's origin with nothing in it.
async fn blank(browser: &Browser, gateway: &Gateway) {
    browser.page.goto(&format!("{}/healthz", gateway.url())).await.unwrap();
}

/// Once the turn has ended the source comes back, is told 204, and gives up.
async fn assert_stopped(browser: &Browser) {
    browser.until("the source to see the end", "return seen.ended !== null").await;
    browser.until("the source to stop", "return source.readyState === EventSource.CLOSED").await;
    assert_eq!(browser.js("return seen.faults").await, json!([]));
}

#[tokio::test]
async fn it_goes_on_over_a_gateway_that_was_killed() {
    let mut rng = chance();
    let browser = Browser::start().await;
    let mut scene = Scene::new().await;
    scene.upstream.push(Script::new().role().paced(100_000, Duration::from_millis(2)));
    blank(&browser, &scene.gateway).await;
    browser.js(FOLLOW).await;
    let far = rng.usize(200..2000);
    browser.until("the answer to come", &format!("return seen.text.length > {far}")).await;
    scene.gateway.kill();
    scene.gateway.restart().await;
    assert_stopped(&browser).await;

    let shown = browser.js("return seen.text").await;
    let turn = scene.client.get("/v1/chat/tides/history").await.expect(200)["messages"][1].clone();
    assert_eq!(turn["text"], shown);
    assert_eq!((&turn["status"], &turn["seq"]), (&json!("interrupted"), &browser.js("return seen.seq").await));
    assert!(assert_stamps(shown.as_str().unwrap()) > 0);
    assert_eq!(browser.js("return seen.ended.saved").await, true);
    assert_eq!(scene.upstream.calls().len(), 1);
    browser.close().await;
}

#[tokio::test]
async fn it_goes_on_over_a_gateway_that_was_told_to_stop_and_tells_a_saved_end() {
    let browser = Browser::start().await;
    let mut scene = Scene::with(|setup| setup.set("limits.grace_s", 0)).await;
    scene.upstream.push(Script::new().role().stamped(50).hang());
    blank(&browser, &scene.gateway).await;
    browser.js(FOLLOW).await;
    browser.until("the answer to come", "return seen.text.endsWith('[49]')").await;
    scene.gateway.terminate();
    assert_eq!(scene.gateway.exit().await.code(), Some(0));
    scene.gateway.restart().await;
    assert_stopped(&browser).await;
    assert_eq!(assert_stamps(browser.js("return seen.text").await.as_str().unwrap()), 50);
    assert_eq!(browser.js("return [seen.ended.status, seen.ended.saved]").await, json!(["interrupted", true]));
    assert_eq!(scene.upstream.calls().len(), 1);
    browser.close().await;
}

/// A snippet of a page of the docs.
fn snippet(page: &str, name: &str) -> String {
    let text = std::fs::read_to_string(format!("{}/{page}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (_, rest) = text.split_once(&format!("<!-- tested: {name} -->\n```js\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[tokio::test]
async fn the_snippets_of_its_own_page_ask_resume_and_give_up() {
    let snippet = |name: &str| snippet("docs/event-source.md", name);
    let browser = Browser::start().await;
    let scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.push(Script::new().role().delta("It ").gate(&gate).delta("rains.").finish("stop").done());
    blank(&browser, &scene.gateway).await;

    // The first asks, the second takes the turn up where the record has it, as a page does that was reloaded.
    browser.js(&format!("{}; Object.assign(window, {{ shown, source }});", snippet("ask"))).await;
    browser.until("the beginning", "return shown.text === 'It '").await;
    let history = scene.client.get("/v1/chat/my-page/history").await.expect(200);
    let turn = history["messages"][1]["turn_id"].as_str().unwrap().to_owned();
    let resume = format!(
        "const resume = async (turnId) => {{ {}; window.resumed = {{ shown, source }}; }}; resume('{turn}');",
        snippet("resume")
    );
    browser.js(&resume).await;
    browser.until("the beginning again", "return window.resumed?.shown.text === 'It '").await;
    gate.open();
    for page in ["window", "resumed"] {
        browser.until("the end", &format!("return {page}.shown.status === 'completed'")).await;
        let seen = format!("return [{page}.shown.text, {page}.shown.refused, {page}.source.readyState]");
        assert_eq!(browser.js(&seen).await, json!(["It rains.", false, 2]));
    }
    // What has ended has no more events: the source is told so, and the text is all there.
    browser.js(&resume.replace("window.resumed", "window.late")).await;
    browser.until("no more events", "return window.late?.source.readyState === EventSource.CLOSED").await;
    assert_eq!(browser.js("return [late.shown.text, late.shown.status]").await, json!(["It rains.", "completed"]));

    // By name; and what is refused is refused for good.
    scene.upstream.push(Script::answer(&["It ", "snows."]));
    browser.js(&format!("const query = 'message=now&key=k-2'; window.text = ''; {}", snippet("named"))).await;
    browser.until("the end", "return document.title === 'completed'").await;
    assert_eq!(browser.js("return window.text").await, "It snows.");
    let refused = snippet("ask").replace("message: \"Hello!\"", "message: \"\"");
    browser.js(&format!("{refused}; Object.assign(window, {{ shown, source }});")).await;
    browser.until("the refusal", "return shown.refused").await;
    let why = format!("const why = async () => {{ {}; window.why = problem.field; }}; why();", snippet("why"));
    browser.js(&why.replace("${query}", "message=&key=k-3")).await;
    assert_eq!(browser.until("the reason", "return window.why").await, "message");
    assert_eq!(scene.upstream.calls().len(), 2);
    browser.close().await;
}

#[tokio::test]
async fn the_readmes_snippets_do_what_they_say() {
    let snippet = |name: &str| snippet("README.md", name);
    let browser = Browser::start().await;
    let scene = Scene::new().await;
    scene.upstream.always(Script::answer(&["It ", "rains."]));

    blank(&browser, &scene.gateway).await;
    browser.js(&format!("{}; window.source = source;", snippet("EventSource"))).await;
    browser.until("the answer to be shown", "return document.title === 'It rains.'").await;
    browser.until("the source to be closed", "return source.readyState === EventSource.CLOSED").await;

    let fetching = snippet("fetch").replace("http://127.0.0.1:8080", &scene.gateway.url());
    let script = format!(
        "window.came = []; window.done = false;
         const read = async () => {{ const console = {{ log: (event) => came.push(event) }}; {fetching} }};
         read().then(() => {{ done = true; }}, (error) => {{ done = String(error); }});"
    );
    browser.js(&script).await;
    assert_eq!(browser.until("the answer to be read", "return done").await, true);
    let said = browser.js("return came.map((event) => event.text ?? '').join('')").await;
    assert_eq!(said, "It rains.");
    assert_eq!(browser.js("return came.at(-1).type").await, "turn.finished");

    let asking =
        format!("const read = async () => {{ {}; window.told = message.content; }}; read();", snippet("client"));
    browser.js(&format!("document.title = ''; {asking}")).await;
    assert_eq!(browser.until("the message", "return window.told").await, "It rains.");
    assert_eq!(browser.js("return document.title").await, "It rains.");
    browser.close().await;
}
