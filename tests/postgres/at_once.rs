//! What several replicas do to the same rows at the same moment. SQLite has one writer, and nothing of this.

use std::time::Duration;

use tidegate::domain::ids::ReplicaId;
use tidegate::store::admission::{Admission, NewTurn};
use tidegate::store::conversations::Erasure;
use tidegate::store::ending::Outcome;
use tidegate::store::idempotency::Claimed;
use tidegate::store::tail::Tail;

use crate::support::eventually;
use crate::support::house::{House, at, key};

/// How many wait for what others have locked.
async fn wait_for_locks(house: &House, count: i64) {
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    eventually("others to wait", async || (house.database.numbers(waiting).await == [count]).then_some(())).await;
}

#[tokio::test]
async fn what_two_take_at_once_one_of_them_has() {
    let house = House::new().await;
    let new = house.turn(&house.conversation().await);
    house.admitted(&new).await;
    let takers = [ReplicaId::new(at(2)), ReplicaId::new(at(3))];
    for taker in &takers {
        house.store.enter(taker, at(3)).await.unwrap();
    }
    let peers = house.store.peers(&takers[0]).await.unwrap();
    let dead = peers.iter().find(|peer| peer.id == house.me).unwrap();
    assert!(house.store.fence(dead, at(4)).await.unwrap());
    let held = house.database.hold("select 1 from turns for update").await;
    let release = async {
        wait_for_locks(&house, 2).await;
        drop(held);
    };
    let (one, other, ()) = tokio::join!(house.store.adopt(&takers[0]), house.store.adopt(&takers[1]), release);
    assert_eq!(one.unwrap() + other.unwrap(), 1);
    assert_eq!(house.database.numbers("select epoch from turns").await, [2]);
}

#[tokio::test]
async fn a_journal_that_waits_for_an_end_does_not_keep_its_replica_from_renewing_the_lease() {
    let house = House::new().await;
    let new = house.turn(&house.conversation().await);
    house.admitted(&new).await;
    // As an end that saves the same row has it in hand.
    let ending = format!(
        "insert into journal (turn_id, first_seq, last_seq, application_id, owner_id, epoch, lines) \
         values ('{}', 5, 6, '', '', 1, '')",
        new.id
    );
    let held = house.database.hold(&ending).await;
    let (tail, rows) = (Tail::default(), [house.chunk(&new, 5..=6)]);
    let beat = async {
        wait_for_locks(&house, 1).await;
        let beat = house.store.append_journal(&house.me, &tail, &[]);
        let beat = tokio::time::timeout(Duration::from_secs(10), beat).await;
        drop(held);
        beat.expect("the lease to be renewed meanwhile")
    };
    let (saved, renewed) = tokio::join!(house.store.append_journal(&house.me, &tail, &rows), beat);
    assert!(saved.unwrap() && renewed.unwrap());
    assert_eq!(house.database.numbers("select count(*) from journal where first_seq = 5").await, [1]);
}

#[tokio::test]
async fn an_end_that_waits_for_another_replicas_sums_keeps_no_journal_waiting() {
    let house = House::new().await;
    let conversation = house.conversation().await;
    let new = house.turn(&conversation);
    house.admitted(&new).await;
    let rest = house.chunk(&new, 5..=6);
    let mut ending = house.ending_with_calls(&new, &conversation, 6, 1);
    ending.rest = vec![rest.clone()];
    // As a replica has them that froze in the middle of an end.
    let held = house.database.hold("lock table usage_totals in exclusive mode").await;
    let (lease, tail, rows) = (house.lease(&new, &conversation, 1), Tail::default(), [rest]);
    let journal = async {
        wait_for_locks(&house, 1).await;
        let saved = house.store.append_journal(&house.me, &tail, &rows);
        let saved = tokio::time::timeout(Duration::from_secs(3), saved).await;
        drop(held);
        saved.expect("the same events to be saved meanwhile")
    };
    let (ended, saved) = tokio::join!(house.store.end_turn(&lease, &ending), journal);
    assert!(saved.unwrap());
    assert_eq!(ended.unwrap(), Outcome::Written(None));
    assert_eq!(house.database.numbers("select count(*) from journal where first_seq = 5").await, [1]);
}

#[tokio::test]
async fn what_another_replica_has_taken_is_not_undone() {
    let house = House::new().await;
    let conversation = house.conversation().await;
    let new = house.turn(&conversation);
    house.admitted(&new).await;
    let taker = ReplicaId::new(at(2));
    house.store.enter(&taker, at(2)).await.unwrap();
    let peer = house.store.peers(&taker).await.unwrap().pop().unwrap();
    assert!(house.store.fence(&peer, at(3)).await.unwrap());
    assert_eq!(house.store.adopt(&taker).await.unwrap(), 1);
    assert!(!house.store.withdraw(&house.owner, &new.id, None).await.unwrap());
    assert_eq!(house.store.turns_of(&taker).await.unwrap()[0].id, new.id);
}

#[tokio::test]
async fn an_admission_whose_commit_is_under_way_is_not_taken_for_none() {
    let house = House::new().await;
    let new = house.turn(&house.conversation().await);
    let begun = format!(
        "insert into turns (id, application_id, owner_id, conversation_id, number, status, model, request, user_message_id, \
         message_id, replica_id, epoch, seq, created_at) values ('{}', '', '', '', 1, 'running', '', '', '', '', '', 1, 0, 0)",
        new.id
    );
    let held = house.database.hold(&begun).await;
    let decide = async {
        wait_for_locks(&house, 1).await;
        drop(held);
    };
    let (undone, ()) = tokio::join!(house.store.withdraw(&house.owner, &new.id, None), decide);
    assert!(undone.unwrap(), "it was never committed");
    house.admitted(&new).await;
}

#[tokio::test]
async fn a_key_that_is_used_again_at_this_moment_is_not_forgotten() {
    let house = House::new().await;
    let mut new = house.turn(&house.conversation().await);
    new.key = Some(key("k", "f"));
    house.admitted(&new).await;
    house.database.run("update idempotency_keys set expires_at = 1").await;
    let held = house.database.hold("update idempotency_keys set expires_at = null").await;
    assert_eq!(house.store.forget_keys(at(1), 9).await.unwrap(), 0);
    drop(held);
    assert_eq!(house.store.forget_keys(at(1), 9).await.unwrap(), 1, "it was not used after all");
}

#[tokio::test]
async fn a_long_erasure_keeps_no_journal_waiting() {
    let house = House::new().await;
    for table in ["messages", "journal"] {
        let (old, young) = (house.conversation().await, house.conversation().await);
        let (past, new) = (house.turn(&old), house.turn(&young));
        house.admitted(&past).await;
        let lease = house.lease(&past, &old, 1);
        house.store.end_turn(&lease, &house.ending(&past, &old, 2)).await.unwrap();
        house.admitted(&new).await;
        // As a row that takes long to erase, of what ended long ago.
        let held = format!("select 1 from {table} where turn_id = '{}' for update", past.id);
        let held = house.database.hold(&held).await;
        let (tail, rows) = (Tail::default(), [house.chunk(&new, 5..=6)]);
        let journal = async {
            wait_for_locks(&house, 1).await;
            let saved = house.store.append_journal(&house.me, &tail, &rows);
            let saved = tokio::time::timeout(Duration::from_secs(3), saved).await;
            drop(held);
            saved.expect("another turn's events to be saved meanwhile")
        };
        let erasure = Erasure::new(at(9 + 600), at(9 + 900));
        let (erased, saved) = tokio::join!(house.store.erase_conversation(&house.owner, &old, erasure), journal);
        assert!(erased.unwrap() && saved.unwrap(), "{table}");
        assert!(house.store.turn(&house.owner, &past.id).await.unwrap().is_none());
        assert_eq!(house.store.journal_end(&house.owner, &past.id).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_crowd_at_one_conversation_takes_one_connection() {
    let house = House::new().await;
    let (busy, free) = (house.conversation().await, house.conversation().await);
    let held = house.database.hold(&format!("select 1 from conversations where id = '{busy}' for update")).await;
    let known = NewTurn { key: Some(key("k", "f")), ..house.turn(&free) };
    house.admitted(&known).await;
    let free = house.conversation().await;
    let crowd: Vec<_> = (0..40).map(|_| house.turn(&busy)).collect();
    let asked = futures::future::join_all(crowd.iter().map(|new| house.admit(new)));
    let other = async {
        wait_for_locks(&house, 1).await;
        let new = house.turn(&free);
        let admitted = tokio::time::timeout(Duration::from_secs(3), house.admitted(&new)).await;
        // Whoever comes back with a key waits for nobody, wherever what it made stands.
        let again = NewTurn { key: Some(key("k", "f")), ..house.turn(&busy) };
        let again = tokio::time::timeout(Duration::from_secs(3), house.admit(&again)).await;
        assert!(matches!(again, Ok(Admission::Claimed(Claimed::Same(_, Some(turn)))) if turn == known.id));
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let waiting = house.database.numbers(waiting).await;
        drop(held);
        (admitted.expect("room for another conversation"), waiting)
    };
    let (asked, (_, waiting)) = tokio::join!(asked, other);
    assert_eq!(waiting, [1]);
    let admitted = asked.iter().filter(|asked| matches!(asked, Admission::Admitted(_))).count();
    let busy = asked.iter().filter(|asked| matches!(asked, Admission::Busy(..))).count();
    assert_eq!((admitted, busy), (1, 39));
}
