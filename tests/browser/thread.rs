//! The chat page loses nothing of an answer, and asks once: over drops, reloads, other tabs and restarts.

use serde_json::{Value, json};

use crate::chat::{ANSWER, BEGUN, ENDED, ask, assert_no_complaints, assert_true, demo, history, open};
use crate::support::{Browser, Gate, Proxy, Scene, Script, assert_stamps};

/// Whether the first half of an answer stands on the page.
const HALF: &str = "return [...document.querySelectorAll('article.bot .text')].at(-1)?.textContent.endsWith('[19]')";

/// An answer whose second half waits for the gate.
fn halved(scene: &Scene, gate: &Gate) {
    scene.upstream.push(Script::new().role().stamped(20).gate(gate).stamped(20).finish("stop").done());
}

/// Waits for both halves, on the page as in the record.
async fn assert_whole(browser: &Browser, scene: &Scene) {
    browser.until("the answer to end", ENDED).await;
    assert_true(browser, &scene.client).await;
    assert_eq!(assert_stamps(browser.js(ANSWER).await.as_str().unwrap()), 40);
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
    browser.until("the state", "return document.getElementById('state').dataset.state === 'reconnecting'").await;
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
    assert_eq!(browser.js("return document.querySelector('.end').textContent").await, "The answer was interrupted.");
    // And goes on from there.
    ask(&browser, "And now?").await;
    browser.until("a second answer", "return document.querySelectorAll('article.bot').length === 2").await;
    browser.until("it to end", ENDED).await;
    assert_eq!(assert_true(&browser, &scene.client).await["status"], "completed");
    assert_no_complaints(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn seven_tabs_read_one_stream_and_any_of_them_may_go() {
    let browser = Browser::start().await;
    let scene = Scene::new().await;
    let proxy = Proxy::to(scene.gateway.address()).await;
    let [first, second] = [Gate::new(), Gate::new()];
    let script = Script::new().role().stamped(30).gate(&first).stamped(30).gate(&second).stamped(30);
    scene.upstream.push(script.finish("stop").done());
    open(&browser, &format!("http://{}", proxy.address())).await;
    ask(&browser, "go").await;
    browser.until("a third", &format!("{ANSWER}?.endsWith('[29]')")).await;
    let url = browser.page.current_url().await.unwrap();
    let mut tabs = vec![browser.page.window().await.unwrap()];
    for _ in 0..6 {
        let tab = browser.page.new_window(true).await.unwrap().handle;
        browser.page.switch_to_window(tab.clone()).await.unwrap();
        browser.page.goto(url.as_str()).await.unwrap();
        browser.until("a third in another tab", &format!("{ANSWER}?.endsWith('[29]')")).await;
        tabs.push(tab);
    }
    let held = "const done = arguments[0]; navigator.locks.query().then(({ held }) =>
        done(held.filter(({ name }) => name.startsWith('tidegate.stream')).length))";
    assert_eq!(browser.page.execute_async(held, Vec::new()).await.unwrap(), 1);
    first.open();
    browser.until("two thirds", &format!("{ANSWER}.endsWith('[59]')")).await;
    // The tab that reads for all goes.
    browser.page.switch_to_window(tabs[0].clone()).await.unwrap();
    browser.page.close_window().await.unwrap();
    second.open();
    for tab in &tabs[1..] {
        browser.page.switch_to_window(tab.clone()).await.unwrap();
        browser.until("the answer to end", ENDED).await;
        assert_true(&browser, &scene.client).await;
        assert_eq!(assert_stamps(browser.js(ANSWER).await.as_str().unwrap()), 90);
    }
    assert_eq!(scene.upstream.calls().len(), 1);
    browser.close().await;
}

#[tokio::test]
async fn seven_tabs_with_a_conversation_each_all_hear_theirs() {
    let browser = Browser::start().await;
    let scene = Scene::new().await;
    let gate = Gate::new();
    for _ in 0..7 {
        halved(&scene, &gate);
    }
    let mut tabs = vec![browser.page.window().await.unwrap()];
    for tab in 0..7 {
        if tab > 0 {
            tabs.push(browser.page.new_window(true).await.unwrap().handle);
            browser.page.switch_to_window(tabs[tab].clone()).await.unwrap();
        }
        open(&browser, &scene.gateway.url()).await;
        ask(&browser, &format!("question {tab}")).await;
        browser.until("half of the answer", HALF).await;
    }
    gate.open();
    for tab in tabs {
        browser.page.switch_to_window(tab).await.unwrap();
        assert_whole(&browser, &scene).await;
    }
    assert_eq!(scene.upstream.calls().len(), 7);
    browser.close().await;
}

#[tokio::test]
async fn it_goes_on_when_it_is_come_back_to() {
    let browser = Browser::start().await;
    let scene = Scene::new().await;
    let gate = Gate::new();
    halved(&scene, &gate);
    open(&browser, &scene.gateway.url()).await;
    ask(&browser, "go").await;
    browser.until("half of the answer", HALF).await;
    browser.js("addEventListener('pageshow', ({ persisted }) => { window.persisted = persisted; })").await;
    browser.page.goto(&format!("{}/docs/errors", scene.gateway.url())).await.unwrap();
    gate.open();
    browser.page.back().await.unwrap();
    // It was kept as it stood (bfcache), and looks again: not loaded anew.
    browser.until("the page", "return window.persisted").await;
    assert_whole(&browser, &scene).await;
    assert_eq!(scene.upstream.calls().len(), 1);
    assert_no_complaints(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn what_is_asked_without_a_network_is_kept_and_asked_once() {
    let browser = Browser::start().await;
    let scene = Scene::new().await;
    let proxy = Proxy::to(scene.gateway.address()).await;
    for _ in 0..2 {
        scene.upstream.push(Script::new().role().stamped(9).finish("stop").done());
    }
    open(&browser, &format!("http://{}", proxy.address())).await;
    ask(&browser, "first").await;
    browser.until("the answer to end", ENDED).await;
    proxy.cut();
    ask(&browser, "second").await;
    browser.until("the question", "return document.querySelector('article.unsent')").await;
    proxy.heal();
    browser.until("its answer", ENDED).await;
    assert_true(&browser, &scene.client).await;
    let asked = history(&browser, &scene.client).await;
    let asked: Vec<&Value> = asked.iter().map(|message| &message["content"]).step_by(2).collect();
    assert_eq!(json!(asked), json!(["first", "second"]));
    assert_eq!(browser.js("return localStorage.getItem('tidegate.outbox')").await, "[]");
    assert_eq!(scene.upstream.calls().len(), 2);
    browser.close().await;
}

#[tokio::test]
async fn what_was_typed_before_a_reload_is_asked_once_after_it() {
    let browser = Browser::start().await;
    let mut scene = Scene::new().await;
    scene.upstream.push(Script::new().role().stamped(9).finish("stop").done());
    open(&browser, &scene.gateway.url()).await;
    scene.gateway.kill();
    ask(&browser, "go").await;
    browser.until("the question", "return document.querySelector('article.unsent')").await;
    scene.gateway.restart().await;
    browser.page.refresh().await.unwrap();
    browser.until("its answer", ENDED).await;
    assert_true(&browser, &scene.client).await;
    assert_eq!(scene.upstream.calls().len(), 1);
    assert_eq!(browser.js("return document.querySelectorAll('article').length").await, 2);
    browser.close().await;
}

#[tokio::test]
async fn a_tab_that_slept_shows_what_was_said_meanwhile_once() {
    let browser = Browser::start().await;
    let scene = Scene::new().await;
    let gate = Gate::new();
    halved(&scene, &gate);
    open(&browser, &scene.gateway.url()).await;
    ask(&browser, "go").await;
    browser.until("half of the answer", HALF).await;
    let turn = history(&browser, &scene.client).await[1]["turn_id"].as_str().unwrap().to_owned();
    let watch = "window.lived = [];
        for (const name of ['freeze', 'resume']) document.addEventListener(name, () => lived.push(name))";
    browser.js(watch).await;
    browser.freeze().await;
    gate.open();
    scene.client.ended(&turn).await;
    browser.thaw().await;
    assert_whole(&browser, &scene).await;
    assert_eq!(browser.js("return lived").await, json!(["freeze", "resume"]));
    assert_eq!(scene.upstream.calls().len(), 1);
    assert_no_complaints(&browser).await;
    browser.close().await;
}

/// The word for how things stand with the gateway.
const STATE: &str = "return document.getElementById('state').dataset.state";

/// Takes the network away. The browser is told, and what is open breaks, which the browser leaves alone by itself.
async fn lose(browser: &Browser, proxy: &Proxy) {
    browser.network(false).await;
    proxy.cut();
    browser.until("the state", &format!("{STATE} === 'offline'")).await;
}

#[tokio::test]
async fn a_network_that_goes_in_mid_answer_is_told_and_what_was_said_meanwhile_is_caught_up() {
    let browser = Browser::start().await;
    let scene = Scene::new().await;
    let proxy = Proxy::to(scene.gateway.address()).await;
    let gate = Gate::new();
    halved(&scene, &gate);
    scene.upstream.push(Script::new().role().stamped(9).finish("stop").done());
    open(&browser, &format!("http://{}", proxy.address())).await;
    ask(&browser, "first").await;
    browser.until("half of the answer", HALF).await;
    let turn = history(&browser, &scene.client).await[1]["turn_id"].as_str().unwrap().to_owned();
    lose(&browser, &proxy).await;
    gate.open();
    scene.client.ended(&turn).await;
    // What is written while an answer runs, as far as the page knows, waits in its field.
    ask(&browser, "second").await;
    assert_eq!(browser.js("return document.getElementById('message').value").await, "second");
    assert!(browser.js(ANSWER).await.as_str().unwrap().ends_with("[19]"));
    proxy.heal();
    browser.network(true).await;
    assert_whole(&browser, &scene).await;
    browser.until("the state", &format!("{STATE} === 'caught up'")).await;

    // Sent without a network it waits for one, and is asked once.
    lose(&browser, &proxy).await;
    ask(&browser, "").await;
    browser.until("the question", "return document.querySelector('article.unsent')").await;
    proxy.heal();
    browser.network(true).await;
    browser.until("its answer", ENDED).await;
    assert_true(&browser, &scene.client).await;
    let asked = history(&browser, &scene.client).await;
    let asked: Vec<&Value> = asked.iter().map(|message| &message["content"]).step_by(2).collect();
    assert_eq!(json!(asked), json!(["first", "second"]));
    assert_eq!(scene.upstream.calls().len(), 2);
    assert_no_complaints(&browser).await;
    browser.close().await;
}
