//! `tidegate chat`: a client for a terminal or a pipe.
//!
//! `gateway.rs` is what is asked of the gateway, `answer.rs` what has come of it, `screen.rs` what is shown.

mod answer;
mod gateway;
mod screen;

use std::fmt;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http::HeaderValue;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::signal::unix::{Signal, SignalKind, signal};
use url::Url;

use self::answer::{Answer, Ended};
use self::gateway::{Failed, Gateway, Lines};
use self::screen::{Gone, Screen};
use super::Failure;

/// Why it asks again.
const DROPPED: &str = "The connection dropped; picking it up again …";
/// Why it asks again where it has never heard anything.
const NOBODY: &str = "Nobody answers there; trying again …";
/// The pause before a connection that was lost is made again; it doubles…
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// …up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct ChatArgs {
    /// Where the gateway is
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: Url,
    /// Goes on with this conversation
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
    /// Shows the API key or token in this file, where the gateway asks who calls
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// How a question came out.
enum Outcome {
    Ended(Ended),
    /// The gateway would not take it.
    Refused(String),
    /// Whoever asked has left.
    Left,
}

pub(super) async fn run(args: ChatArgs) -> Result<(), Failure> {
    let token = args.token_file.as_deref().map(token).transpose()?;
    let gateway = Gateway::new(args.url, args.conversation, token)?;
    let interrupts = signal(SignalKind::interrupt()).map_err(Failure::new)?;
    let chat = Chat { gateway, screen: Screen::new(), interrupts };
    if io::stdin().is_terminal() { chat.talk().await } else { chat.ask_once().await }
}

/// What a file holds, as it goes into a header; it is in none of our lines.
fn token(path: &Path) -> Result<HeaderValue, Failure> {
    let wrong =
        |problem: &dyn fmt::Display| Failure::new(format_args!("`--token-file`: {}: {problem}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", text.trim())).map_err(|_| wrong(&"holds no token"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A gateway, and who asks it.
struct Chat {
    gateway: Gateway,
    screen: Screen,
    /// Ctrl-C.
    interrupts: Signal,
}

impl Chat {
    /// All of standard input is one question, and its answer all of standard output.
    async fn ask_once(mut self) -> Result<(), Failure> {
        let mut question = String::new();
        tokio::io::stdin().read_to_string(&mut question).await.map_err(Failure::new)?;
        let question = question.trim_end_matches(['\r', '\n']);
        if question.trim().is_empty() {
            return Err(Failure::new("standard input holds no question"));
        }
        match self.ask(question).await {
            Outcome::Ended(ended) if ended.is_whole() => Ok(()),
            Outcome::Ended(ended) => Err(Failure::new(ended)),
            Outcome::Refused(why) => Err(Failure::new(why)),
            Outcome::Left => Ok(()),
        }
    }

    /// Question and answer, until the input ends or Ctrl-C.
    async fn talk(mut self) -> Result<(), Failure> {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        loop {
            self.screen.prompt();
            let line = tokio::select! {
                line = lines.next_line() => line.map_err(Failure::new)?,
                _ = self.interrupts.recv() => None,
            };
            let Some(question) = line else {
                self.screen.end_prompt();
                break;
            };
            if question.trim().is_empty() {
                continue;
            }
            match self.ask(&question).await {
                Outcome::Ended(ended) if ended.is_whole() => {}
                Outcome::Ended(ended) => self.screen.note(&ended.to_string()),
                Outcome::Refused(why) => self.screen.note(&why),
                Outcome::Left => break,
            }
        }
        if let Some(id) = self.gateway.conversation() {
            self.screen.note(&format!("To go on: tidegate chat --url '{}' --conversation {id}", self.gateway.url()));
        }
        Ok(())
    }

    /// Asks, and shows the answer to its end, over any number of connections: the key makes them one turn. Ctrl-C stops
    /// the turn, and once more leaves.
    async fn ask(&mut self, question: &str) -> Outcome {
        let key = gateway::fresh_key();
        let mut answer = Answer::default();
        let mut stopping = false;
        let mut pause = FIRST_PAUSE;
        loop {
            let opened = tokio::select! {
                opened = self.gateway.open(question, &key, answer.turn_id(), answer.seq()) => opened,
                _ = self.interrupts.recv() => return Outcome::Left,
            };
            let (told, why) = match opened {
                Ok(mut lines) => match self.read(&mut lines, &mut answer, &mut stopping).await {
                    Reading::Over(outcome) => return outcome,
                    Reading::Lost { came, told } => {
                        pause = if came { FIRST_PAUSE } else { pause };
                        (told, DROPPED)
                    }
                },
                Err(Failed::Refused(why)) => return Outcome::Refused(why),
                Err(Failed::Passing(after)) => (after, DROPPED),
                // Where the turn is known there has been a connection.
                Err(Failed::Unreached) => (Duration::ZERO, if answer.turn_id().is_some() { DROPPED } else { NOBODY }),
            };
            self.screen.note(why);
            tokio::select! {
                () = tokio::time::sleep(told.max(pause)) => {}
                _ = self.interrupts.recv() => return Outcome::Left,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Shows what comes over one connection.
    async fn read(&mut self, lines: &mut Lines, answer: &mut Answer, stopping: &mut bool) -> Reading {
        answer.belongs_to(lines.turn_id());
        let (mut came, mut told) = (false, Duration::ZERO);
        loop {
            tokio::select! {
                event = lines.next() => {
                    let Some(event) = event else { return Reading::Lost { came, told } };
                    came |= event["seq"].is_u64();
                    told = event["retry_after_ms"].as_u64().map_or(told, Duration::from_millis);
                    match answer.take(&event, &mut self.screen) {
                        Ok(None) => {}
                        Ok(Some(ended)) => return Reading::Over(Outcome::Ended(ended)),
                        Err(Gone) => return Reading::Over(Outcome::Left),
                    }
                }
                _ = self.interrupts.recv() => match answer.turn_id() {
                    Some(turn) if !*stopping => {
                        *stopping = true;
                        self.screen.note("Stopping; Ctrl-C again leaves.");
                        tokio::select! {
                            () = self.gateway.stop(turn) => {}
                            _ = self.interrupts.recv() => return Reading::Over(Outcome::Left),
                        }
                    }
                    Some(_) | None => return Reading::Over(Outcome::Left),
                },
            }
        }
    }
}

/// How one connection came out.
enum Reading {
    Over(Outcome),
    /// Whether anything came over it, and how long the gateway said to wait.
    Lost {
        came: bool,
        told: Duration,
    },
}
