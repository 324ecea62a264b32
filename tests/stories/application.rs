//! What a key sees of all of its application, and several of them beside each other.

use serde_json::{Value, json};

use crate::support::access::{BANK, SHOP, claims, seconds_from_now, signed, user};
use crate::support::{Client, Scene, eventually};

async fn make(client: &Client, title: &str) -> String {
    let made = client.post("/v1/conversations", &json!({ "title": title })).await.expect(201);
    made["id"].as_str().unwrap().to_owned()
}

async fn titles(client: &Client, query: &str) -> Vec<String> {
    let list = client.get(&format!("/v1/conversations?{query}")).await.expect(200);
    list["data"].as_array().unwrap().iter().map(|one| one["title"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_key_that_acts_for_nobody_lists_all_of_its_application() {
    let scene = Scene::closed().await;
    let service = scene.bearing(&scene.gateway.key("shop", "service").text);
    let keys = ["read", "admin"].map(|role| scene.bearing(&scene.gateway.key("shop", role).text));
    let (anna, visitor) = (scene.bearing(&user("anna")), scene.bearing(&scene.visitor("wk_shop").await));
    let abroad = scene.bearing(&scene.gateway.key("bank", "service").text);
    // A user may be called like that.
    let namesake = service.with_header("tidegate-user", "service");
    let first = make(&anna, "d").await;
    for (client, title) in [(&service, "b"), (&visitor, "C"), (&namesake, "a"), (&abroad, "z")] {
        make(client, title).await;
    }
    let away = make(&anna, "e").await;
    anna.post(&format!("/v1/conversations/{away}/archive"), &json!({})).await.expect(200);
    anna.post(&format!("/v1/conversations/{first}/pause"), &json!({})).await.expect(200);

    assert_eq!(titles(&service, "").await, ["a", "C", "b", "d"]);
    for key in &keys {
        assert_eq!(titles(key, "sort=title").await, ["a", "b", "C", "d"]);
    }
    assert_eq!(titles(&service, "sort=created&order=asc&include_archived=1").await, ["d", "b", "C", "a", "e"]);
    assert_eq!(titles(&service, "state=paused").await, ["d"]);
    assert_eq!(titles(&service, "user_id=anna").await, ["d"]);
    assert_eq!(titles(&service, "user_id=").await, ["b"], "the application's own");
    assert_eq!(titles(&service, "user_id=service").await, ["a"], "a user of that name");
    assert_eq!(titles(&anna, "").await, ["d"], "others see what is theirs");
    assert_eq!(titles(&namesake, "").await, ["a"]);
    assert_eq!(anna.get("/v1/conversations?user_id=").await.expect(403)["field"], "user_id");
    assert_eq!(titles(&abroad, "").await, ["z"]);

    // Asked in, it comes first.
    service.ask_whole(&first, "hi").await;
    assert_eq!(service.post(&format!("/v1/conversations/{first}/resume"), &json!({})).await.status, 200);
    service.ask_whole(&first, "hi").await.expect(200);
    assert_eq!(titles(&service, "").await, ["d", "a", "C", "b"]);

    // Page by page, in each order, each once.
    for sort in ["activity", "created", "title"] {
        for order in ["asc", "desc"] {
            let query = format!("sort={sort}&order={order}&include_archived=1");
            let (whole, mut paged, mut cursor) = (titles(&service, &query).await, Vec::new(), String::new());
            loop {
                let page = service.get(&format!("/v1/conversations?{query}&limit=2{cursor}")).await.expect(200);
                let data = page["data"].as_array().unwrap();
                paged.extend(data.iter().map(|one| one["title"].as_str().unwrap().to_owned()));
                let Value::String(next) = &page["next_cursor"] else { break };
                cursor = format!("&cursor={next}");
            }
            assert_eq!((paged, whole.len()), (whole, 5), "{query}");
        }
    }

    // Words are looked for in what one owner has: where none is named, in the application's own.
    eventually("its own to be found", async || (titles(&service, "q=b").await == ["b"]).then_some(())).await;
    assert_eq!(titles(&service, "q=b&user_id=").await, ["b"]);
    let none: [&str; 0] = [];
    assert_eq!(titles(&service, "q=d").await, none);
    assert_eq!(titles(&service, "q=b&user_id=anna").await, none);
    eventually("a user's to be found", async || (titles(&service, "q=d&user_id=anna").await == ["d"]).then_some(()))
        .await;
}

#[tokio::test]
async fn of_several_applications_the_one_says_no_that_a_token_is_for() {
    let scene = Scene::closed().await;
    for secret in [SHOP, BANK] {
        let mut claims = claims("anna");
        claims["exp"] = json!(seconds_from_now(-60));
        let problem = scene.bearing(&signed(secret, &claims)).get("/v1/models").await.expect(401);
        assert_eq!(problem["detail"], "The token has expired.");
    }
    // An id need not be ASCII to be acted for.
    let service = scene.bearing(&scene.gateway.key("shop", "service").text);
    let made = service.with_header("tidegate-user", "jürgen").conversation().await;
    scene.bearing(&user("jürgen")).get(&format!("/v1/conversations/{made}")).await.expect(200);
}
