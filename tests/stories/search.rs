//! Finding conversations: by their words, their states, in every order, page by page.

use serde_json::{Value, json};
use tidegate::domain::conversation::Silence;
use tidegate::domain::ids::ConversationId;
use tidegate::domain::words::Sought;
use tidegate::store::conversations::Erasure;
use tidegate::store::indexing::{Item, mark};
use tidegate::store::listing::{Filter, Sort};

use crate::support::house::{House, at, stranger};
use crate::support::{Client, Database, Gateway, Kind, Request, Scene, Script, Upstream, eventually};

const CONVERSATIONS: &str = "/v1/conversations";

async fn make(client: &Client, body: &Value) -> String {
    client.post(CONVERSATIONS, body).await.expect(201)["id"].as_str().unwrap().to_owned()
}

async fn act(client: &Client, method: &str, id: &str, what: &str) {
    let reply =
        client.send(Request { method: method.into(), ..Request::get(&format!("{CONVERSATIONS}/{id}{what}")) }).await;
    assert!(reply.status < 300, "{method} {what}: {}", reply.status);
}

/// All entries of all pages of a list.
async fn entries(client: &Client, query: &str) -> Vec<Value> {
    let (mut entries, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("{CONVERSATIONS}?{query}{cursor}")).await.expect(200);
        entries.extend(page["data"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return entries,
        }
    }
}

async fn titles(client: &Client, query: &str) -> String {
    let title = |entry: &Value| entry["title"].as_str().unwrap().to_owned();
    entries(client, query).await.iter().map(title).collect::<Vec<_>>().join(", ")
}

/// Waits until the index knows so much.
async fn until(client: &Client, query: &str, wanted: &str) {
    eventually(&format!("{query} to find {wanted}"), async || (titles(client, query).await == wanted).then_some(()))
        .await;
}

/// The pieces of a text, those that match in brackets.
fn pieces(text: &Value) -> String {
    let piece = |piece: &Value| match piece["matched"].as_bool().unwrap() {
        true => format!("[{}]", piece["text"].as_str().unwrap()),
        false => piece["text"].as_str().unwrap().to_owned(),
    };
    text.as_array().unwrap().iter().map(piece).collect()
}

#[tokio::test]
async fn words_of_titles_and_messages_are_found_and_marked() {
    let scene = Scene::new().await;
    let client = &scene.client;
    for title in ["Über Gezeiten", "TIDES 100%", "tides_and\u{0}moons", "Zürich 東京"] {
        make(client, &json!({ "title": title })).await;
    }
    scene.upstream.push(Script::answer(&["A tide gate shuts ", "by itself: \"never\" <b>mind</b>."]));
    let id = make(client, &json!({"title": "Sluices", "first_message": "How do they work?"})).await;
    until(client, "q=sluices", "Sluices").await;
    until(client, "q=itself", "Sluices").await;
    for (query, found) in [
        ("q=tides", "tides_and\u{0}moons, TIDES 100%"),
        ("q=tides&limit=1", "tides_and\u{0}moons, TIDES 100%"),
        ("q=TID", "Sluices, tides_and\u{0}moons, TIDES 100%"),
        ("q=tid+", "Sluices, tides_and\u{0}moons, TIDES 100%"),
        ("q=z%C3%BC", "Zürich 東京"),
        ("q=%E4%BA%AC", "Zürich 東京"),
        ("q=%C3%9CBER+g", "Über Gezeiten"),
        ("q=g+%C3%BCber", ""),
        ("q=100%25", "TIDES 100%"),
        ("q=moons%00tides", "tides_and\u{0}moons"),
        ("q=work+how", "Sluices"),
        ("q=gate+how", ""),
        ("q=shuts+mind", "Sluices"),
    ] {
        assert_eq!(titles(client, query).await, found, "{query}");
    }
    for odd in [
        "%22",
        "*",
        "%00",
        "%27%3B--",
        "a%22+OR+b",
        "NEAR(a+b)",
        "tides%3A*zz",
        "%26+%7C+%21",
        "(",
        "-",
        "_",
        "%F0%9F%98%80",
        "tides+NOT+moons",
        "%5C",
        "marked%3Atides",
        "%7Bmarked%7D+%3A+x",
    ] {
        let page = client.get(&format!("{CONVERSATIONS}?q={odd}")).await.expect(200);
        assert_eq!(page["data"], json!([]), "{odd}");
    }
    let found = entries(client, "q=gate+mi").await.remove(0);
    assert_eq!(pieces(&found["match"]["title"]), "Sluices");
    assert_eq!(pieces(&found["match"]["message"]["text"]), "A tide [gate] shuts by itself: \"never\" <b>[mind]</b>.");
    assert_eq!(found["match"]["message"]["id"], client.answer(&id).await["id"]);
    let titled = entries(client, "q=sluic").await.remove(0);
    assert_eq!((pieces(&titled["match"]["title"]), &titled["match"]["message"]), ("[Sluices]".into(), &Value::Null));
    let mut whole = client.get(&format!("{CONVERSATIONS}/{id}")).await.expect(200);
    whole["match"] = titled["match"].clone();
    assert_eq!(titled, whole, "each is as it is by itself");
    assert_eq!(entries(client, "limit=100").await[0].get("match"), None);
}

#[tokio::test]
async fn what_is_renamed_or_erased_is_not_found_by_what_it_was() {
    let scene = Scene::new().await;
    let client = &scene.client;
    let id = make(client, &json!({"title": "First name", "first_message": "a question"})).await;
    until(client, "q=first", "First name").await;
    until(client, "q=question", "First name").await;
    let change = Request::post(&format!("{CONVERSATIONS}/{id}"), &json!({"title": "Second name"}));
    client.send(Request { method: "PATCH".into(), ..change }).await.expect(200);
    assert_eq!(titles(client, "q=first").await, "");
    assert_eq!(titles(client, "q=second").await, "Second name");
    act(client, "DELETE", &id, "").await;
    assert_eq!(titles(client, "q=second").await + &titles(client, "q=question").await, "");
    assert_eq!(scene.database.numbers("select count(*) from indexed").await, [0]);
    let session = json!({"message": "pebbles", "session_id": "s"});
    client.post("/v1/chat/stream", &session).await.expect(200);
    until(client, "q=pebb", "pebbles").await;
    client.send(Request { method: "DELETE".into(), ..Request::get("/v1/chat/s") }).await.expect(200);
    assert_eq!(scene.database.numbers("select count(*) from indexed").await, [0]);
    if scene.database.kind() == Kind::Sqlite {
        assert_eq!(scene.database.numbers("select count(*) from words").await, [0]);
    }
}

#[tokio::test]
async fn lists_are_filtered_and_sorted_in_pages_that_fit_together() {
    let scene = Scene::with(|setup| setup.set("conversations.expire_after_s", 3600)).await;
    let client = &scene.client;
    let mut ids = Vec::new();
    for title in ["pear", "Apple", "fig", "apple", "Zest", "éclair"] {
        ids.push(make(client, &json!({"title": format!("{title} x")})).await);
    }
    make(client, &json!({})).await;
    client.post(&format!("{CONVERSATIONS}/{}/messages", ids[0]), &json!({"content": "hi"})).await.expect(200);
    for (n, what) in [(1, "/archive"), (2, "/pause"), (3, "/end")] {
        act(client, "POST", &ids[n], what).await;
    }
    let first = client.get(&format!("{CONVERSATIONS}/{}", ids[4])).await.expect(200);
    assert!(first["expires_at"].is_string());
    // One that silence has ended, and nothing says so yet.
    scene.database.run(&format!("update conversations set last_message_at = 1 where id = '{}'", ids[4])).await;
    until(client, "q=x&include_archived=1&sort=created&order=asc", "pear x, Apple x, fig x, apple x, Zest x, éclair x")
        .await;
    for (query, found) in [
        ("", "pear x, New conversation, éclair x, apple x, fig x, Zest x"),
        ("order=asc", "Zest x, fig x, apple x, éclair x, New conversation, pear x"),
        ("sort=created", "New conversation, éclair x, Zest x, apple x, fig x, pear x"),
        (
            "sort=created&order=asc&include_archived=true",
            "pear x, Apple x, fig x, apple x, Zest x, éclair x, New conversation",
        ),
        ("sort=title&include_archived=1", "Apple x, apple x, fig x, New conversation, pear x, Zest x, éclair x"),
        ("sort=title&order=desc&include_archived=0", "éclair x, Zest x, pear x, New conversation, fig x, apple x"),
        ("state=paused", "fig x"),
        ("state=ended", "apple x, Zest x"),
        ("state=active&sort=title", "New conversation, pear x, éclair x"),
        ("q=x", "pear x, éclair x, apple x, fig x, Zest x"),
        ("q=x&sort=title&order=desc", "éclair x, Zest x, pear x, fig x, apple x"),
        ("q=x&state=ended&include_archived=1", "apple x, Zest x"),
        ("q=apple&include_archived=1&sort=title", "Apple x, apple x"),
        ("assistant_id=asst_1", ""),
    ] {
        for limit in [1, 2, 3, 100] {
            assert_eq!(titles(client, &format!("limit={limit}&{query}")).await, found, "{query} by {limit}");
        }
    }
}

#[tokio::test]
async fn what_a_crash_kept_from_the_index_is_found_after_it() {
    let (database, upstream) = (Database::fresh().await, Upstream::start().await);
    let mut gateway = Gateway::on(&database).upstream(&upstream).start().await;
    let client = gateway.client();
    make(&client, &json!({"title": "Lost", "first_message": "pebbles"})).await;
    gateway.kill();
    database.run("delete from indexed").await;
    gateway.restart().await;
    until(&client, "q=lost", "Lost").await;
    until(&client, "q=pebbles", "Lost").await;
}

fn filter(limit: usize) -> Filter {
    let silence = Silence::new(at(1), 0);
    Filter { state: None, archived: false, sort: Sort::Activity, descending: true, from: None, limit, silence }
}

#[tokio::test]
async fn two_replicas_index_the_same_once_and_a_stranger_finds_nothing() {
    let house = House::new().await;
    let conversation = house.conversation().await;
    let new = house.turn(&conversation);
    house.admitted(&new).await;
    let items = [
        Item::Title(conversation.clone()),
        Item::Message(new.user_message_id.clone()),
        Item::Message(new.message_id.clone()),
    ];
    let entries = house.store.entries(&items).await.unwrap();
    assert_eq!(entries.len(), 2, "an answer that has not ended is not indexed");
    let (one, other) = tokio::join!(house.store.index(&entries), house.store.index(&entries));
    one.unwrap();
    other.unwrap();
    assert_eq!(house.database.numbers("select count(*) from indexed").await, [2]);
    assert!(house.store.entries(&items).await.unwrap().is_empty());
    assert!(house.store.unindexed_messages("", 10).await.unwrap().items.is_empty(), "the answer still runs");
    assert!(house.store.unindexed_titles("", 10).await.unwrap().items.is_empty());
    house.store.end_turn(&house.lease(&new, &conversation, 1), &house.ending(&new, &conversation, 2)).await.unwrap();
    assert_eq!(house.store.unindexed_messages("", 10).await.unwrap().items, [items[2].clone()]);
    let sought = Sought::read("why").unwrap();
    let found = house.store.search(&house.owner, &sought, &filter(9)).await.unwrap().conversations;
    assert_eq!((found.len(), &found[0].conversation.id), (1, &conversation));
    assert!(house.store.search(&stranger(), &sought, &filter(9)).await.unwrap().conversations.is_empty());
    // What was read and is renamed since does not come.
    let read = house.store.entries(&items).await.unwrap();
    house.store.erase_conversation(&house.owner, &conversation, Erasure::new(at(9), at(99))).await.unwrap();
    house.store.index(&read).await.unwrap();
    assert_eq!(house.database.numbers("select count(*) from indexed").await, [0]);
}

/// How much of much is found: every `n`th of many conversations has a word.
#[tokio::test]
async fn however_much_matches_the_newest_come_first_and_none_is_left_out() {
    let house = House::new().await;
    let mut made = house.conversation_of(None);
    made.title = Some("x".into());
    house.store.create_conversation(&house.owner, &made, None, at(0), None).await.unwrap();
    let (number, blob) = match house.database.kind() {
        Kind::Sqlite => ("substr('00000000000000000000000000000000' || n, -32)", "title"),
        Kind::Postgres => ("lpad(n::text, 32, '0')", "title"),
    };
    let mark = mark(&house.owner);
    let many = format!(
        "with recursive n (n) as (select 1 union all select n + 1 from n where n < 22000) \
         insert into conversations (id, application_id, owner_id, state, config, context, metadata, turn_count, created_at, \
         last_message_at, title) select 'conv_' || {number}, application_id, owner_id, state, config, context, metadata, 0, \
         created_at, last_message_at + n, {blob} from n, (select * from conversations limit 1) c"
    );
    house.database.run(&many).await;
    let words = format!(
        "'{mark}all' || case when cast(substr(id, -5) as integer) % 3 = 0 then ' {mark}third' else '' end \
         || case when cast(substr(id, -5) as integer) % 100 = 0 then ' {mark}hundredth' else '' end \
         || case when cast(substr(id, -5) as integer) % 1000 = 0 then ' {mark}thousandth' else '' end \
         || case when cast(substr(id, -5) as integer) <= 5000 then ' {mark}long' else '' end \
         || ' {mark}various' || cast(cast(substr(id, -5) as integer) % 20 as text)"
    );
    let words =
        if house.database.kind() == Kind::Postgres { words.replace("substr(id, -5)", "right(id, 5)") } else { words };
    let index = format!(
        "insert into indexed (conversation_id, words{}) select id, {words}{} from conversations where id <> '{}'",
        if house.database.kind() == Kind::Postgres { ", lexemes" } else { "" },
        if house.database.kind() == Kind::Postgres { ", ''" } else { "" },
        made.id
    );
    house.database.run(&index).await;
    type Matches = fn(u64) -> bool;
    let searches: [(&str, Matches, bool); 9] = [
        ("al", |_| true, true),
        ("all third", |n| n % 3 == 0, true),
        ("third", |n| n % 3 == 0, false),
        ("hundredth", |n| n % 100 == 0, true),
        ("thousandth", |n| n % 1000 == 0, true),
        ("thousandth", |n| n % 1000 == 0, false),
        // Where the newest have none of it, and where many words begin so.
        ("long", |n| n <= 5000, true),
        ("variou", |_| true, true),
        ("nothing", |_| false, true),
    ];
    for (query, matches, descending) in searches {
        let sought = Sought::read(query).unwrap();
        let mut all: Vec<u64> = (1..=22_000).collect();
        if descending {
            all.reverse();
        }
        let due: Vec<u64> = all.into_iter().filter(|n| matches(*n)).take(150).collect();
        let mut from = None;
        let mut found: Vec<ConversationId> = Vec::new();
        while found.len() < due.len() {
            let page =
                house.store.search(&house.owner, &sought, &Filter { from, descending, ..filter(50) }).await.unwrap();
            found.extend(page.conversations.into_iter().map(|found| found.conversation.id));
            from = page.next;
            assert!(from.is_some() || found.len() >= due.len(), "{query}: {} of {}", found.len(), due.len());
        }
        let due: Vec<ConversationId> = due.iter().map(|n| format!("conv_{n:032}").into()).collect();
        assert_eq!(found, due, "{query}");
    }
}
