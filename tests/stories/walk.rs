//! Every route, asked by every kind of caller for what is every kind of owner's: what comes is what a few rules say, and a
//! route that stands in no table fails the walk.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::access::{BANK, PAGE, claims, signed, user};
use crate::support::{Client, Request, Scene, eventually};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Nobody,
    Garbage,
    Anna,
    Bert,
    Visitor,
    OtherVisitor,
    /// A service key that acts for Anna.
    ForAnna,
    Service,
    Read,
    Admin,
    /// A user of another application who is called Anna too.
    AnnaAbroad,
    /// The keys of another application.
    AdminAbroad,
}

impl Caller {
    const ALL: [Self; 12] = [
        Self::Nobody,
        Self::Garbage,
        Self::Anna,
        Self::Bert,
        Self::Visitor,
        Self::OtherVisitor,
        Self::ForAnna,
        Self::Service,
        Self::Read,
        Self::Admin,
        Self::AnnaAbroad,
        Self::AdminAbroad,
    ];

    fn is_known(self) -> bool {
        !matches!(self, Self::Nobody | Self::Garbage)
    }
}

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Anna,
    Bert,
    Visitor,
    /// The application's own, made by a service key for nobody.
    Service,
    AnnaAbroad,
}

impl Owner {
    const ALL: [Self; 5] = [Self::Anna, Self::Bert, Self::Visitor, Self::Service, Self::AnnaAbroad];

    fn is_abroad(self) -> bool {
        self == Self::AnnaAbroad
    }
}

/// How a route is let in to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// Anybody.
    Open,
    /// Whoever is known; what they find is their own.
    Known,
    /// Whoever is known and may change something; what they make is their own.
    Making,
    /// An admin key.
    Admin,
    /// An admin key of the application that looks after the whole process.
    Overseer,
    /// One object, read.
    Read,
    /// One object, changed.
    Change,
    /// A ticket for an object that the body names.
    Ticket,
    /// It asks for something of its own, told elsewhere.
    Own,
}

/// Every route there is.
const ROUTES: &[(&str, &str, Door)] = &[
    ("post", "/v1/chat/stream", Door::Making),
    ("get", "/v1/chat/stream", Door::Making),
    ("get", "/v1/chat/{session_id}/history", Door::Known),
    ("delete", "/v1/chat/{session_id}", Door::Making),
    ("get", "/v1/conversations", Door::Known),
    ("post", "/v1/conversations", Door::Making),
    ("get", "/v1/conversations/{id}", Door::Read),
    ("patch", "/v1/conversations/{id}", Door::Change),
    ("delete", "/v1/conversations/{id}", Door::Change),
    ("get", "/v1/conversations/{id}/events", Door::Read),
    ("get", "/v1/conversations/{id}/context", Door::Read),
    ("patch", "/v1/conversations/{id}/context", Door::Change),
    ("delete", "/v1/conversations/{id}/context", Door::Change),
    ("get", "/v1/conversations/{id}/export", Door::Read),
    ("post", "/v1/conversations/{id}/archive", Door::Change),
    ("post", "/v1/conversations/{id}/unarchive", Door::Change),
    ("post", "/v1/conversations/{id}/pause", Door::Change),
    ("post", "/v1/conversations/{id}/resume", Door::Change),
    ("post", "/v1/conversations/{id}/end", Door::Change),
    ("post", "/v1/messages/{id}/regenerate", Door::Change),
    ("post", "/v1/messages/{id}/feedback", Door::Change),
    ("get", "/v1/conversations/{id}/messages", Door::Read),
    ("post", "/v1/conversations/{id}/messages", Door::Change),
    ("get", "/v1/turns/{id}", Door::Read),
    ("get", "/v1/turns/{id}/events", Door::Read),
    ("post", "/v1/turns/{id}/stop", Door::Change),
    ("get", "/v1/models", Door::Known),
    ("get", "/v1/usage", Door::Known),
    ("post", "/v1/visitors", Door::Own),
    ("post", "/v1/session", Door::Own),
    ("delete", "/v1/session", Door::Open),
    ("post", "/v1/tickets", Door::Ticket),
    ("get", "/v1/keys", Door::Admin),
    ("post", "/v1/keys", Door::Admin),
    ("delete", "/v1/keys/{id}", Door::Admin),
    ("post", "/v1/keys/{id}/rotate", Door::Admin),
    ("get", "/v1/users", Door::Admin),
    ("patch", "/v1/users/{id}", Door::Admin),
    ("delete", "/v1/users/{id}", Door::Admin),
    ("get", "/v1/audit", Door::Admin),
    ("get", "/healthz", Door::Open),
    ("get", "/readyz", Door::Open),
    ("get", "/metrics", Door::Overseer),
    ("get", "/openapi.json", Door::Open),
];

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    LetIn,
    Unknown,
    Forbidden,
    Absent,
}

impl Fate {
    fn of(status: u16) -> Self {
        match status {
            401 => Self::Unknown,
            403 => Self::Forbidden,
            404 => Self::Absent,
            200..=299 => Self::LetIn,
            status => panic!("a status nobody expects: {status}"),
        }
    }
}

/// The rules, as the contract has them.
fn expected(caller: Caller, door: Door, owner: Option<Owner>) -> Fate {
    if door == Door::Open {
        return Fate::LetIn;
    }
    if !caller.is_known() {
        return Fate::Unknown;
    }
    let changes = matches!(door, Door::Making | Door::Change | Door::Ticket);
    if changes && caller == Caller::Read {
        return Fate::Forbidden;
    }
    if door == Door::Overseer {
        return if caller == Caller::Admin { Fate::LetIn } else { Fate::Forbidden };
    }
    if door == Door::Admin {
        return if matches!(caller, Caller::Admin | Caller::AdminAbroad) { Fate::LetIn } else { Fate::Forbidden };
    }
    let Some(owner) = owner else { return Fate::LetIn };
    match (caller, owner) {
        (Caller::AnnaAbroad | Caller::AdminAbroad, Owner::AnnaAbroad) => Fate::LetIn,
        (Caller::AnnaAbroad | Caller::AdminAbroad, _) => Fate::Absent,
        (_, owner) if owner.is_abroad() => Fate::Absent,
        (Caller::Service | Caller::Read | Caller::Admin, _) => Fate::LetIn,
        (Caller::Anna | Caller::ForAnna, Owner::Anna) | (Caller::Bert, Owner::Bert) => Fate::LetIn,
        (Caller::Anna | Caller::ForAnna, Owner::Bert) | (Caller::Bert, Owner::Anna) => Fate::Forbidden,
        (Caller::Visitor, Owner::Visitor) => Fate::LetIn,
        _ => Fate::Absent,
    }
}

struct World {
    scene: Scene,
    clients: Vec<(Caller, Client)>,
    /// A key that may be revoked and rotated.
    key: String,
}

impl World {
    async fn new() -> Self {
        let scene = Scene::closed().await;
        let key = |application: &str, role: &str| scene.gateway.key(application, role).text;
        let service = key("shop", "service");
        let (visitor, other) = (scene.visitor("wk_shop").await, scene.visitor("wk_shop").await);
        let mut clients = Vec::new();
        for caller in Caller::ALL {
            let client = match caller {
                Caller::Nobody => scene.client.clone(),
                Caller::Garbage => scene.bearing("eyJhbGciOiJub25lIn0.e30."),
                Caller::Anna => scene.bearing(&user("anna")),
                Caller::Bert => scene.bearing(&user("bert")),
                Caller::Visitor => scene.bearing(&visitor),
                Caller::OtherVisitor => scene.bearing(&other),
                Caller::ForAnna => scene.bearing(&service).with_header("tidegate-user", "anna"),
                Caller::Service => scene.bearing(&service),
                Caller::Read => scene.bearing(&key("shop", "read")),
                Caller::Admin => scene.bearing(&key("shop", "admin")),
                Caller::AnnaAbroad => scene.bearing(&signed(BANK, &claims("anna"))),
                Caller::AdminAbroad => scene.bearing(&key("bank", "admin")),
            };
            clients.push((caller, client));
        }
        Self { clients, scene, key: String::new() }
    }

    fn client(&self, caller: Caller) -> &Client {
        &self.clients.iter().find(|(one, _)| *one == caller).unwrap().1
    }

    /// A fresh conversation of an owner's with a turn in it that has ended.
    async fn object(&self, owner: Owner) -> (String, String, String) {
        let client = self.client(match owner {
            Owner::Anna => Caller::Anna,
            Owner::Bert => Caller::Bert,
            Owner::Visitor => Caller::Visitor,
            Owner::Service => Caller::Service,
            Owner::AnnaAbroad => Caller::AnnaAbroad,
        });
        let conversation = client.conversation().await;
        let message = client.ask_whole(&conversation, "hi").await.expect(200);
        let text = |name: &str| message[name].as_str().unwrap().to_owned();
        (conversation, text("turn_id"), text("id"))
    }

    fn request(&self, method: &str, path: &str, (conversation, turn, message): (&str, &str, &str)) -> Request {
        let id = match path {
            _ if path.contains("/turns/") => turn,
            _ if path.contains("/messages/{id}") => message,
            _ if path.contains("/keys/") => &self.key,
            _ if path.contains("/users/") => "nobody",
            _ => conversation,
        };
        let mut target = path.replace("{id}", id).replace("{session_id}", "s");
        match (method, path) {
            ("get", "/v1/chat/stream") => target.push_str("?message=hi&key=walk"),
            // A feed ends with its conversation, and nobody waits for that here.
            ("get", "/v1/conversations/{id}/events") => target.push_str("?after=0"),
            _ => {}
        }
        let body = match (method, path) {
            ("post", "/v1/chat/stream") => json!({"message": "hi"}),
            ("post", "/v1/conversations") => json!({}),
            ("patch", "/v1/conversations/{id}") => json!({"title": "t"}),
            ("patch", "/v1/conversations/{id}/context") => json!({"a": 1}),
            ("post", "/v1/messages/{id}/regenerate") => json!({"if_busy": "interrupt"}),
            ("post", "/v1/messages/{id}/feedback") => json!({"rating": "up"}),
            ("post", "/v1/conversations/{id}/messages") => json!({"content": "hi", "if_busy": "interrupt"}),
            ("post", "/v1/tickets") => json!({"turn_id": turn}),
            ("post", "/v1/keys") => json!({"role": "read"}),
            ("patch", "/v1/users/{id}") => json!({"active": true}),
            ("post", "/v1/keys/{id}/rotate") => json!({"overlap_s": 60}),
            _ => Value::Null,
        };
        let request = if body.is_null() { Request::get(&target) } else { Request::post(&target, &body) };
        Request { method: method.to_uppercase(), ..request }
    }

    /// Asks, and reads the head of the answer.
    async fn fate(&self, caller: Caller, request: Request) -> Fate {
        let stream = self.client(caller).open(request).await;
        Fate::of(stream.status())
    }
}

#[tokio::test]
async fn every_route_is_walked_by_every_caller_for_every_owner() {
    let mut world = World::new().await;
    let document = world.scene.client.get("/openapi.json").await.expect(200);
    let paths = document["paths"].as_object().unwrap();
    let there: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| (method.clone(), path.clone())))
        .filter(|(method, _)| ["get", "post", "put", "patch", "delete"].contains(&method.as_str()))
        .collect();
    let known: BTreeSet<_> =
        ROUTES.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(there, known, "each route stands in the table, with the door it has");

    let mut walked = 0;
    for (method, path, door) in ROUTES {
        let owners: Vec<Option<Owner>> = match door {
            Door::Read | Door::Change | Door::Ticket => Owner::ALL.into_iter().map(Some).collect(),
            Door::Open | Door::Known | Door::Making | Door::Admin | Door::Overseer => vec![None],
            Door::Own => continue,
        };
        for owner in owners {
            let lasting = *method != "delete" && !path.ends_with("/end");
            let mut object = world.object(owner.unwrap_or(Owner::Anna)).await;
            for caller in Caller::ALL {
                if !lasting {
                    object = world.object(owner.unwrap_or(Owner::Anna)).await;
                }
                if path.contains("/keys/") {
                    let application = if caller == Caller::AdminAbroad { "bank" } else { "shop" };
                    world.key = world.scene.gateway.key(application, "read").id;
                }
                let request = world.request(method, path, (&object.0, &object.1, &object.2));
                let fate = world.fate(caller, request).await;
                let rule = expected(caller, *door, owner);
                assert_eq!(fate, rule, "{caller:?} asks {method} {path} of {owner:?}");
                walked += 1;
            }
        }
    }
    println!("{walked} ways walked");
    assert!(walked > 700, "{walked}");
}

/// Anna and the key that acts for her are one, and so are the keys of an application that act for nobody.
fn identity(caller: Caller) -> Caller {
    match caller {
        Caller::ForAnna => Caller::Anna,
        Caller::Admin | Caller::Read => Caller::Service,
        Caller::Nobody
        | Caller::Garbage
        | Caller::Anna
        | Caller::Bert
        | Caller::Visitor
        | Caller::OtherVisitor
        | Caller::Service
        | Caller::AnnaAbroad
        | Caller::AdminAbroad => caller,
    }
}

#[tokio::test]
async fn lists_sessions_and_keys_of_idempotency_are_each_ones_own() {
    let world = World::new().await;
    let callers: Vec<_> = Caller::ALL.into_iter().filter(|one| one.is_known() && *one != Caller::Read).collect();
    // The same session, the same key of idempotency; another question for each.
    let ask = |caller: &Caller| {
        let body = json!({"message": format!("of {:?}", identity(*caller)), "session_id": "s"});
        Request::post("/v1/chat/stream", &body).header("idempotency-key", "one").header("accept", "application/json")
    };
    let mut answers = Vec::new();
    for caller in &callers {
        answers.push(world.client(*caller).send(ask(caller)).await.expect(200)["id"].clone());
    }
    let people: BTreeSet<_> = callers.iter().map(|caller| format!("{:?}", identity(*caller))).collect();
    assert_eq!(world.scene.upstream.calls().len(), people.len(), "each is asked once for each who is somebody else");
    for (caller, answer) in callers.iter().zip(&answers) {
        let client = world.client(*caller);
        let history = client.get("/v1/chat/s/history").await.expect(200);
        let texts: Vec<_> = history["messages"].as_array().unwrap().iter().map(|one| one["text"].clone()).collect();
        assert_eq!((texts.len(), &texts[0]), (2, &json!(format!("of {:?}", identity(*caller)))), "{caller:?}");
        assert_eq!(client.send(ask(caller)).await.expect(200)["id"], *answer, "{caller:?}");
        // What one finds in a search is one's own as well.
        let titles = eventually("the index", async || {
            // A key that acts for nobody says in whose; here in what is nobody's.
            let whose =
                if matches!(caller, Caller::Service | Caller::Admin | Caller::AdminAbroad) { "&user_id=" } else { "" };
            let found = client.get(&format!("/v1/conversations?q=of{whose}")).await.expect(200);
            let titles: Vec<_> = found["data"].as_array().unwrap().iter().map(|one| one["title"].clone()).collect();
            (!titles.is_empty()).then_some(titles)
        });
        assert_eq!(titles.await, [json!(format!("of {:?}", identity(*caller)))], "{caller:?}");
    }
    assert_eq!(world.scene.upstream.calls().len(), people.len());
}

#[tokio::test]
async fn a_strangers_page_signs_nobody_in_and_spends_nothing() {
    let scene = Scene::closed().await;
    let evil =
        scene.bearing(&user("anna")).with_header("sec-fetch-site", "cross-site").with_header("sec-fetch-mode", "cors");
    let evil = evil.with_header("origin", "https://evil.example");
    for (target, body) in [
        ("/v1/session", json!({})),
        ("/v1/visitors", json!({"widget_key": "wk_shop"})),
        ("/v1/tickets", json!({"turn_id": "turn_1"})),
        ("/v1/chat/stream", json!({"message": "hi"})),
        ("/v1/keys", json!({"role": "admin"})),
    ] {
        assert_eq!(evil.post(target, &body).await.expect(403)["code"], "cross_site_request", "{target}");
    }
    let ours =
        scene.through("wk_shop").with_header("sec-fetch-site", "cross-site").with_header("sec-fetch-mode", "cors");
    let reply = ours.post("/v1/visitors", &json!({"widget_key": "wk_shop"})).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some(PAGE)));
    let asks = Request { method: "OPTIONS".into(), ..Request::get("/v1/chat/stream") }
        .header("origin", PAGE)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "tidegate-widget, authorization");
    let allowed = scene.client.send(asks).await;
    assert!(allowed.header("access-control-allow-headers").unwrap().contains("Tidegate-Widget"));
}
