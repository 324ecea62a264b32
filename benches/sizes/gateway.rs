//! The program, with its built-in model, and those who ask it.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Failed;
use crate::database::Database;

/// What is asked, in turn: an answer of some 60 words, one with a chart, and one that reasons first.
const QUESTIONS: [&str; 3] =
    ["How does a tide gate work?", "Show me a chart of the tides.", "Think: what does the moon do to the sea?"];

/// A gateway that runs. Dropped, it is killed.
pub struct Gateway {
    child: Child,
    url: String,
    http: reqwest::Client,
}

impl Gateway {
    /// Starts it, and waits until it is ready.
    pub async fn start(home: &TempDir, database: &str, redis: Option<&str>, retention_s: u64) -> Result<Self, Failed> {
        let stdout = home.path().join("stdout");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--database-url", database]).current_dir(home.path());
        command.env("TIDEGATE_STREAM__RETENTION_S", retention_s.to_string());
        if let Some(url) = redis {
            command.env("TIDEGATE_CLUSTER__REDIS_URL", url);
        }
        command.stdin(Stdio::null()).stdout(File::create(&stdout)?).stderr(File::create(home.path().join("stderr"))?);
        let mut child = command.spawn()?;
        let (begin, http) = (Instant::now(), reqwest::Client::builder().no_proxy().build()?);
        loop {
            let printed = fs::read_to_string(&stdout)?;
            if let Some((line, _)) = printed.split_once('\n') {
                let url = line.rsplit(' ').next().unwrap_or_default().to_owned();
                if http.get(format!("{url}/readyz")).send().await.is_ok_and(|answer| answer.status() == 200) {
                    return Ok(Self { child, url, http });
                }
            }
            if child.try_wait()?.is_some() || begin.elapsed() > Duration::from_secs(60) {
                return Err(format!("the gateway: {}", fs::read_to_string(home.path().join("stderr"))?).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Has `turns` questions answered, the same number in each conversation, each under a key of its own.
    pub async fn ask(&self, turns: usize, conversations: usize, at_once: usize) -> Result<(), Failed> {
        let talk = |number: usize| async move {
            for turn in 0..turns / conversations {
                let question = QUESTIONS[(number + turn) % QUESTIONS.len()];
                let body = json!({"message": question, "session_id": format!("s{number}")});
                let request = self.http.post(format!("{}/v1/chat/stream", self.url)).json(&body);
                let key = format!("00000000-0000-4000-8000-{:012}", number * turns + turn);
                let request = request.header("accept", "application/json").header("idempotency-key", key);
                let answer: Value = request.send().await?.error_for_status()?.json().await?;
                if answer["status"] != "completed" {
                    return Err(Failed::from(format!("an answer that is none: {answer}")));
                }
            }
            Ok(())
        };
        stream::iter((0..conversations).map(talk)).buffer_unordered(at_once).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    /// How many deltas there were.
    pub async fn deltas(&self) -> Result<u64, Failed> {
        let text = self.http.get(format!("{}/metrics", self.url)).send().await?.text().await?;
        let figure = text.lines().find_map(|line| line.strip_prefix("tidegate_deltas_total "));
        Ok(figure.ok_or("no count of deltas")?.parse()?)
    }

    /// Waits until each message's words are in the index.
    pub async fn indexed(&self, database: &Database, turns: usize) -> Result<(), Failed> {
        let messages = i64::try_from(2 * turns)?;
        database.until("select count(*) from indexed where message_id is not null", messages).await
    }

    /// Ends it in order, so that nothing lies in a log that belongs into a table.
    pub async fn end(&mut self) -> Result<(), Failed> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        while self.child.try_wait()?.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
