//! Whoever asks one question, and all who have to do with its turn.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{OptionFuture, join_all};
use serde_json::{Value, json};

use super::field::{DEAD, Field};
use super::plan::{Habits, Plan};
use super::witness::Witness;
use crate::support::{Encoding, Request, Stream};

/// How long a stop waits for its answer: the gateway takes five seconds at most.
const STOPPED: Duration = Duration::from_secs(7);

/// How long whoever was not answered waits before they ask again.
const AGAIN: Duration = Duration::from_millis(300);

/// What came of a question.
pub struct Asked {
    /// What was to be done.
    pub plan: Plan,
    /// Its turn; `None` when it was refused, or nobody knows.
    pub turn: Option<String>,
    /// The replicas that were asked: one of them has admitted it.
    pub replicas: BTreeSet<usize>,
    /// When it was asked.
    pub at: Instant,
    /// All who read it.
    pub witnesses: Vec<Witness>,
    /// The answer, as it was told to whoever stopped it.
    pub stopped: Option<Value>,
}

/// A question that is about to be asked.
pub struct Asker {
    field: Arc<Field>,
    asked: Asked,
}

/// What asking gave.
enum Answer {
    Turn(Box<Stream>, Option<usize>),
    Refused,
    Lost,
}

impl Asker {
    /// One with this plan.
    pub fn new(field: &Arc<Field>, plan: Plan) -> Self {
        let (replicas, witnesses, at) = (BTreeSet::new(), Vec::new(), Instant::now());
        let asked = Asked { plan, turn: None, replicas, at, witnesses, stopped: None };
        Self { field: field.clone(), asked }
    }

    /// The question as it is asked, again and again.
    pub fn request(field: &Field, plan: &Plan) -> Request {
        let question = plan.question(field.seed);
        let body = json!({"content": question, "if_busy": plan.if_busy});
        let target = format!("/v1/conversations/{}/messages", field.conversations[plan.conversation]);
        let request = Request::post(&target, &body).accept(plan.habits.encodings[0]);
        if plan.keyed { request.header("idempotency-key", &question.replace(' ', "-")) } else { request }
    }

    /// Asks, and does all that the plan says. `admitted` is called once it is known what became of the question.
    pub async fn play(mut self, admitted: impl FnOnce()) -> Asked {
        self.field.until(self.asked.plan.at).await;
        self.asked.at = Instant::now();
        let answer = self.ask().await;
        admitted();
        let (stream, replica) = match answer {
            Answer::Turn(stream, replica) => (*stream, replica),
            Answer::Refused | Answer::Lost => return self.asked,
        };
        let turn = stream.turn();
        self.asked.turn = Some(turn.clone());
        let (field, plan) = (&self.field, &self.asked.plan);
        let mine = Witness::new(field, &turn, plan.habits.clone()).follow(Some((stream, replica)));
        let onlookers = join_all(plan.onlookers.iter().map(|(after, habits)| look_on(field, &turn, *after, habits)));
        let stopped: OptionFuture<_> = plan.stop.map(|after| stop(field, &turn, after)).into();
        let again: OptionFuture<_> = plan.again.map(|after| again(field, plan, &turn, after)).into();
        let (mine, onlookers, stopped, again) = futures::join!(Box::pin(mine), onlookers, stopped, Box::pin(again));
        self.asked.stopped = stopped.flatten();
        self.asked.witnesses = [Some(mine), again.flatten()].into_iter().flatten().chain(onlookers).collect();
        self.asked
    }

    /// Asks until there is an answer, if that is safe.
    async fn ask(&mut self) -> Answer {
        loop {
            let request = Self::request(&self.field, &self.asked.plan);
            let Some((mut stream, replica)) = self.field.open(request).await else {
                // Somebody may have heard the question.
                self.asked.replicas.extend(0..self.field.direct.len());
                if !self.asked.plan.keyed {
                    return Answer::Lost;
                }
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            self.asked.replicas.extend(replica);
            match stream.status() {
                200 => return Answer::Turn(Box::new(stream), replica),
                // A refusal consumes nothing: it may be asked again, with a key or without one.
                503 => {
                    // But where it names a turn, that one may run.
                    let names_turn = stream.text().await.contains("\"turn_id\"");
                    if names_turn && !self.asked.plan.keyed {
                        return Answer::Lost;
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                409 | 429 => return Answer::Refused,
                status => panic!("{status} for {:?}: {}", self.asked.plan, stream.text().await),
            }
        }
    }
}

async fn look_on(field: &Arc<Field>, turn: &str, after: u64, habits: &Habits) -> Witness {
    tokio::time::sleep(Duration::from_millis(after)).await;
    Witness::new(field, turn, habits.clone()).follow(None).await
}

/// Asks again under the same key, and reads what that gives from the first event on.
async fn again(field: &Arc<Field>, plan: &Plan, turn: &str, after: u64) -> Option<Witness> {
    tokio::time::sleep(Duration::from_millis(after)).await;
    for _ in 0..20 {
        if let Some((mut stream, replica)) = field.open(Asker::request(field, plan)).await {
            match stream.status() {
                200 => {
                    assert_eq!(stream.turn(), turn, "the same key made another turn: {plan:?}");
                    let witness = Witness::new(field, turn, Habits::faithful(Encoding::Ndjson));
                    return Some(witness.follow(Some((stream, replica))).await);
                }
                503 | 429 => {}
                status => panic!("{status} for a key's second request, {turn}, {plan:?}: {}", stream.text().await),
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
    None
}

/// Stops a turn, and asks again until that is answered; the message, if it has ended by then.
async fn stop(field: &Arc<Field>, turn: &str, after: u64) -> Option<Value> {
    tokio::time::sleep(Duration::from_millis(after)).await;
    let begun = Instant::now();
    while begun.elapsed() < STOPPED + DEAD {
        let request = Request::post(&format!("/v1/turns/{turn}/stop"), &json!({})).header("accept", "application/json");
        match field.send(request, STOPPED).await {
            Some(reply) if reply.status == 200 => return Some(reply.json()),
            Some(reply) if reply.status == 202 => return None,
            Some(reply) if reply.status != 503 => panic!("{turn} was to be stopped: {}", reply.expect(200)),
            Some(_) | None => tokio::time::sleep(AGAIN).await,
        }
    }
    None
}
