//! An application keeps what was said for as long as it says.

use serde_json::{Value, json};

use crate::support::access::{BANK, claims, signed, user};
use crate::support::{Client, Database, Gateway, Kind, Script, Setup, Upstream, eventually};

/// Microseconds since the Unix epoch, so many days ago.
fn days_ago(days: i64) -> i64 {
    (crate::support::access::seconds_from_now(0) - days * 86_400) * 1_000_000
}

async fn status(client: &Client, conversation: &str) -> u16 {
    client.get(&format!("/v1/conversations/{conversation}")).await.status
}

#[tokio::test]
async fn what_is_past_its_days_goes_once_and_nothing_else() {
    let (database, upstream) = (Database::fresh().await, Upstream::start().await);
    upstream.always(Script::answer(&["yes"]));
    upstream.when("endless", Script::new().stamped(2).hang());
    // Its sweep looks every second.
    let setup = |url: &str| {
        Gateway::at(url).upstream(&upstream).closed().set("stream.retention_s", 1).set("cluster.lease_s", 5)
    };
    let kept = |setup: Setup| setup.set("applications.0.retention_days", 30);
    let gateway = setup(&database.url()).start().await;
    let replicas = match database.kind() {
        Kind::Sqlite => Vec::new(),
        // Two of them look at once.
        Kind::Postgres => {
            let pepper = std::fs::read(gateway.home().join("pepper")).unwrap();
            let path = gateway.home().join("pepper-of-both");
            std::fs::write(&path, pepper).unwrap();
            vec![setup(&database.url()).set("auth.pepper_file", path.to_str().unwrap()).start().await]
        }
    };
    let client = gateway.client();
    let (anna, service) = (client.bearing(&user("anna")), client.bearing(&gateway.key("shop", "service").text));
    let admin = client.bearing(&gateway.key("shop", "admin").text);
    let abroad = client.bearing(&signed(BANK, &claims("anna")));
    let mut old = Vec::new();
    for client in [&anna, &service, &anna, &service] {
        let conversation = client.conversation().await;
        client.ask_whole(&conversation, "hi").await.expect(200);
        old.push(conversation);
    }
    let fresh = anna.conversation().await;
    let resumed = anna.conversation().await;
    let live = anna.conversation().await;
    let mut stream = anna.ask(&live, "endless").await;
    while stream.event().await.kind() != "delta" {}
    let others = abroad.conversation().await;
    let calls = async || admin.get("/v1/usage").await.expect(200)["totals"]["calls"].clone();
    let used = calls().await;

    let (long, lately) = (days_ago(31), days_ago(29));
    database.run(&format!("update conversations set last_message_at = {long} where id <> '{fresh}'")).await;
    database.run(&format!("update conversations set last_message_at = {lately} where id = '{fresh}'")).await;
    database.run(&format!("update conversations set resumed_at = {lately} where id = '{resumed}'")).await;
    for (id, application, at) in [("aud_1", "shop", 366), ("aud_2", "shop", 364), ("aud_3", "bank", 3660)] {
        let row = format!(
            "insert into audit (id, application_id, at, actor_kind, action, result, times) \
             values ('{id}', '{application}', {}, 'system', 'key.create', 'ok', 1)",
            days_ago(at)
        );
        database.run(&row).await;
    }
    assert_eq!(status(&anna, &old[0]).await, 200, "nothing goes where nobody said so");
    for replica in &replicas {
        let path = gateway.home().join("pepper-of-both");
        let line = replica.reload(kept(setup(&database.url())).set("auth.pepper_file", path.to_str().unwrap())).await;
        assert!(line.contains("applications"), "{line}");
    }
    gateway.reload(kept(setup(&database.url()))).await;
    for conversation in &old {
        eventually("what is old to go", async || (status(&service, conversation).await == 404).then_some(())).await;
    }
    let rows = async |filter: &str| {
        let list = admin.get(&format!("/v1/audit?limit=100&{filter}")).await.expect(200);
        list["data"].as_array().unwrap().clone()
    };
    let deeds = rows("action=conversation.delete").await;
    let mut told: Vec<&Value> = deeds.iter().map(|row| &row["object"]["id"]).collect();
    told.sort_by_key(|id| id.to_string());
    let mut gone: Vec<Value> = old.iter().map(|id| json!(id)).collect();
    gone.sort_by_key(Value::to_string);
    assert_eq!(told, gone.iter().collect::<Vec<_>>(), "each once");
    assert!(deeds.iter().all(|row| row["actor"] == json!({"kind": "system"})));
    eventually("old rows of the log to go", async || {
        let left = database.texts("select id from audit where id in ('aud_1', 'aud_2', 'aud_3') order by id").await;
        (left == ["aud_2", "aud_3"]).then_some(())
    })
    .await;
    assert_eq!(database.numbers("select count(*) from audit_permits").await, [0]);
    for conversation in [&fresh, &resumed, &live] {
        assert_eq!(status(&anna, conversation).await, 200);
    }
    assert_eq!(status(&abroad, &others).await, 200, "another application keeps its own for ever");
    assert_eq!(calls().await, used, "what was used stays counted");
    assert!(
        database
            .texts("select id from messages where conversation_id not in (select id from conversations)")
            .await
            .is_empty()
    );
}
