//! Everything a seed is played on: servers of its own, replicas, a balancer, a model, conversations.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::watch;

use super::balancer::Balancer;
use super::calamities::Calamities;
use super::fault::Common;
use super::field::Field;
use super::lateness::Lateness;
use super::plan::Answer;
use super::postgres::Postgres;
use super::replica::Replica;
use super::schedule::{REPLICAS, Schedule};
use super::truth::Truth;
use crate::support::{Database, Gate, Redis, Script, Task, Upstream};

/// Everything a seed is played on. What is dropped first stands first.
pub struct Stage {
    /// What all clients have in common.
    pub field: Arc<Field>,
    /// The replicas.
    pub replicas: Vec<Arc<Replica>>,
    /// The model.
    pub upstream: Upstream,
    /// The record.
    pub database: Database,
    /// How late the machine is.
    pub lateness: Lateness,
    postgres: Arc<Postgres>,
    redis: Option<Arc<Mutex<Redis>>>,
}

/// How many deltas an answer has: at once, and paced.
pub fn deltas(answer: Answer) -> (usize, usize) {
    match answer {
        Answer::Short => (0, 6),
        Answer::Long => (0, 90),
        Answer::Hasty => (150, 60),
        Answer::Held => (3, 60),
    }
}

impl Stage {
    /// Sets it.
    pub async fn set(schedule: &Schedule) -> Self {
        let postgres = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
        let redis = schedule.redis.then(|| Arc::new(Mutex::new(Redis::start())));
        let (database, upstream, hurry) = (Database::on(&postgres.url()), Upstream::start().await, Gate::new());
        script(&upstream, Duration::from_millis(schedule.pace), &hurry);
        let listens = redis.as_ref().map(|redis| redis.lock().unwrap().address());
        let start = |number| Replica::start(number, schedule, &database, listens, &upstream);
        let replicas = join_all((0..REPLICAS).map(start)).await;
        let balancer = Balancer::before(replicas.iter().map(|replica| replica.address).collect()).await;
        let direct: Vec<_> = replicas.iter().map(Replica::client).collect();
        let most = schedule.plans.iter().map(|plan| plan.conversation).max().unwrap_or_default();
        let conversations = join_all((0..=most).map(|at| direct[at % REPLICAS].conversation())).await;
        let begun = Instant::now();
        let field = Field {
            seed: schedule.seed,
            begun,
            truth: Truth::default(),
            calamities: Calamities::new(begun),
            balancer,
            direct,
            conversations,
            hurry,
            enough: watch::Sender::new(false),
        };
        let replicas = replicas.into_iter().map(Arc::new).collect();
        let (field, postgres) = (Arc::new(field), Arc::new(postgres));
        let lateness = Lateness::feel(&field.direct);
        Self { field, replicas, upstream, database, lateness, postgres, redis }
    }

    /// Lets everything happen that the schedule says; each is over when all that befell its victim is.
    pub fn faults(&self, schedule: &Schedule) -> Vec<Task<()>> {
        let mut tasks = Vec::new();
        for (replica, faults) in self.replicas.iter().zip(schedule.faults.clone()) {
            let (field, replica) = (self.field.clone(), replica.clone());
            tasks.push(Task::start(async move {
                for (at, fault) in faults {
                    field.until(at).await;
                    replica.suffer(fault, &field.calamities).await;
                }
            }));
        }
        let (field, common) = (self.field.clone(), schedule.common.clone());
        let (postgres, redis) = (self.postgres.clone(), self.redis.clone());
        tasks.push(Task::start(async move {
            for (at, fault) in common {
                field.until(at).await;
                let calamity = field.calamities.begin(None, format!("{fault:?}"), fault.may_cost());
                match fault {
                    Common::RestartPostgres => {
                        let postgres = postgres.clone();
                        tokio::task::spawn_blocking(move || postgres.restart()).await.unwrap();
                    }
                    Common::RestartRedis { down } => {
                        let redis = redis.as_ref().expect("a Redis to restart");
                        redis.lock().unwrap().kill();
                        tokio::time::sleep(Duration::from_millis(down)).await;
                        let redis = redis.clone();
                        tokio::task::spawn_blocking(move || redis.lock().unwrap().restart()).await.unwrap();
                    }
                    Common::FlushRedis => {
                        let redis = redis.clone().expect("a Redis to flush");
                        let flush = move || redis.lock().unwrap().cli(&["FLUSHALL"]);
                        assert_eq!(tokio::task::spawn_blocking(flush).await.unwrap(), "OK");
                    }
                }
                field.calamities.end(calamity);
            }
        }));
        tasks
    }
}

/// What the model says to each kind of question.
fn script(upstream: &Upstream, pace: Duration, hurry: &Gate) {
    for answer in [Answer::Short, Answer::Long, Answer::Hasty, Answer::Held] {
        let (at_once, paced) = deltas(answer);
        let script = Script::new().role().stamped(at_once).paced_until(paced, pace, hurry);
        let script = match answer {
            Answer::Held => script.gate(hurry),
            Answer::Short | Answer::Long | Answer::Hasty => script,
        };
        let tokens = (at_once + paced) as u64;
        upstream.when(answer.word(), script.finish("stop").usage(9, tokens).done());
    }
}
