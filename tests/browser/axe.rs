//! axe-core looks at the chat page as it is in use. `scripts/test` installs it.

use fantoccini::Locator;
use serde_json::{Value, json};

use crate::chat::{BEGUN, ENDED, ask, assert_no_complaints, demo, open, until_found};
use crate::support::{Browser, Script};

const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/axe/axe_playwright_python/axe.min.js");
/// What is told of a violation; lesser ones are left to axe's own tools.
const FOUND: &str = "const done = arguments[0];
    axe.run(document, { resultTypes: ['violations'] }).then(({ passes, violations }) => done({
        passes: passes.length,
        violations: violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
            .flatMap(({ id, impact, nodes }) => nodes.map(({ target, failureSummary }) =>
                `${impact} ${id}: ${target.join(' ')}: ${failureSummary.replaceAll('\\n', ' ')}`)),
    }), (error) => done(String(error)))";

/// Fails with the list of what is wrong on the page now, in either theme.
async fn assert_accessible(browser: &Browser, what: &str) {
    for scheme in ["light", "dark"] {
        browser.prefer(scheme).await;
        let preferred = format!("return matchMedia('(prefers-color-scheme: {scheme})').matches");
        assert_eq!(browser.js(&preferred).await, true);
        let found = browser.page.execute_async(FOUND, Vec::new()).await.unwrap();
        assert!(found["passes"].as_u64().is_some_and(|passes| passes > 5), "axe looked at {what}: {found}");
        let wrong: Vec<&str> = found["violations"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(wrong.is_empty(), "{what}, {scheme}:\n{}", wrong.join("\n"));
    }
}

/// Uses the page at that width, and looks at each thing it shows.
async fn assert_accessible_at(width: u32) {
    let axe = std::fs::read_to_string(AXE).expect("axe-core is installed: run scripts/test, which installs it");
    let browser = Browser::start().await;
    let scene = demo().await;
    for title in ["Spring tides", "Neap tides", "Moons"] {
        scene.client.post("/v1/conversations", &json!({"title": title})).await.expect(201);
    }
    browser.resize(width, 800).await;
    open(&browser, &scene.gateway.url()).await;
    assert_eq!(browser.js("return innerWidth").await, width);
    // The page's policy lets no script in; this is one of the driver's.
    browser.js(&axe).await;
    assert_accessible(&browser, "an empty page").await;

    ask(&browser, "Slow and long, please: think.").await;
    browser.until("the answer to begin", BEGUN).await;
    browser.until("its sources", "return document.querySelectorAll('.sources a').length > 1").await;
    browser.js("document.querySelectorAll('details').forEach((box) => { box.open = true; })").await;
    assert_accessible(&browser, "an answer in mid-stream, its steps open").await;
    assert_eq!(browser.js("return document.querySelectorAll('article.running').length").await, 1);
    browser.page.find(Locator::Id("stop")).await.unwrap().click().await.unwrap();
    browser.until("the answer to end", ENDED).await;

    ask(&browser, "fail").await;
    browser.until("the question", "return document.querySelectorAll('article.user').length === 2").await;
    browser.until("its end", ENDED).await;
    assert_accessible(&browser, "an answer that failed").await;

    ask(&browser, "Show me a chart and a table.").await;
    browser.until("the question", "return document.querySelectorAll('article.user').length === 3").await;
    browser.until("its end", ENDED).await;
    browser.js("document.querySelectorAll('details').forEach((box) => { box.open = true; })").await;
    assert_accessible(&browser, "a chart").await;

    let fake = json!({"title": "Code", "config": {"model": "test-model"}});
    let code = scene.client.post("/v1/conversations", &fake).await.expect(201)["id"].as_str().unwrap().to_owned();
    let line = "let tide = gate.open(); ".repeat(20);
    scene.upstream.push(Script::answer(&["So:\n```rust\n", &line, "\n```\nThat is all."]));
    browser.page.goto(&format!("{}/#{code}", scene.gateway.url())).await.unwrap();
    browser.until("an empty page", "return document.querySelectorAll('article').length === 0").await;
    ask(&browser, "go").await;
    browser.until("its answer", ENDED).await;
    browser.until("its code", "return document.querySelector('pre.block')?.scrollWidth > 1280").await;
    assert_accessible(&browser, "a wide piece of code").await;

    let menu = browser.page.find(Locator::Id("menu")).await.unwrap();
    if menu.is_displayed().await.unwrap() {
        menu.click().await.unwrap();
    }
    until_found(&scene.client, "tides", 2).await;
    let search = browser.page.find(Locator::Id("search")).await.unwrap();
    search.send_keys("tides").await.unwrap();
    browser.until("what was found", "return document.querySelectorAll('.items mark').length >= 2").await;
    assert_accessible(&browser, "the list, searched").await;
    browser.page.find(Locator::Css("[aria-label=\"Delete: Neap tides\"]")).await.unwrap().click().await.unwrap();
    assert_accessible(&browser, "a question before something is deleted").await;
    assert_no_complaints(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn a_wide_page_has_nothing_that_shuts_anybody_out() {
    assert_accessible_at(1280).await;
}

#[tokio::test]
async fn a_narrow_page_has_nothing_that_shuts_anybody_out() {
    assert_accessible_at(360).await;
}
