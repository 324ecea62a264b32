//! SQLite's file: slow, full, or on its way to either.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use sqlx::Executor;
use tempfile::TempDir;

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
        use sqlx::ConnectOptions;
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
