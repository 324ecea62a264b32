//! The chat page, as stories use it.

use fantoccini::Locator;
use fantoccini::key::Key;
use serde_json::Value;

use crate::support::{Browser, Client, Scene, eventually};

/// The text of the newest answer.
pub const ANSWER: &str = "return [...document.querySelectorAll('article.bot .text')].at(-1)?.textContent";
/// Whether all that was asked has been answered.
pub const ENDED: &str = "const all = [...document.querySelectorAll('article.bot')];
    return all.length > 0 && all.length === document.querySelectorAll('article.user').length
        && all.every((answer) => !answer.classList.contains('running'))";
/// The text of the newest answer, its beginning at least.
pub const BEGUN: &str =
    "return ([...document.querySelectorAll('article.bot .text')].at(-1)?.textContent ?? '').length > 20";

pub async fn open(browser: &Browser, url: &str) {
    browser.page.goto(url).await.unwrap();
    browser.until("the page's script", "return document.documentElement.dataset.ready").await;
}

pub async fn ask(browser: &Browser, question: &str) {
    let field = browser.page.find(Locator::Id("message")).await.unwrap();
    field.send_keys(question).await.unwrap();
    field.send_keys(&String::from(char::from(Key::Enter))).await.unwrap();
}

/// The conversation the page shows, as a path.
pub async fn conversation(browser: &Browser) -> String {
    let hash = browser.until("the conversation's address", "return location.hash").await;
    format!("/v1/conversations/{}", &hash.as_str().unwrap()[1..])
}

/// The messages of the page's conversation, as the gateway has them.
pub async fn history(browser: &Browser, client: &Client) -> Vec<Value> {
    let messages = client.get(&format!("{}/messages", conversation(browser).await)).await.expect(200);
    messages["data"].as_array().unwrap().clone()
}

/// Fails unless the newest answer on the page is the newest that is saved; gives that.
pub async fn assert_true(browser: &Browser, client: &Client) -> Value {
    let odd = "const all = [...document.querySelectorAll('article')];
        return all.filter((article, at) => !article.classList.contains(at % 2 ? 'bot' : 'user')
            || article.querySelectorAll('.foot').length > 1 || article.querySelectorAll('.again').length > 1).length";
    assert_eq!(browser.js(odd).await, 0, "questions and answers take turns, with one end each");
    let saved = history(browser, client).await.pop().unwrap();
    browser
        .until(
            "all of it to be shown",
            &format!("{ANSWER}.length === {}", saved["content"].as_str().unwrap().encode_utf16().count()),
        )
        .await;
    assert_eq!(browser.js(ANSWER).await, saved["content"]);
    saved
}

pub async fn assert_no_complaints(browser: &Browser) {
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

/// A scene whose default model is the built-in one: only that shows steps and sources.
pub async fn demo() -> Scene {
    let fake = vec!["test-model"];
    Scene::with(|setup| setup.demo().set("upstreams.0.models", fake).set("default_model", "demo")).await
}

/// Waits until a search finds so many conversations at least: the index is a moment behind.
pub async fn until_found(client: &Client, word: &str, count: usize) {
    let path = format!("/v1/conversations?q={word}");
    let found = async || client.get(&path).await.expect(200)["data"].as_array().map_or(0, Vec::len);
    eventually("the index", async || (found().await >= count).then_some(())).await;
}
