//! The record itself, past the public door: every query of every file of `store`, told alike on both databases.

use serde_json::json;
use tidegate::domain::audit::{Action, Deed, Object};
use tidegate::domain::conversation::{State, UNTITLED};
use tidegate::domain::cursor::Crash;
use tidegate::domain::ids::{ConversationId, GoneId, MessageId, ReplicaId, TurnId};
use tidegate::domain::message::{Content, ContentPart, Role};
use tidegate::domain::owner::{Kind, Owner};
use tidegate::domain::turn::{IfBusy, Status, StoppedBy};
use tidegate::store::admission::{Admission, NewTurn, Target};
use tidegate::store::conversations::Erasure;
use tidegate::store::ending::{Lease, Outcome, Start};
use tidegate::store::forgetting::{Forgetting, Left};
use tidegate::store::idempotency::Claimed;
use tidegate::store::journal::Chunk;
use tidegate::store::leases::Touched;
use tidegate::store::messages::Said;
use tidegate::store::tail::Tail;

use crate::support::house::{House, at, key, never, plan, question, stranger};

/// Nothing of a conversation but itself.
async fn assert_untouched(house: &House, conversation: &ConversationId) {
    assert_eq!(house.store.last_number(&house.owner, conversation).await.unwrap(), 0);
    assert!(house.store.messages(&house.owner, conversation, None, 9, usize::MAX).await.unwrap().0.is_empty());
    let kept = house.store.conversation(&house.owner, conversation, never()).await.unwrap().unwrap();
    assert_eq!((kept.live_turn_id, &*kept.title, kept.state), (None, UNTITLED, State::Active));
}

#[tokio::test]
async fn every_admission_has_its_answer_and_a_refusal_leaves_nothing() {
    let house = House::new().await;
    let conversation = house.conversation().await;
    let keyed = |turn: NewTurn, fingerprint| NewTurn { key: Some(key("k", fingerprint)), ..turn };
    let lost = keyed(house.turn(&ConversationId::new(at(5))), "a");
    assert!(matches!(house.admit(&lost).await, Admission::NoConversation));
    let astray = NewTurn {
        question: question(Content::Text("Why?".into()), Some(MessageId::new(at(5)))),
        ..keyed(house.turn(&conversation), "a")
    };
    assert!(matches!(house.admit(&astray).await, Admission::NoParent));
    let new = keyed(house.turn(&conversation), "a");
    let none = house.store.admit(&house.owner, &new, |_| None).await.unwrap();
    assert!(matches!(none, Admission::NoModel));
    assert!(matches!(house.store.admit(&stranger(), &new, plan).await.unwrap(), Admission::NoConversation));
    assert_eq!(house.store.claimed(&house.owner, &key("k", "a"), at(1)).await.unwrap(), None);
    assert_untouched(&house, &conversation).await;

    let admitted = house.admitted(&new).await;
    assert_eq!((admitted.number, admitted.queued), (1, false));
    let same = Claimed::Same(conversation.clone(), Some(new.id.clone()));
    assert!(matches!(house.admit(&new).await, Admission::Claimed(claimed) if claimed == same));
    assert!(matches!(house.admit(&keyed(new.clone(), "b")).await, Admission::Claimed(Claimed::Other)));
    assert_eq!(house.store.claimed(&house.owner, &key("k", "a"), at(1)).await.unwrap(), Some(same));
    assert_eq!(house.store.claimed(&stranger(), &key("k", "a"), at(1)).await.unwrap(), None);
    let busy = house.admit(&house.turn(&conversation)).await;
    assert!(matches!(busy, Admission::Busy(found, turn) if found == conversation && turn == new.id));
    let queued = NewTurn { if_busy: IfBusy::Queue, ..house.turn(&conversation) };
    assert!(house.admitted(&queued).await.queued);
    let crowded = NewTurn { if_busy: IfBusy::Queue, ..house.turn(&conversation) };
    assert!(matches!(house.admit(&crowded).await, Admission::QueueFull));
    let open = house.store.open_turns(&house.owner, &conversation).await.unwrap();
    assert_eq!(open, [(new.id.clone(), 1), (queued.id.clone(), 2)]);

    let record = house.store.turn(&house.owner, &new.id).await.unwrap().unwrap();
    assert_eq!((record.status, record.epoch, record.message.seq), (Status::Running, 1, 1));
    assert_eq!(house.store.journal_end(&house.owner, &new.id).await.unwrap(), 1);
    assert!(house.store.turn(&stranger(), &new.id).await.unwrap().is_none());
    let found = house.store.turn_from(&house.owner, &conversation, 2).await.unwrap().unwrap();
    assert_eq!((found.id, found.status, found.message.seq), (queued.id, Status::Queued, 0));
    assert!(house.store.turn_from(&house.owner, &conversation, 3).await.unwrap().is_none());
}

#[tokio::test]
async fn a_session_is_one_conversation_and_a_key_makes_one_only() {
    let house = House::new().await;
    let mut turns = Vec::new();
    for _ in 0..2 {
        let target = Target::New(Box::new(house.conversation_of(Some("mine"))));
        let new = NewTurn { target, if_busy: IfBusy::Queue, ..house.turn(&ConversationId::new(at(0))) };
        turns.push(house.admitted(&new).await);
    }
    assert_eq!(turns[0].conversation_id, turns[1].conversation_id);
    let session = house.store.session(&house.owner, "mine").await.unwrap();
    assert_eq!(session.as_ref(), Some(&turns[0].conversation_id));
    assert_eq!(house.store.session(&stranger(), "mine").await.unwrap(), None);

    let new = house.conversation_of(None);
    let make = |new, fingerprint| {
        let (store, owner) = (house.store.clone(), house.owner.clone());
        async move { store.create_conversation(&owner, &new, Some(&key("c", fingerprint)), at(50), None).await.unwrap() }
    };
    assert_eq!(make(new.clone(), "a").await, None);
    let again = house.conversation_of(None);
    assert_eq!(make(again.clone(), "a").await, Some(Claimed::Same(new.id.clone(), None)));
    assert_eq!(make(again.clone(), "b").await, Some(Claimed::Other));
    assert!(house.store.conversation(&house.owner, &again.id, never()).await.unwrap().is_none());
    assert!(house.store.conversation(&stranger(), &new.id, never()).await.unwrap().is_none());
    let kept = house.store.conversation(&house.owner, &new.id, never()).await.unwrap().unwrap();
    assert_eq!(kept.metadata, json!({"nul": "\u{0}"}));
    // Expired, the key is free again.
    assert_eq!(house.store.forget_keys(at(49), 10).await.unwrap(), 0);
    assert_eq!(house.store.claimed(&house.owner, &key("c", "a"), at(51)).await.unwrap(), None);
    assert_eq!(house.store.forget_keys(at(50), 10).await.unwrap(), 1);
}

#[tokio::test]
async fn saving_again_changes_nothing() {
    let house = House::new().await;
    let conversation = house.conversation().await;
    let new = NewTurn { key: Some(key("k", "a")), ..house.turn(&conversation) };
    house.admitted(&new).await;
    let queued = NewTurn { if_busy: IfBusy::Queue, ..house.turn(&conversation) };
    house.admitted(&queued).await;

    let mut chunks: Vec<_> = (0..70).map(|n| house.chunk(&new, 2 + 3 * n..=4 + 3 * n)).collect();
    for _ in 0..2 {
        assert!(house.store.append_journal(&house.me, &Tail::default(), &chunks).await.unwrap());
    }
    chunks.push(house.chunk(&new, 212..=215));
    assert!(house.store.append_journal(&house.me, &Tail::default(), &chunks).await.unwrap());
    let rows = house.store.journal(&house.owner, &new.id, 4, 100).await.unwrap();
    assert_eq!((rows.len(), rows[0].first_seq, rows[69].last_seq), (70, 5, 215));
    for (row, chunk) in rows.iter().zip(&chunks[1..]) {
        assert_eq!(row.lines, chunk.lines);
    }
    assert_eq!(house.store.journal(&house.owner, &new.id, 5, 2).await.unwrap()[0].first_seq, 5);
    assert!(house.store.journal(&stranger(), &new.id, 0, 9).await.unwrap().is_empty());
    assert_eq!(house.store.journal_end(&house.owner, &new.id).await.unwrap(), 215);

    let (lease, ending) = (house.lease(&new, &conversation, 1), house.ending(&new, &conversation, 216));
    let next = Outcome::Written(Some(queued.id.clone()));
    for _ in 0..2 {
        assert_eq!(house.store.end_turn(&lease, &ending).await.unwrap(), next);
    }
    let late = house.ending(&new, &conversation, 217);
    assert_eq!(house.store.end_turn(&lease, &late).await.unwrap(), Outcome::Lost, "an end is the only one");
    let record = house.store.turn(&house.owner, &new.id).await.unwrap().unwrap();
    assert_eq!(
        (record.status, record.seq, record.message.content.text()),
        (Status::Completed, 216, "Because\u{0}.".into())
    );
    assert_eq!(record.finished, Some(ending.finished.clone()));
    assert_eq!(house.store.journal_end(&house.owner, &new.id).await.unwrap(), 216);

    let due = house.store.requests(&house.me).await.unwrap();
    assert!(due.iter().any(|request| request.turn_id == queued.id && request.due), "{due:?}");
    let lease = house.lease(&queued, &conversation, 1);
    let start = async || house.store.start_queued(&lease, &house.chunk(&queued, 1..=1), at(3)).await.unwrap();
    house.store.request_stop(&house.owner, &queued.id, StoppedBy::Interrupt, None).await.unwrap();
    assert_eq!(start().await, Start::Stopped(StoppedBy::Interrupt));
    let record = house.store.turn(&house.owner, &queued.id).await.unwrap().unwrap();
    assert_eq!((record.status, house.store.journal_end(&house.owner, &queued.id).await.unwrap()), (Status::Queued, 0));
    house.database.run("update turns set stop_by = null").await;
    for _ in 0..2 {
        assert_eq!(start().await, Start::Started);
    }
    let stale = Lease { epoch: 2, ..lease.clone() };
    let refused = house.store.start_queued(&stale, &house.chunk(&queued, 1..=1), at(3)).await.unwrap();
    assert_eq!(refused, Start::Lost);
    let ended = house.store.end_turn(&lease, &house.ending(&queued, &conversation, 2)).await.unwrap();
    assert_eq!(ended, Outcome::Written(None));
    assert!(house.store.open_turns(&house.owner, &conversation).await.unwrap().is_empty());

    let placed = house.store.messages(&house.owner, &conversation, None, 3, usize::MAX).await.unwrap().0;
    assert_eq!(placed.iter().map(|placed| placed.position).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(house.store.messages(&house.owner, &conversation, Some(4), 9, usize::MAX).await.unwrap().0.len(), 2);
    let (newest, cut) = house.store.messages(&house.owner, &conversation, None, 9, 0).await.unwrap();
    assert_eq!((newest.len(), cut), (1, true), "the newest comes whatever it weighs");
    assert_eq!((placed[1].message.role, placed[1].number()), (Role::User, 2));
    assert_eq!(placed[1].message.parent_id, Some(new.message_id.clone()));
    assert!(house.store.messages(&stranger(), &conversation, None, 3, usize::MAX).await.unwrap().0.is_empty());
}

#[tokio::test]
async fn what_a_dead_process_left_in_the_tail_is_in_the_journal_once() {
    let house = House::new().await;
    let open = house.turn(&house.conversation().await);
    house.admitted(&open).await;
    let conversation = house.conversation().await;
    let over = house.turn(&conversation);
    house.admitted(&over).await;
    let save = async |number, forget, parts: &[Chunk], chunks: &[Chunk]| {
        let mut tail = Tail::new(number, forget, parts.len());
        for chunk in parts {
            tail.lines().extend_from_slice(&chunk.lines);
            tail.head(&chunk.turn_id, chunk.first_seq, chunk.last_seq, chunk.lines.len());
        }
        for _ in 0..2 {
            assert!(house.store.append_journal(&house.me, &tail, chunks).await.unwrap());
        }
    };
    house.store.recall().await.unwrap();
    save(1, 0, &[house.chunk(&open, 2..=4), house.chunk(&over, 2..=9)], &[]).await;
    save(2, 0, &[house.chunk(&open, 5..=5)], &[]).await;
    // Some of it was filed; the tail has it too, and then goes on.
    save(3, 0, &[], &[house.chunk(&open, 2..=5)]).await;
    save(4, 2, &[house.chunk(&open, 6..=7)], &[]).await;
    save(5, 0, &[house.chunk(&open, 8..=8)], &[]).await;
    let ending = house.ending(&over, &conversation, 10);
    house.store.end_turn(&house.lease(&over, &conversation, 1), &ending).await.unwrap();
    assert_eq!(house.store.journal_end(&house.owner, &open.id).await.unwrap(), 5);
    for _ in 0..2 {
        house.store.recall().await.unwrap();
        let rows = house.store.journal(&house.owner, &open.id, 0, 9).await.unwrap();
        let seqs: Vec<_> = rows.iter().map(|row| (row.first_seq, row.last_seq)).collect();
        assert_eq!(seqs, [(1, 1), (2, 5), (6, 8)]);
        let lines = [house.chunk(&open, 6..=7).lines, house.chunk(&open, 8..=8).lines].concat();
        assert_eq!(rows[2].lines, lines);
        for (after, rows) in [(1, 0), (9, 1)] {
            let found = house.store.journal(&house.owner, &over.id, after, 9).await.unwrap();
            assert_eq!(found.len(), rows, "it ended with its own, beyond a gap");
        }
    }
}

#[tokio::test]
async fn a_replica_that_is_fenced_writes_nothing_more() {
    let house = House::new().await;
    let conversation = house.conversation().await;
    let new = house.turn(&conversation);
    house.admitted(&new).await;
    let other = house.turn(&house.conversation().await);
    house.admitted(&other).await;
    house.store.request_stop(&stranger(), &new.id, StoppedBy::Request, None).await.unwrap();
    assert!(house.store.requests(&house.me).await.unwrap().is_empty());
    house.store.request_stop(&house.owner, &new.id, StoppedBy::Request, None).await.unwrap();
    house.store.request_stop(&house.owner, &new.id, StoppedBy::Deletion, None).await.unwrap();
    let touched = house.store.touch(&[new.id.clone(), TurnId::new(at(9))], at(4)).await.unwrap();
    assert_eq!(touched, Touched { told: vec![new.id.clone()], untold: Vec::new() }, "nobody has the other");
    let heard = house.store.requests(&house.me).await.unwrap();
    assert_eq!((heard[0].stop, heard[0].read_at), (Some(StoppedBy::Request), Some(at(4).as_micros())));

    let taker = ReplicaId::new(at(2));
    house.store.enter(&taker, at(2)).await.unwrap();
    let peer = house.store.peers(&taker).await.unwrap().pop().unwrap();
    assert!(house.store.append_journal(&house.me, &Tail::default(), &[]).await.unwrap());
    assert!(!house.store.fence(&peer, at(3)).await.unwrap(), "it has moved");
    assert_eq!(house.store.adopt(&taker).await.unwrap(), 0, "it lives");
    let peer = house.store.peers(&taker).await.unwrap().pop().unwrap();
    assert!(house.store.fence(&peer, at(3)).await.unwrap());
    assert!(!house.store.fence(&peer, at(3)).await.unwrap(), "once");
    assert_eq!(house.store.forget_replicas(at(3), 9).await.unwrap(), 0, "it has turns left");
    assert_eq!(house.store.adopt(&taker).await.unwrap(), 2);
    assert!(house.store.peers(&taker).await.unwrap().is_empty());

    let lease = house.lease(&new, &conversation, 1);
    assert!(!house.store.append_journal(&house.me, &Tail::default(), &[house.chunk(&new, 2..=3)]).await.unwrap());
    assert_eq!(house.store.end_turn(&lease, &house.ending(&new, &conversation, 4)).await.unwrap(), Outcome::Lost);
    assert_eq!(house.store.journal_end(&house.owner, &new.id).await.unwrap(), 1);
    assert!(house.store.turns_of(&house.me).await.unwrap().is_empty());
    let mut taken = house.store.turns_of(&taker).await.unwrap().into_iter();
    let taken = taken.find(|turn| turn.id == new.id).unwrap();
    assert_eq!(taken.epoch, 2);
    let crash = Crash::after(1);
    let mut ending = house.ending(&new, &conversation, crash.resumed);
    ending.crash = Some(crash);
    assert_eq!(house.store.end_turn(&taken.lease(), &ending).await.unwrap(), Outcome::Written(None));
    let record = house.store.turn(&house.owner, &new.id).await.unwrap().unwrap();
    assert_eq!((record.crash, record.seq), (Some(crash), crash.resumed));
    // A recovery whose commit was not confirmed is made anew, at another time: the first one stands.
    ending.now = at(30);
    assert_eq!(house.store.end_turn(&taken.lease(), &ending).await.unwrap(), Outcome::Lost);
    let again = house.store.turn(&house.owner, &new.id).await.unwrap().unwrap();
    assert_eq!((again.finished_at, again.message), (record.finished_at, record.message));

    // It admits nothing either, and leaves nothing behind.
    assert!(matches!(house.admit(&house.turn(&conversation)).await, Admission::Fenced));
    assert!(house.store.turns_of(&house.me).await.unwrap().is_empty());
    assert_eq!(house.store.forget_replicas(at(2), 9).await.unwrap(), 0);
    assert_eq!(house.store.forget_replicas(at(3), 9).await.unwrap(), 1);
    assert!(matches!(house.admit(&house.turn(&conversation)).await, Admission::Fenced), "nor does one nobody knows");
    assert_eq!(house.store.turns_of(&taker).await.unwrap()[0].id, other.id);
    house.store.leave(&taker).await.unwrap();
    assert!(house.store.append_journal(&taker, &Tail::default(), &[]).await.unwrap(), "it has a turn left, and stays");
    assert!(!house.store.append_journal(&house.me, &Tail::default(), &[]).await.unwrap(), "it is gone");
}

#[tokio::test]
async fn what_is_withdrawn_dropped_or_erased_is_gone() {
    let house = House::new().await;
    let conversation = house.conversation().await;
    let new = NewTurn { key: Some(key("k", "a")), ..house.turn(&conversation) };
    house.admitted(&new).await;
    house.store.withdraw(&stranger(), &new.id, None).await.unwrap();
    assert!(house.store.turn(&house.owner, &new.id).await.unwrap().is_some(), "a stranger withdraws nothing");
    let other = house.turn(&conversation);
    assert!(!house.store.note_told(&stranger(), &key("k", "a"), &new.id).await.unwrap(), "a stranger is told nothing");
    assert!(
        !house.store.note_told(&house.owner, &key("k", "a"), &other.id).await.unwrap(),
        "nor is anybody of another"
    );
    for _ in 0..2 {
        assert!(house.store.withdraw(&house.owner, &new.id, None).await.unwrap());
    }
    assert!(house.store.turn(&house.owner, &new.id).await.unwrap().is_none());
    assert!(!house.store.note_told(&house.owner, &key("k", "a"), &new.id).await.unwrap(), "it is gone");
    assert!(house.store.messages(&house.owner, &conversation, None, 9, usize::MAX).await.unwrap().0.is_empty());
    let made = house.conversation_of(Some("mine"));
    let fresh = NewTurn { target: Target::New(Box::new(made.clone())), ..house.turn(&made.id) };
    house.admitted(&fresh).await;
    house.store.withdraw(&house.owner, &fresh.id, Some(&made.id)).await.unwrap();
    assert!(house.store.conversation(&house.owner, &made.id, never()).await.unwrap().is_none());

    let parts = vec![ContentPart::Text { text: "a".into() }, ContentPart::Text { text: "b\u{0}".into() }];
    let spoken = NewTurn {
        question: question(Content::Parts(parts.clone()), None),
        key: Some(key("k", "b")),
        ..house.turn(&conversation)
    };
    house.admitted(&spoken).await;
    assert!(
        !house.store.erase_conversation(&house.owner, &conversation, Erasure::new(at(9), at(99))).await.unwrap(),
        "it is open"
    );
    let lease = house.lease(&spoken, &conversation, 1);
    house.store.end_turn(&lease, &house.ending(&spoken, &conversation, 2)).await.unwrap();
    let told = async |bytes| {
        let path = house.store.path(&house.owner, &spoken.message_id, bytes).await.unwrap();
        path.into_iter().map(|said| (said.role, said.content)).collect::<Vec<_>>()
    };
    let path = told(1000).await;
    let answer = Content::Text("Because\u{0}.".into());
    assert_eq!(path, [(Role::Assistant, answer.clone()), (Role::User, Content::Parts(parts))]);
    assert_eq!(told(1).await, [(Role::Assistant, answer)]);
    assert!(house.store.path(&stranger(), &spoken.message_id, 1000).await.unwrap().is_empty());

    assert_eq!(house.store.drop_journals(at(8), at(10), 10).await.unwrap(), 0);
    assert_eq!(house.store.drop_journals(at(9), at(10), 10).await.unwrap(), 1);
    assert!(house.store.turn(&house.owner, &spoken.id).await.unwrap().unwrap().dropped);
    assert_eq!(house.store.journal_end(&house.owner, &spoken.id).await.unwrap(), 0);
    assert!(house.store.erase_conversation(&stranger(), &conversation, Erasure::new(at(9), at(99))).await.unwrap());
    assert!(house.store.turn(&house.owner, &spoken.id).await.unwrap().is_some(), "a stranger erases nothing");
    assert!(house.store.erase_conversation(&house.owner, &conversation, Erasure::new(at(9), at(99))).await.unwrap());
    assert!(house.store.turn(&house.owner, &spoken.id).await.unwrap().is_none());
    assert!(house.store.conversation(&house.owner, &conversation, never()).await.unwrap().is_none());
    // A commit that was gathered before, and comes after, brings nothing of it back.
    let late = house.chunk(&spoken, 3..=4);
    assert!(house.store.append_journal(&house.me, &Tail::default(), &[late]).await.unwrap());
    assert_eq!(house.store.journal_end(&house.owner, &spoken.id).await.unwrap(), 0);
    assert_eq!(house.store.claimed(&house.owner, &key("k", "b"), at(9)).await.unwrap(), Some(Claimed::Deleted));
    assert_eq!(house.store.forget_keys(at(99), 10).await.unwrap(), 1);
    house.store.close().await;
}

#[tokio::test]
async fn what_somebody_was_told_of_is_not_withdrawn() {
    let house = House::new().await;
    let conversation = house.conversation().await;
    let told = NewTurn { key: Some(key("k", "a")), ..house.turn(&conversation) };
    house.admitted(&told).await;
    assert!(house.store.note_told(&house.owner, &key("k", "a"), &told.id).await.unwrap());
    assert!(!house.store.withdraw(&house.owner, &told.id, None).await.unwrap(), "somebody knows of it");
    assert!(house.store.turn(&house.owner, &told.id).await.unwrap().is_some());
    let same = Claimed::Same(conversation, Some(told.id));
    assert_eq!(house.store.claimed(&house.owner, &key("k", "a"), at(1)).await.unwrap(), Some(same));
}

#[tokio::test]
async fn a_long_path_comes_whole_and_only_as_far_as_its_bytes_reach() {
    let house = House::new().await;
    let conversation = house.conversation().await;
    let mut last = None;
    for _ in 0..150 {
        let new = house.turn(&conversation);
        house.admitted(&new).await;
        house
            .store
            .end_turn(&house.lease(&new, &conversation, 1), &house.ending(&new, &conversation, 2))
            .await
            .unwrap();
        last = Some(new.message_id);
    }
    let path = async |bytes| house.store.path(&house.owner, last.as_ref().unwrap(), bytes).await.unwrap();
    let whole = path(1 << 20).await;
    assert_eq!(whole.len(), 300);
    let weigh = |path: &[Said]| path.iter().map(|said| said.content.text().len()).sum::<usize>();
    for bytes in [9, 10, 14, 15, 100, 1000, weigh(&whole) - 1, weigh(&whole)] {
        let some = path(bytes).await;
        assert_eq!(some, whole[..some.len()]);
        assert!(weigh(&some) <= bytes && weigh(&whole[..(some.len() + 1).min(300)]) > bytes.min(weigh(&whole) - 1));
    }
}

#[tokio::test]
async fn a_step_of_a_forgetting_does_nothing_once_its_mark_is_gone() {
    let mut house = House::new().await;
    let anna = Owner::person(&"shop".into(), Kind::User, "anna");
    house.owner = anna.clone();
    let marked = |second| Forgetting { owner: anna.clone(), pseudonym: GoneId::new(at(second)), since: at(second) };
    let deed = |second| Deed::of_system(&anna.application_id, Action::UserForget, Object::person(&anna), at(second));
    let (first, second) = (marked(1), marked(5));
    let before = house.conversation().await;
    house.store.begin_forgetting(&first, &deed(1)).await.unwrap();
    house.store.begin_forgetting(&second, &deed(2)).await.unwrap();
    assert_eq!(
        house.store.forgetting(Some(&anna), 9).await.unwrap(),
        std::slice::from_ref(&first),
        "who is marked stays so"
    );
    assert_eq!(house.store.end_forgetting(&first).await.unwrap(), Left::More, "a conversation is left");
    assert_eq!(house.store.conversations_of(&first, 9).await.unwrap(), std::slice::from_ref(&before));
    assert!(house.store.erase_conversation(&anna, &before, Erasure::new(at(9), at(99))).await.unwrap());
    assert_eq!(house.store.forget_rest(&first, 9).await.unwrap(), Left::Nothing);
    assert_eq!(house.store.end_forgetting(&first).await.unwrap(), Left::Nothing);

    // Somebody is called like that again, and marked again.
    let after = house.conversation().await;
    let asked = NewTurn { key: Some(key("k", "a")), ..house.turn(&after) };
    house.admitted(&asked).await;
    let keys = async || house.database.numbers("select count(*) from idempotency_keys").await[0];
    for marked_again in [false, true] {
        if marked_again {
            house.store.begin_forgetting(&second, &deed(5)).await.unwrap();
        }
        assert!(house.store.conversations_of(&first, 9).await.unwrap().is_empty());
        assert_eq!(house.store.forget_rest(&first, 9).await.unwrap(), Left::Unmarked);
        assert_eq!(house.store.end_forgetting(&first).await.unwrap(), Left::Unmarked);
        assert_eq!(keys().await, 1);
    }
    assert_eq!(house.store.forgetting(Some(&anna), 9).await.unwrap(), std::slice::from_ref(&second));
    assert_eq!(house.store.conversations_of(&second, 9).await.unwrap(), [after]);
    assert_eq!(house.store.forget_rest(&second, 9).await.unwrap(), Left::Nothing);
    assert_eq!(keys().await, 0);
}
