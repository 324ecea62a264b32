//! A conversation as a file.

use serde_json::{Value, json};

use crate::support::{Kind, Scene, Script};

#[tokio::test]
async fn a_file_has_every_branch_and_a_page_to_read_the_newest() {
    let scene = Scene::new().await;
    let client = &scene.client;
    let made = client.post("/v1/conversations", &json!({"title": "# *Tides*\n<b> [x](y)"})).await.expect(201);
    let id = made["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/conversations/{id}/export");
    let empty = client.get(&path).await;
    assert_eq!(empty.expect(200), json!({"conversation": made, "messages": []}));
    for answer in ["one", "```\nopen *code*\r\n## You", "three", "two again"] {
        scene.upstream.push(Script::answer(&[answer]));
    }
    client.ask_whole(&id, "q1\r# not a heading").await.expect(200);
    let second = client.ask_whole(&id, "q2").await.expect(200);
    client.ask_whole(&id, "q3").await.expect(200);
    let again = format!("/v1/messages/{}/regenerate", second["id"].as_str().unwrap());
    client.post(&again, &json!({})).await.expect(200);
    let reply = client.get(&format!("{path}?format=json")).await;
    assert_eq!(reply.header("content-disposition"), Some(&*format!("attachment; filename=\"{id}.json\"")));
    let whole = reply.expect(200);
    assert_eq!(whole["messages"], json!(client.messages(&id).await));
    assert_eq!(whole["conversation"], client.get(&format!("/v1/conversations/{id}")).await.expect(200));
    let reply = client.get(&format!("{path}?format=markdown")).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("text/markdown; charset=utf-8"));
    let text = String::from_utf8(reply.bytes).unwrap();
    assert!(text.starts_with("# \\# \\*Tides\\* \\<b\\> \\[x\\]\\(y\\)\n\n`conv_"), "{text}");
    let quoted: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("> ")).collect();
    assert_eq!(quoted, ["q1", "# not a heading", "one", "q2", "two again"], "the newest path: {text}");
    let headings = text.lines().filter(|line| line.starts_with("## ")).count();
    assert_eq!(headings, 4, "nothing that was said is a heading: {text}");
    assert_eq!(client.get(&format!("{path}?format=pdf")).await.expect(422)["field"], "format");
    let unknown = client.get("/v1/conversations/conv_unknown/export").await.expect(404);
    assert_eq!(unknown["code"], "conversation_not_found");
}

#[tokio::test]
async fn a_long_conversation_comes_page_by_page_and_whole() {
    let scene = Scene::new().await;
    let client = &scene.client;
    let id = client.conversation().await;
    client.ask_whole(&id, "first").await.expect(200);
    // 40,000 messages of 1 KB on one path.
    let padded = |n: &str| match scene.database.kind() {
        Kind::Sqlite => format!("'msg_' || substr('00000000' || ({n}), -8)"),
        Kind::Postgres => format!("'msg_' || lpad(({n})::text, 8, '0')"),
    };
    let content = match scene.database.kind() {
        Kind::Sqlite => "cast(printf('%1000s', n) as blob)",
        Kind::Postgres => "cast(lpad(n::text, 1000) as bytea)",
    };
    let (own, parent) = (padded("n"), padded("n - 1"));
    let many = format!(
        "with recursive n (n) as (select 4 union all select n + 1 from n where n < 40000) insert into messages          (id, application_id, owner_id, conversation_id, turn_id, position, parent_id, role, status, seq, content_kind, content,          sources, steps, visualizations, metadata, created_at) select {own}, m.application_id, m.owner_id,          m.conversation_id, m.turn_id, n, case when n = 4 then m.id else {parent} end, 'user', 'completed', 0, 'text',          {content}, '[]', '[]', '[]', '{{}}', m.created_at from n, (select * from messages where role = 'assistant') m"
    );
    scene.database.run(&many).await;
    let before = scene.gateway.memory();
    for (format, needle) in [("json", "\"role\":\"user\""), ("markdown", "\n## User")] {
        let reply = client.get(&format!("/v1/conversations/{id}/export?format={format}")).await;
        assert_eq!(reply.status, 200);
        let text = String::from_utf8(reply.bytes).unwrap();
        assert_eq!(text.matches(needle).count(), 39_998, "{format}");
        if format == "json" {
            let whole: Value = serde_json::from_str(&text).unwrap();
            let mut contents = whole["messages"].as_array().unwrap().iter().skip(2);
            assert!(contents.all(|message| message["content"].as_str().unwrap().len() == 1000));
        }
    }
    let grown = scene.gateway.peak_memory().saturating_sub(before);
    assert!(grown < 24 << 20, "{} MiB for a file of 60 MB", grown >> 20);
}
