//! The chat page where callers must say who they are.

use fantoccini::Locator;
use serde_json::json;

use crate::chat::{ENDED, ask, assert_true, open};
use crate::support::access::user;
use crate::support::{Browser, Request, Scene};

const ASKED: &str = "return !document.getElementById('session').hidden";
const TITLES: &str = "return [...document.querySelectorAll('.items a')].map((link) => link.textContent)";

async fn enter(browser: &Browser, token: &str) {
    let field = browser.page.find(Locator::Id("token")).await.unwrap();
    field.clear().await.unwrap();
    field.send_keys(token).await.unwrap();
    browser.page.find(Locator::Id("enter")).await.unwrap().click().await.unwrap();
}

#[tokio::test]
async fn it_signs_in_with_a_token_and_out_again() {
    let browser = Browser::start().await;
    let fake = vec!["test-model"];
    let setup =
        |setup: crate::support::Setup| setup.demo().set("upstreams.0.models", fake).set("default_model", "demo");
    let scene = Scene::with(|it| setup(it).closed()).await;
    open(&browser, &scene.gateway.url()).await;
    browser.until("the question for a token", ASKED).await;
    assert_eq!(browser.js("return document.getElementById('ask').hidden").await, true);
    enter(&browser, "nonsense").await;
    browser.until("the refusal", "return document.querySelector('#session [role=alert]').textContent").await;

    let (anna, bert) = (user("anna"), user("bert"));
    enter(&browser, &anna).await;
    browser
        .until(
            "the page of one who is known",
            "return document.getElementById('session').hidden && !document.getElementById('out').hidden",
        )
        .await;
    browser.until("the page's script", "return document.documentElement.dataset.ready").await;
    ask(&browser, "Hello!").await;
    browser.until("the answer to end", ENDED).await;
    assert_true(&browser, &scene.bearing(&anna)).await;
    let secret = "return [document.cookie, ...Object.values(localStorage), ...Object.values(sessionStorage)].join()";
    assert!(!browser.js(secret).await.to_string().contains(&anna), "no script holds the token");
    browser.page.refresh().await.unwrap();
    browser.until("the history", ENDED).await;

    // Signed out, nothing is shown; whoever comes next sees their own.
    browser.page.find(Locator::Id("out")).await.unwrap().click().await.unwrap();
    browser.until("the question for a token", ASKED).await;
    assert_eq!(browser.js(TITLES).await, json!([]));
    enter(&browser, &bert).await;
    browser
        .until(
            "the page of the next",
            "return !document.getElementById('out').hidden && document.querySelector('.none')",
        )
        .await;
    assert_eq!(browser.js(TITLES).await, json!([]));

    // Let in no more, the page says so by itself.
    ask(&browser, "Slow and long, please.").await;
    browser.until("the answer to begin", "return document.querySelector('article.bot .text')").await;
    let admin = scene.bearing(&scene.gateway.key("shop", "admin").text);
    let change = Request::post("/v1/users/bert", &json!({"active": false}));
    admin.send(Request { method: "PATCH".to_owned(), ..change }).await.expect(200);
    browser.until("the question for a token again", ASKED).await;
    browser.close().await;
}
