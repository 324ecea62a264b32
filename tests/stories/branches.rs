//! Branches: other answers to the same question, and what is thought of an answer.

use serde_json::{Value, json};
use tidegate::domain::ids::{MessageId, TurnId};
use tidegate::domain::turn::IfBusy;
use tidegate::store::admission::{Admission, NewTurn, Question};

use crate::support::house::{House, at, question};
use crate::support::{Client, Encoding, Fold, Gate, Reply, Request, Scene, Script};

async fn again(client: &Client, message: &Value) -> Reply {
    let target = format!("/v1/messages/{}/regenerate", message.as_str().unwrap());
    client.send(Request { method: "POST".into(), ..Request::get(&target) }.header("accept", "application/json")).await
}

async fn rate(client: &Client, message: &Value, body: &Value) -> Reply {
    client.post(&format!("/v1/messages/{}/feedback", message.as_str().unwrap()), body).await
}

/// What the upstream's call `n` was asked.
fn asked(scene: &Scene, n: usize) -> Vec<String> {
    let lines = scene.upstream.calls()[n].body["messages"].clone();
    lines.as_array().unwrap().iter().map(|line| line["content"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn another_answer_stands_beside_the_old_one() {
    let scene = Scene::new().await;
    let conversation = scene.client.conversation().await;
    for answer in ["a1", "a2", "a2 again", "a3", "a1 again", "a4"] {
        scene.upstream.push(Script::answer(&[answer]));
    }
    let first = scene.client.ask_whole(&conversation, "q1").await.expect(200);
    let second = scene.client.ask_whole(&conversation, "q2").await.expect(200);
    let sibling = again(&scene.client, &second["id"]).await.expect(200);
    assert_eq!((&sibling["content"], &sibling["parent_id"]), (&json!("a2 again"), &second["parent_id"]));
    assert_eq!(asked(&scene, 2), ["q1", "a1", "q2"], "the model sees the path up to the question");
    let list = scene.client.messages(&conversation).await;
    let contents: Vec<&str> = list.iter().map(|message| message["content"].as_str().unwrap()).collect();
    assert_eq!(contents, ["q1", "a1", "q2", "a2", "a2 again"], "every branch, and no second question");
    assert_eq!(list[3], second, "the old one is as it was");
    // What is asked next follows the newest, and an old branch is answered again all the same.
    let next = scene.client.ask_whole(&conversation, "q3").await.expect(200);
    assert_eq!(asked(&scene, 3), ["q1", "a1", "q2", "a2 again", "q3"]);
    let old = again(&scene.client, &first["parent_id"]).await.expect(200);
    assert_eq!((&old["parent_id"], asked(&scene, 4)), (&first["parent_id"], vec!["q1".to_owned()]));
    let target = format!("/v1/conversations/{conversation}/messages");
    let body = json!({"content": "q4", "parent_id": next["id"]});
    scene.client.post(&target, &body).await.expect(200);
    assert_eq!(asked(&scene, 5), ["q1", "a1", "q2", "a2 again", "q3", "a3", "q4"]);
    // Pages of it fit together.
    let all = scene.client.messages(&conversation).await;
    let page = scene.client.get(&format!("{target}?limit=4")).await.expect(200);
    let before = page["next_cursor"].as_str().unwrap();
    let earlier = scene.client.get(&format!("{target}?limit=100&before={before}")).await.expect(200);
    let list = |page: &Value| page["data"].as_array().unwrap().clone();
    assert_eq!([list(&earlier), list(&page)].concat(), all);
}

#[tokio::test]
async fn another_answer_is_told_like_any_turn_and_asked_once_under_a_key() {
    let scene = Scene::new().await;
    let told = scene.told("hi").await;
    let target = format!("/v1/messages/{}/regenerate", told.message["id"].as_str().unwrap());
    let mut turns = Vec::new();
    for encoding in Encoding::ALL {
        let request = Request::post(&target, &json!({})).header("idempotency-key", "k").accept(encoding);
        let mut stream = scene.client.open(request).await;
        let frames = stream.rest().await;
        assert_eq!(frames[0].json["user_message_id"], told.message["parent_id"]);
        let conversation = told.message["conversation_id"].as_str().unwrap();
        Fold::of(&frames).assert_same_as(&scene.client.answer(conversation).await);
        turns.push(stream.turn());
    }
    assert_eq!((turns[0] == turns[1], scene.upstream.calls().len()), (true, 2));
    let other = Request::post(&target, &json!({"model": "other"})).header("idempotency-key", "k");
    assert_eq!(scene.client.send(other).await.expect(422)["code"], "idempotency_key_reused");
    let later = Request::post(&target, &json!({})).header("prefer", "respond-async");
    let turn = scene.client.send(later.clone().header("idempotency-key", "l")).await.expect(202);
    scene.client.ended(turn["id"].as_str().unwrap()).await;
    for (body, status, field) in [
        (json!({"model": "none\u{0}"}), 404, "model"),
        (json!({"on_disconnect": "x"}), 422, "on_disconnect"),
        (json!({"content": "x"}), 422, "content"),
    ] {
        assert_eq!(scene.client.post(&target, &body).await.expect(status)["field"], field, "{body}");
    }
    for unknown in ["msg_unknown", "a%20b"] {
        let problem = again(&scene.client, &json!(unknown)).await.expect(404);
        assert_eq!(problem["code"], "message_not_found");
    }
    let path = format!("/v1/conversations/{}", told.message["conversation_id"].as_str().unwrap());
    scene.client.send(Request { method: "DELETE".into(), ..Request::get(&path) }).await;
    let gone = scene.client.send(later.header("idempotency-key", "l")).await;
    assert_eq!(gone.expect(410)["code"], "turn_deleted");
}

#[tokio::test]
async fn another_answer_waits_its_turn() {
    let scene = Scene::new().await;
    let told = scene.told("hi").await;
    let conversation = told.message["conversation_id"].as_str().unwrap();
    let gate = Gate::new();
    scene.upstream.push(Script::new().gate(&gate).finish("stop").done());
    let live = scene.client.ask(conversation, "busy").await;
    let busy = again(&scene.client, &told.message["id"]).await.expect(409);
    assert_eq!((&busy["code"], &busy["turn_id"]), (&json!("turn_in_progress"), &json!(live.turn())));
    let target = format!("/v1/messages/{}/regenerate", told.message["id"].as_str().unwrap());
    let queue = Request::post(&target, &json!({"if_busy": "queue"})).header("prefer", "respond-async");
    let queued = scene.client.send(queued_as_json(queue)).await.expect(202);
    assert_eq!(queued["status"], "queued");
    gate.open();
    let ended = scene.client.ended(queued["id"].as_str().unwrap()).await;
    assert_eq!((&ended["status"], asked(&scene, 2)), (&json!("completed"), vec!["hi".to_owned()]));
}

fn queued_as_json(request: Request) -> Request {
    request.header("accept", "application/json")
}

#[tokio::test]
async fn what_is_thought_of_an_answer_is_kept_with_it() {
    let scene = Scene::new().await;
    let told = scene.told("hi").await;
    let id = &told.message["id"];
    for body in [json!({"rating": "down", "reason": "wrong \u{0}", "note": "é".repeat(4000)}), json!({"rating": "up"})]
    {
        let rated = rate(&scene.client, id, &body).await.expect(200);
        let mut feedback = rated["feedback"].clone();
        assert!(feedback.as_object_mut().unwrap().remove("created_at").is_some_and(|at| at.is_string()));
        assert_eq!(feedback, body, "the last word counts, whole");
        let conversation = told.message["conversation_id"].as_str().unwrap();
        assert_eq!(scene.client.answer(conversation).await, rated);
    }
    for (body, field) in [
        (json!({"rating": "fine"}), "rating"),
        (json!({}), "rating"),
        (json!({"rating": "up", "reason": "x".repeat(201)}), "reason"),
        (json!({"rating": "up", "note": "x".repeat(4001)}), "note"),
        (json!({"rating": "up", "stars": 5}), "stars"),
    ] {
        assert_eq!(rate(&scene.client, id, &body).await.expect(422)["field"], field);
    }
    let up = json!({"rating": "up"});
    assert_eq!(rate(&scene.client, &told.message["parent_id"], &up).await.expect(422)["field"], "id");
    assert_eq!(rate(&scene.client, &json!("msg_unknown"), &up).await.expect(404)["code"], "message_not_found");
}

#[tokio::test]
async fn a_withdrawn_answer_leaves_its_question_to_whoever_answered_it() {
    let house = House::new().await;
    let conversation = house.conversation().await;
    let first = house.turn(&conversation);
    house.admitted(&first).await;
    let end = async |turn: &NewTurn| {
        let ending = house.ending(turn, &conversation, 2);
        house.store.end_turn(&house.lease(turn, &conversation, 1), &ending).await.unwrap();
    };
    end(&first).await;
    let id = TurnId::new(at(2));
    let asked = Question::Again(first.user_message_id.clone());
    let again =
        NewTurn { id, user_message_id: first.user_message_id.clone(), question: asked, ..house.turn(&conversation) };
    house.admitted(&again).await;
    let next = NewTurn { if_busy: IfBusy::Queue, ..house.turn(&conversation) };
    house.admitted(&next).await;
    house.store.withdraw(&house.owner, &again.id, None).await.unwrap();
    let placed = house.store.messages(&house.owner, &conversation, None, 9, usize::MAX).await.unwrap().0;
    let kept: Vec<_> = placed.iter().map(|placed| (placed.position, placed.message.id.clone())).collect();
    assert_eq!(kept.iter().map(|(position, _)| *position).collect::<Vec<_>>(), [2, 3, 6, 7]);
    assert_eq!(placed[2].message.parent_id, Some(first.user_message_id.clone()));
    // An answer is no question, nor is what nobody knows.
    for nothing in [first.message_id.clone(), MessageId::new(at(5))] {
        let new = NewTurn {
            question: Question::Again(nothing),
            if_busy: IfBusy::Queue,
            queued_turns: 9,
            ..house.turn(&conversation)
        };
        assert!(matches!(house.admit(&new).await, Admission::NoQuestion));
    }
    let parent = question(tidegate::domain::message::Content::Text("?".into()), Some(MessageId::new(at(5))));
    let new = NewTurn { question: parent, if_busy: IfBusy::Queue, queued_turns: 9, ..house.turn(&conversation) };
    assert!(matches!(house.admit(&new).await, Admission::NoParent));
}
