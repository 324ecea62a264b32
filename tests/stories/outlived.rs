//! Whoever is forgotten between being let in and what they do leaves nothing of it.

use serde_json::{Value, json};
use tidegate::domain::acting::Acting;
use tidegate::domain::audit::{Action, Actor, ActorKind, Deed, Object, Whence};
use tidegate::domain::caller::Opened;
use tidegate::domain::ids::{ConversationId, GoneId};
use tidegate::domain::owner::{Kind, Owner};
use tidegate::store::Error;
use tidegate::store::admission::{Admission, NewTurn, Target};
use tidegate::store::conversations::{Erasure, NewConversation};
use tidegate::store::forgetting::{Forgetting, Left};
use tidegate::store::tickets::Ticket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::access::user;
use crate::support::house::{House, at};
use crate::support::kept::Kept;
use crate::support::{Client, Request, Scene, Script, eventually, within};

/// Somebody the record knows, and somebody it does not.
const ANNA: &str = "anna-4f1c9e77";
const CARL: &str = "carl-77e9c1f4";
/// What they say.
const SAID: &str = "zyxsaid4f1c";

fn forget(id: &str) -> Request {
    Request { method: "DELETE".into(), ..Request::get(&format!("/v1/users/{id}")) }
}

async fn rows(admin: &Client) -> Vec<Value> {
    admin.get("/v1/audit?limit=100").await.expect(200)["data"].as_array().unwrap().clone()
}

/// A request whose body has not come whole yet.
struct Unfinished {
    socket: TcpStream,
    rest: String,
}

impl Unfinished {
    async fn begin(client: &Client, path: &str, headers: &str, body: &Value) -> Self {
        let body = body.to_string();
        let (now, rest) = body.split_at(body.len() / 2);
        let mut socket = TcpStream::connect(client.address()).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
             expect: 100-continue\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut go_on = [0; 25];
        within("leave to send the body", socket.read_exact(&mut go_on)).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n", "it is let in");
        socket.write_all(now.as_bytes()).await.unwrap();
        Self { socket, rest: rest.to_owned() }
    }

    /// Its answer, once the rest of the body has come.
    async fn finish(mut self) -> String {
        self.socket.write_all(self.rest.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within("an answer", self.socket.read_to_string(&mut answer)).await.unwrap();
        answer
    }
}

#[tokio::test]
async fn a_request_that_was_let_in_before_a_forgetting_leaves_nothing_after_it() {
    let scene = Scene::closed().await;
    scene.upstream.always(Script::answer(&["yes"]));
    let admin = scene.bearing(&scene.gateway.key("shop", "admin").text);
    let (anna, service) = (scene.bearing(&user(ANNA)), scene.gateway.key("shop", "service").text);
    let conversation = anna.conversation().await;
    let mut slow = Vec::new();
    for id in [ANNA, CARL] {
        let own = format!("authorization: Bearer {}\r\n", user(id));
        let by_key = format!("authorization: Bearer {service}\r\ntidegate-user: {id}\r\n");
        for headers in [&own, &by_key] {
            for (path, body) in [
                ("/v1/conversations", json!({ "title": SAID })),
                ("/v1/conversations", json!({ "first_message": SAID })),
                ("/v1/chat/stream", json!({ "message": SAID, "session_id": SAID })),
                ("/v1/tickets", json!({ "conversation_id": conversation })),
            ] {
                slow.push(Unfinished::begin(&scene.client, path, headers, &body).await);
            }
        }
    }
    for id in [ANNA, CARL] {
        eventually("somebody to be forgotten", async || (admin.send(forget(id)).await.status == 204).then_some(()))
            .await;
    }
    for request in slow {
        let answer = request.finish().await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    // Refusals are written one after the other, and this one is the last.
    let bert = scene.bearing(&user("bert"));
    assert_eq!(bert.get("/v1/keys").await.status, 403);
    eventually("the refusals to be written", async || {
        rows(&admin).await.iter().any(|row| row["actor"]["id"] == "bert").then_some(())
    })
    .await;
    let refused = rows(&admin).await;
    assert!(refused.iter().filter(|row| row["result"] == "authentication_required").count() >= 2, "{refused:?}");
    Kept::read(&scene.database).await.assert_nothing_of([ANNA, CARL, SAID]);
}

/// What somebody does who was let in at that time, and whom the record has known since the other.
fn doing(owner: &Owner, known_since: Option<i64>, let_in: i64) -> Deed {
    let id = owner.person_id().map(Into::into);
    let actor = Actor { kind: ActorKind::User, id, acting_for: None };
    let deed = Deed::new(owner.application_id.clone(), actor, Action::ConversationCreate, None, at(let_in));
    let whence = Whence { request_id: None, address: Some("192.0.2.7".into()) };
    let acting = Acting { owner: owner.clone(), known_since: known_since.map(at), let_in: at(let_in) };
    Deed { whence, acting: Some(acting), ..deed }
}

#[tokio::test]
async fn what_commits_after_a_forgetting_is_refused_by_the_record_itself() {
    let owner = Owner::person(&"shop".into(), Kind::User, ANNA);
    let house = House { owner: owner.clone(), ..House::new().await };
    let store = &house.store;
    let create = async |deed: &Deed| {
        let new = NewConversation { id: ConversationId::new(at(1)), ..house.conversation_of(None) };
        let made = store.create_conversation(&owner, &new, None, at(99), Some(deed)).await;
        made.map(|_| new.id)
    };
    let admit = async |deed: &Deed| {
        let target = Target::New(Box::new(house.conversation_of(Some("session"))));
        let id = ConversationId::new(at(1));
        house.admit(&NewTurn { target, acting: deed.acting.clone(), ..house.turn(&id) }).await
    };
    let ticket = async |deed: &Deed, conversation: &ConversationId| {
        let opens = Opened::Conversation(conversation.clone());
        let (key_id, widget, opened_at, turn_ended_at) = (None, None, None, None);
        let owner = owner.clone();
        let ticket = Ticket { owner, opens, key_id, widget, created_at: at(5), opened_at, turn_ended_at };
        store.add_ticket(&ticket, deed.id.as_str().as_bytes(), deed).await.unwrap()
    };
    let first = create(&doing(&owner, None, 0)).await.unwrap();
    assert!(ticket(&doing(&owner, Some(0), 1), &first).await);
    let who = Forgetting { owner: owner.clone(), pseudonym: GoneId::new(at(3)), since: at(3) };
    let admin = Actor { kind: ActorKind::Key, id: Some("key_1".into()), acting_for: None };
    let deed = Deed::new("shop".into(), admin, Action::UserForget, Object::person(&owner), at(3));
    store.begin_forgetting(&who, &deed).await.unwrap();
    let rows = async || {
        house.database.texts("select coalesce(actor_id, '-') || coalesce(address, '-') from audit order by id").await
    };
    let mut gone = who.pseudonym.to_string() + "-";
    for step in ["while they are being forgotten", "after it"] {
        for known_since in [Some(0), None] {
            let deed = || doing(&owner, known_since, 2);
            assert!(matches!(admit(&deed()).await, Admission::Fenced), "{step}");
            assert!(!store.stands(deed().acting.as_ref().unwrap()).await.unwrap());
            assert!(matches!(create(&deed()).await, Err(Error::Unchanged)), "{step}");
            assert!(!ticket(&deed(), &first).await, "{step}");
            let before = rows().await.len();
            store.note(&deed(), "forbidden").await.unwrap();
            let rows = rows().await;
            assert_eq!(rows.len(), before + 1, "that something was refused is told");
            assert!(rows.contains(&gone), "{step}: {rows:?}");
        }
        if step == "while they are being forgotten" {
            store.erase_conversation(&owner, &first, Erasure::new(at(4), at(4))).await.unwrap();
            assert_eq!(store.forget_rest(&who, 500).await.unwrap(), Left::Nothing);
            assert_eq!(store.end_forgetting(&who).await.unwrap(), Left::Nothing);
            gone = "--".to_owned();
        }
    }
    let mut kept = Kept::read(&house.database).await;
    kept.files.clear();
    kept.assert_nothing_of([ANNA]);
    // Whoever is called like that and is let in from now on is somebody new, and stays who they are.
    create(&doing(&owner, None, 4)).await.unwrap();
    assert!(matches!(admit(&doing(&owner, Some(0), 5)).await, Admission::Admitted(_)), "{:?}", rows().await);
    assert!(rows().await.contains(&format!("{ANNA}192.0.2.7")));
}
