//! The chat page at `/`, as a person uses it.

use fantoccini::Locator;
use fantoccini::key::Key;
use serde_json::{Value, json};

use crate::support::{Browser, Client, Gate, Proxy, Scene, Script, assert_stamps, eventually};

/// The text of the newest answer.
const ANSWER: &str = "return [...document.querySelectorAll('article.bot .text')].at(-1)?.textContent";
/// Whether it has ended.
const ENDED: &str = "const all = [...document.querySelectorAll('article.bot')];
    return all.length > 0 && all.every((answer) => !answer.classList.contains('running'))";
/// The text of the newest answer, its beginning at least.
const BEGUN: &str =
    "return ([...document.querySelectorAll('article.bot .text')].at(-1)?.textContent ?? '').length > 20";

async fn open(browser: &Browser, url: &str) {
    browser.page.goto(url).await.unwrap();
    browser.until("the page's script", "return localStorage.getItem('tidegate.session') !== null").await;
}

async fn ask(browser: &Browser, question: &str) {
    let field = browser.page.find(Locator::Id("message")).await.unwrap();
    field.send_keys(question).await.unwrap();
    field.send_keys(&String::from(char::from(Key::Enter))).await.unwrap();
}

/// The messages of the page's session, as the gateway has them.
async fn history(browser: &Browser, client: &Client) -> Vec<Value> {
    let session = browser.js("return localStorage.getItem('tidegate.session')").await;
    let history = client.get(&format!("/v1/chat/{}/history", session.as_str().unwrap())).await.expect(200);
    history["messages"].as_array().unwrap().clone()
}

/// Fails unless the newest answer on the page is the newest that is saved; gives that.
async fn assert_true(browser: &Browser, client: &Client) -> Value {
    let saved = history(browser, client).await.pop().unwrap();
    assert_eq!(browser.js(ANSWER).await, saved["text"]);
    saved
}

async fn assert_no_complaints(browser: &Browser) {
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

/// A scene whose default model is the built-in one: only that shows steps and sources.
async fn demo() -> Scene {
    let fake = vec!["test-model"];
    Scene::with(|setup| setup.demo().set("upstreams.0.models", fake).set("default_model", "demo")).await
}

#[tokio::test]
async fn it_asks_and_shows_text_steps_sources_and_tables_and_again_after_a_reload() {
    let browser = Browser::start().await;
    let scene = demo().await;
    open(&browser, &scene.gateway.url()).await;
    ask(&browser, "Think, and show me a table.").await;
    browser.until("the answer to end", ENDED).await;
    let saved = assert_true(&browser, &scene.client).await;
    let outline = "return {
        asked: [...document.querySelectorAll('article.user')].map((asked) => asked.textContent),
        steps: [...document.querySelectorAll('details li')].length,
        nested: [...document.querySelectorAll('details li li li')].length,
        reasoning: document.querySelector('.reasoning').textContent.length,
        links: [...document.querySelectorAll('.sources a')].map((link) => [link.textContent, link.href]),
        rows: document.querySelectorAll('table tbody tr').length,
        ends: document.querySelectorAll('.end').length,
        stop: document.getElementById('stop').hidden,
    }";
    let shown = browser.js(outline).await;
    let links: Vec<Value> =
        saved["sources"].as_array().unwrap().iter().map(|source| json!([source["title"], source["url"]])).collect();
    assert!(links.len() >= 2);
    assert_eq!(shown["links"], json!(links));
    assert_eq!(shown["asked"], json!(["Think, and show me a table."]));
    assert_eq!((&shown["steps"], &shown["nested"], &shown["rows"]), (&json!(6), &json!(3), &json!(6)));
    assert_eq!((&shown["ends"], &shown["stop"]), (&json!(0), &json!(true)));
    assert_ne!(shown["reasoning"], 0);

    browser.page.refresh().await.unwrap();
    browser.until("the history", ENDED).await;
    assert_eq!(browser.js(outline).await, shown);
    assert_true(&browser, &scene.client).await;
    assert_no_complaints(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn it_goes_on_over_a_dropped_connection_and_a_reload() {
    let browser = Browser::start().await;
    let scene = Scene::new().await;
    let proxy = Proxy::to(scene.gateway.address()).await;
    let [first, second] = [Gate::new(), Gate::new()];
    let script = Script::new().role().stamped(30).gate(&first).stamped(30).gate(&second).stamped(30);
    scene.upstream.push(script.finish("stop").done());
    open(&browser, &format!("http://{}", proxy.address())).await;
    ask(&browser, "go").await;
    browser.until("a third", &format!("{ANSWER}.endsWith('[29]')")).await;
    proxy.cut();
    browser.until("the note", "return document.getElementById('note').textContent.includes('dropped')").await;
    first.open();
    proxy.heal();
    browser.until("two thirds", &format!("{ANSWER}.endsWith('[59]')")).await;
    browser.page.refresh().await.unwrap();
    browser.until("two thirds again", &format!("{ANSWER}?.endsWith('[59]')")).await;
    second.open();
    browser.until("the answer to end", ENDED).await;
    assert_eq!(assert_stamps(browser.js(ANSWER).await.as_str().unwrap()), 90);
    assert_true(&browser, &scene.client).await;
    assert_eq!(scene.upstream.calls().len(), 1);
    assert_no_complaints(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn it_shows_the_saved_end_after_the_gateway_was_killed() {
    let browser = Browser::start().await;
    let mut scene = demo().await;
    open(&browser, &scene.gateway.url()).await;
    ask(&browser, "Slow, please.").await;
    browser.until("the answer to begin", BEGUN).await;
    scene.gateway.kill();
    scene.gateway.restart().await;
    browser.until("the answer to end", ENDED).await;
    let saved = assert_true(&browser, &scene.client).await;
    assert_eq!(saved["status"], "interrupted");
    assert_eq!(browser.js("return document.querySelector('.end').textContent").await, "interrupted");
    // And goes on from there.
    ask(&browser, "And now?").await;
    browser.until("a second answer", "return document.querySelectorAll('article.bot').length === 2").await;
    browser.until("it to end", ENDED).await;
    assert_eq!(assert_true(&browser, &scene.client).await["status"], "completed");
    assert_no_complaints(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn it_stops_and_starts_anew() {
    let browser = Browser::start().await;
    let scene = demo().await;
    open(&browser, &scene.gateway.url()).await;
    ask(&browser, "Slow and long, please.").await;
    browser.until("the answer to begin", BEGUN).await;
    browser.page.find(Locator::Id("stop")).await.unwrap().click().await.unwrap();
    browser.until("the answer to end", ENDED).await;
    let saved = assert_true(&browser, &scene.client).await;
    assert_eq!((&saved["status"], &saved["stopped_by"]), (&json!("stopped"), &json!("request")));

    let session = browser.js("return localStorage.getItem('tidegate.session')").await;
    browser.page.find(Locator::Id("reset")).await.unwrap().click().await.unwrap();
    browser.until("an empty page", "return document.querySelectorAll('article').length === 0").await;
    let path = format!("/v1/chat/{}/history", session.as_str().unwrap());
    eventually("the session to be reset", async || {
        (scene.client.get(&path).await.expect(200)["messages"] == json!([])).then_some(())
    })
    .await;
    assert_no_complaints(&browser).await;
    browser.close().await;
}

/// Markup that says so if it ever runs.
const EVIL: &str = r#"<img src=x onerror="window.ran=1"><script>window.ran=1</script><svg onload="window.ran=1">"#;

#[tokio::test]
async fn nothing_that_is_said_runs() {
    let browser = Browser::start().await;
    let scene = Scene::new().await;
    scene.upstream.push(Script::new().role().reasoning(EVIL).delta(EVIL).delta("]]><b>").finish("stop").done());
    open(&browser, &scene.gateway.url()).await;
    ask(&browser, EVIL).await;
    browser.until("the answer to end", ENDED).await;
    assert_eq!(browser.js(ANSWER).await, format!("{EVIL}]]><b>"));
    assert_harmless(&browser).await;

    // What no upstream of ours says in a source, a step or a table may still stand in a record.
    let quoted = serde_json::to_string(EVIL).unwrap();
    let sources = format!(
        r#"[{{"source_id":"src_1","number":1,"title":{quoted},"url":"javascript:window.ran=1","snippet":{quoted},"score":1}},
            {{"source_id":"src_2","number":2,"title":{quoted},"url":"https://example.com/\"><script>","snippet":"","score":1}}]"#
    );
    let steps = format!(
        r#"[{{"step_id":"step_1","kind":"tool","label":{quoted},"status":"ok","output":{quoted},"duration_ms":1}}]"#
    );
    let tables = format!(
        r#"[{{"visualization_id":"vis_1","kind":"table","title":{quoted},"spec":{{"columns":[{{"key":"a","label":{quoted},
            "type":"string"}}],"rows":[{{"a":{quoted}}}]}}}}]"#
    );
    let sql = format!(
        "update messages set sources = '{sources}', steps = '{steps}', visualizations = '{tables}' \
         where role = 'assistant'"
    );
    scene.database.run(&sql).await;
    browser.page.refresh().await.unwrap();
    browser.until("the history", "return document.querySelectorAll('.sources li').length === 2").await;
    let outline = "return [document.querySelector('.sources').textContent,
        document.querySelector('details li span').textContent.includes('onerror'), document.querySelector('td').textContent]";
    assert_eq!(browser.js(outline).await, json!([format!("{EVIL}{EVIL}"), true, EVIL]));
    assert_harmless(&browser).await;
    assert_no_complaints(&browser).await;
    browser.close().await;
}

/// Nothing ran, nothing of it became an element, and no link leads into the page.
async fn assert_harmless(browser: &Browser) {
    let found = "return { ran: window.ran ?? null,
        elements: document.querySelectorAll('#log img, #log script, #log svg, #log b').length,
        links: [...document.querySelectorAll('#log a')].map((link) => link.protocol).filter((it) => it !== 'https:') }";
    assert_eq!(browser.js(found).await, json!({"ran": null, "elements": 0, "links": []}));
}
