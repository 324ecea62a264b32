//! SQLite's file: slow, full, or on its way to either.

use std::future::poll_fn;
use std::path::Path;
use std::process::Command;
use std::task::Poll;
use std::time::Duration;

use serde_json::json;
use sqlx::{ConnectOptions, Connection, Executor};
use tempfile::TempDir;
use tidegate::domain::ids::TurnId;
use tidegate::store::admission::NewTurn;
use tidegate::store::checkpoint;
use tidegate::store::tail::Tail;
use tokio_util::sync::CancellationToken;

use crate::support::house::{House, at, key, plan};
use crate::support::{Gate, Gateway, Record, Scene, Script, Task, Upstream, assert_stamps, eventually, stamp};

/// A file system of a few MiB. Unmounted when dropped.
struct Small(TempDir);

impl Small {
    fn mount(mib: usize) -> Self {
        let folder = TempDir::new().unwrap();
        root(&["mount", "-t", "tmpfs", "-o", &format!("size={mib}m,mode=777"), "tmpfs"], folder.path());
        Self(folder)
    }

    /// Takes all the room there is, until the guard is dropped.
    fn fill(&self) -> Filler {
        let path = self.0.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        for size in [1 << 16, 512] {
            while std::io::Write::write_all(&mut file, &vec![0; size]).is_ok() {}
        }
        Filler(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        root(&["umount", "--lazy"], self.0.path());
    }
}

struct Filler(std::path::PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// Runs a command that takes the rights of root.
fn root(command: &[&str], folder: &Path) {
    let output = if rustix::process::geteuid().is_root() {
        Command::new(command[0]).args(&command[1..]).arg(folder).output()
    } else {
        Command::new("sudo").arg("-n").args(command).arg(folder).output()
    };
    let output = output.expect("mount, umount and sudo are there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "a full disk is tried on a small tmpfs, which only root may mount: {said}");
}

#[tokio::test]
async fn on_a_full_disk_streams_go_on_and_are_saved_when_there_is_room() {
    let (small, upstream) = (Small::mount(8), Upstream::start().await);
    let url = format!("sqlite://{}/tidegate.db", small.0.path().display());
    let setup = Gateway::at(&url).upstream(&upstream).set("limits.database_s", 1);
    let gateway = setup.start().await;
    let client = gateway.client();
    let (full, room) = (Gate::new(), Gate::new());
    let text = |n: usize| format!("{}{}", stamp(n), ".".repeat(500));
    let script = Script::new().delta("so ").gate(&full).deltas(300, Duration::from_millis(3), text).gate(&room);
    upstream.when("go", script.finish("stop").usage(1, 300).done());
    let conversation = client.conversation().await;
    let mut stream = client.ask(&conversation, "go").await;
    let mut seen = stream.events(3).await;
    let filler = small.fill();
    full.open();
    // All of it is told, although none of it can be saved.
    seen.extend(stream.events(300).await);
    let other = client.post("/v1/conversations", &json!({})).await;
    assert_eq!(other.expect(503)["code"], "store_unavailable");
    drop(filler);
    room.open();
    seen.extend(stream.rest().await);
    assert_eq!(seen.last().unwrap().json["saved"], true);
    Record::read(&client, &stream.turn()).await.assert_owed(0, &seen);
    assert_eq!(client.ask_whole(&conversation, "next").await.expect(200)["status"], "completed");
}

#[tokio::test]
async fn on_a_disk_that_stays_full_a_turn_is_ended_and_saved_later() {
    let (small, upstream) = (Small::mount(8), Upstream::start().await);
    let url = format!("sqlite://{}/tidegate.db", small.0.path().display());
    let setup = Gateway::at(&url).upstream(&upstream).set("limits.database_s", 1).set("limits.unsaved_s", 1);
    let gateway = setup.start().await;
    let client = gateway.client();
    let text = |n: usize| format!("{}{}", stamp(n), ".".repeat(500));
    upstream.when("go", Script::new().deltas(100_000, Duration::from_millis(3), text));
    let conversation = client.conversation().await;
    let mut stream = client.ask(&conversation, "go").await;
    stream.events(3).await;
    let filler = small.fill();
    let end = stream.rest().await.pop().unwrap().json;
    assert_eq!((&end["error"]["code"], &end["saved"]), (&json!("store_unavailable"), &json!(false)));
    upstream.call(0).await.closed().await;
    drop(filler);
    let reply = eventually("the conversation to be free", async || {
        let reply = client.ask_whole(&conversation, "next").await;
        (reply.status == 200).then_some(reply)
    })
    .await;
    assert_eq!(reply.json()["status"], "completed");
    assert_eq!(Record::read(&client, &stream.turn()).await.status(), "failed");
}

#[tokio::test]
async fn a_file_that_others_lock_now_and_then_slows_no_delta() {
    let scene = Scene::new().await;
    let url = scene.database.url();
    let busy = Task::start(async move {
        let options: sqlx::sqlite::SqliteConnectOptions = url.parse().unwrap();
        let mut connection = options.connect().await.unwrap();
        loop {
            connection.execute("begin immediate").await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            connection.execute("rollback").await.unwrap();
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    });
    let script = Script::new().paced(150, Duration::from_millis(10));
    scene.upstream.push(script.finish("stop").usage(1, 150).done());
    let conversation = scene.client.conversation().await;
    let mut stream = scene.client.ask(&conversation, "go").await;
    let mut seen = stream.events(3).await;
    let begun = std::time::Instant::now();
    seen.extend(stream.events(149).await);
    assert!(begun.elapsed() < Duration::from_millis(2200), "the deltas took {:?}", begun.elapsed());
    seen.extend(stream.rest().await);
    assert_eq!(seen.last().unwrap().json["saved"], true);
    let record = Record::read(&scene.client, &stream.turn()).await;
    record.assert_owed(0, &seen);
    assert_eq!(assert_stamps(record.message["content"].as_str().unwrap()), 150);
    drop(busy);
}

#[tokio::test]
async fn the_log_starts_over_again_and_again_however_much_is_written() {
    const MIB: u64 = 1 << 20;
    let house = House::new().await;
    let end = CancellationToken::new();
    let keeper = Task::start(checkpoint::run(house.store.clone(), Duration::from_millis(20), end.clone()));
    let log = house.database.folder().join("tidegate.db-wal");
    let options: sqlx::sqlite::SqliteConnectOptions = house.database.url().parse().unwrap();
    let mut beside = options.connect().await.unwrap();
    let mut number = 0;
    // More than the limit at which a commit would do it.
    for _ in 0..6 {
        for _ in 0..400 {
            number += 1;
            let mut tail = Tail::new(number, number.saturating_sub(400), 1);
            tail.lines().resize(20_000, b'.');
            tail.head(&TurnId::new(at(0)), 1, 1, 20_000);
            assert!(house.store.append_journal(&house.me, &tail, &[]).await.unwrap());
        }
        let mut moved = async || {
            let pragma = sqlx::query_as("pragma wal_checkpoint(noop)");
            let (_, pages, moved): (i64, i64, i64) = pragma.fetch_one(&mut beside).await.unwrap();
            (pages == moved || pages < 1000).then_some(())
        };
        eventually("the log to be moved", &mut moved).await;
    }
    let length = std::fs::metadata(&log).unwrap().len();
    assert!(length < 30 * MIB, "{} MiB", length / MIB);
    end.cancel();
    keeper.join().await;
    beside.close().await.unwrap();
    house.store.close().await;
    assert!(!log.exists(), "whoever closes last empties it");
}

#[tokio::test]
async fn an_admission_that_nobody_waits_for_any_more_is_whole_or_not_at_all() {
    /// More than it is ever woken.
    const MOST: u32 = 64;
    let house = House::new().await;
    let mut undone = 0;
    for polls in 0..MOST {
        let (conversation, name) = (house.conversation().await, format!("k{polls}"));
        let new = NewTurn { key: Some(key(&name, "a")), ..house.turn(&conversation) };
        let mut asked = Box::pin(house.store.admit(&house.owner, &new, plan));
        let mut left = polls;
        poll_fn(|cx| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            asked.as_mut().poll(cx).map(drop)
        })
        .await;
        drop(asked);
        // What writes next comes after it.
        house.store.touch(std::slice::from_ref(&new.id), at(2)).await.unwrap();
        let found = house.store.turn(&house.owner, &new.id).await.unwrap().is_some();
        let messages = house.store.messages(&house.owner, &conversation, None, 9, usize::MAX).await.unwrap().0.len();
        let saved = house.store.journal_end(&house.owner, &new.id).await.unwrap();
        let claimed = house.store.claimed(&house.owner, &key(&name, "a"), at(1)).await.unwrap().is_some();
        let number = house.store.last_number(&house.owner, &conversation).await.unwrap();
        let all = if found { (2, 1, true, 1) } else { (0, 0, false, 0) };
        assert_eq!((messages, saved, claimed, number), all, "after {polls} polls");
        if found {
            break;
        }
        undone += 1;
    }
    // On a machine that is busy enough all of it is done by the first look.
    assert!((1..MOST).contains(&undone), "it was dropped {undone} times before it was done");
}
