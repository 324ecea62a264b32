//! `tidegate chat`: a client for a terminal or a pipe.
//!
//! `gateway.rs` is what is asked of the gateway, `answer.rs` what has come of it, `screen.rs` what is shown.

mod answer;
mod gateway;
mod screen;

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::signal::unix::{Signal, SignalKind, signal};
use url::Url;

use self::answer::{Answer, Ended};
use self::gateway::{Failed, Gateway, Lines};
use self::screen::Screen;
use super::Failure;

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
    let mut gateway = Gateway::new(args.url, args.conversation)?;
    let mut interrupts = signal(SignalKind::interrupt()).map_err(Failure::new)?;
    let mut screen = Screen::new();
    if io::stdin().is_terminal() {
        talk(&mut gateway, &mut screen, &mut interrupts).await
    } else {
        ask_once(&mut gateway, &mut screen, &mut interrupts).await
    }
}

/// All of standard input is one question, and its answer all of standard output.
async fn ask_once(gateway: &mut Gateway, screen: &mut Screen, interrupts: &mut Signal) -> Result<(), Failure> {
    let mut question = String::new();
    tokio::io::stdin().read_to_string(&mut question).await.map_err(Failure::new)?;
    let question = question.trim_end_matches(['\r', '\n']);
    if question.trim().is_empty() {
        return Err(Failure::new("standard input holds no question"));
    }
    match ask(gateway, screen, interrupts, question).await {
        Outcome::Ended(ended) if ended.is_whole() => Ok(()),
        Outcome::Ended(ended) => Err(Failure::new(ended)),
        Outcome::Refused(why) => Err(Failure::new(why)),
        Outcome::Left => Ok(()),
    }
}

/// Question and answer, until the input ends or Ctrl-C.
async fn talk(gateway: &mut Gateway, screen: &mut Screen, interrupts: &mut Signal) -> Result<(), Failure> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        screen.prompt();
        let line = tokio::select! {
            line = lines.next_line() => line.map_err(Failure::new)?,
            _ = interrupts.recv() => None,
        };
        let Some(question) = line else {
            screen.end_prompt();
            break;
        };
        if question.trim().is_empty() {
            continue;
        }
        match ask(gateway, screen, interrupts, &question).await {
            Outcome::Ended(ended) if ended.is_whole() => {}
            Outcome::Ended(ended) => screen.note(&ended.to_string()),
            Outcome::Refused(why) => screen.note(&why),
            Outcome::Left => break,
        }
    }
    if let Some(id) = gateway.conversation() {
        screen.note(&format!("To go on: tidegate chat --conversation {id}"));
    }
    Ok(())
}

/// Asks, and shows the answer to its end, over any number of connections: the key makes them one turn. Ctrl-C stops the
/// turn, and once more leaves.
async fn ask(gateway: &mut Gateway, screen: &mut Screen, interrupts: &mut Signal, question: &str) -> Outcome {
    let key = gateway::fresh_key();
    let mut answer = Answer::default();
    let mut stopping = false;
    let mut pause = FIRST_PAUSE;
    loop {
        let opened = tokio::select! {
            opened = gateway.open(question, &key, answer.turn_id(), answer.seq()) => opened,
            _ = interrupts.recv() => return Outcome::Left,
        };
        let mut told = match opened {
            Ok(mut lines) => match read(gateway, screen, interrupts, &mut lines, &mut answer, &mut stopping).await {
                Reading::Over(outcome) => return outcome,
                Reading::Lost { came, told } => {
                    pause = if came { FIRST_PAUSE } else { pause };
                    told
                }
            },
            Err(Failed::Refused(why)) => return Outcome::Refused(why),
            Err(Failed::Passing(after)) => after,
        };
        told = told.max(pause);
        screen.note("The connection dropped; picking it up again …");
        tokio::select! {
            () = tokio::time::sleep(told) => {}
            _ = interrupts.recv() => return Outcome::Left,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
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

async fn read(
    gateway: &Gateway,
    screen: &mut Screen,
    interrupts: &mut Signal,
    lines: &mut Lines,
    answer: &mut Answer,
    stopping: &mut bool,
) -> Reading {
    answer.belongs_to(lines.turn_id());
    let (mut came, mut told) = (false, Duration::ZERO);
    loop {
        tokio::select! {
            event = lines.next() => {
                let Some(event) = event else { return Reading::Lost { came, told } };
                came |= event["seq"].is_u64();
                told = event["retry_after_ms"].as_u64().map_or(told, Duration::from_millis);
                if answer.take(&event, screen).is_err() {
                    return Reading::Over(Outcome::Left); // Nobody reads what is written.
                }
                if let Some(ended) = answer.ended() {
                    return Reading::Over(Outcome::Ended(ended));
                }
            }
            _ = interrupts.recv() => match answer.turn_id() {
                Some(turn) if !*stopping => {
                    *stopping = true;
                    screen.note("Stopping; Ctrl-C again leaves.");
                    tokio::select! {
                        () = gateway.stop(turn) => {}
                        _ = interrupts.recv() => return Reading::Over(Outcome::Left),
                    }
                }
                Some(_) | None => return Reading::Over(Outcome::Left),
            },
        }
    }
}
