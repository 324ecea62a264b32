//! What the stories are told with. Everything goes through the public door: the built binary as a
//! process, a config file, a socket.
//!
//! ```text
//! let scene = Scene::new().await;                                // database, upstream, gateway, client at once; or:
//! let upstream = Upstream::start().await;                        // a model that says what the test wants
//! upstream.when("weather", Script::answer(&["It ", "rains."]));  // by a word of the question…
//! upstream.push(Script::new().stamped(3).gate(&gate).reset());   // …else the queue, else `always`
//! let database = Database::fresh().await;                        // the target's kind, this test's own
//! let mut gateway = Gateway::on(&database).upstream(&upstream).set("limits.idle_s", 1).start().await;
//! let client = gateway.client();
//! let conversation = client.conversation().await;
//! let mut stream = client.ask(&conversation, "weather?").await;  // NDJSON; `ask_as` for the rest
//! let first = stream.event().await;                              // a Frame: json, bytes, id
//! let rest = stream.rest().await;                                // up to the close
//! let fold = Fold::of(&rest); fold.assert_same_as(&client.answer(&conversation).await);
//! ```
//!
//! - [`Upstream`]: `start`, `push`, `when`, `always`, `calls`, `call(n)` (waits for it), `base_url`,
//!   `refuse` (nobody listens any more), `nobody` (an address where nobody ever did). A [`Call`] has the
//!   request, `closed().await` (when the gateway let go) and `is_closed`.
//! - [`Script`]: what one call is answered with; see its methods. [`Gate`]: holds a script until the test
//!   says so: `reached().await`, `pass(n)`, `open()`. [`stamp`], [`assert_stamps`]: numbered deltas, so that
//!   loss, doubles and disorder show.
//! - [`Client`]: `get`, `post`, `send` → [`Reply`]; `ask`, `ask_as`, `events`, `open` → [`Stream`];
//!   `conversation`, `messages`, `answer`, `turn`, `ended`, `stop`, `readers`; `with_header`, `over_http2`, `raw`, `knock` (asks and leaves).
//! - [`Stream`]: `event`, `events(n)`, `rest`, `leavings` (however it ends), `try_event`, `bytes(n)` and
//!   `come`, `pace`, `leave` (or drop it), `abort` (RST), `status`, `header`, `turn`, `text` (a refusal's body), `closing`,
//!   `read_to_close`, `pings`, `comments`, `retry`, `port` (for `Gateway::holds`). Framing
//!   is checked on the way; a breach fails the test with the bytes.
//! - [`Fold`]: the test's own fold, written from the contract.
//! - [`Gateway`]: `kill`, `signal`, `terminate`, `exit`, `restart` (same database, same port; `relaunch` and `try_ready` where
//!   it may fail), `freeze`, `thaw`,
//!   `memory`, `peak_memory`, `descriptors`, `holds(port)`, `log`; a panic in it fails the test at the end; `Gateway::on(..).fails()` for a start that must not succeed.
//!   `reload(setup)` and `hang_up` (SIGHUP) give the line that answers.
//! - [`Certificate`]: for a gateway under TLS (`setup.tls(&certificate)`): `fresh`, `renew`, `spoil`, `client`, `connect`.
//! - [`Scene`]: all of them together: `new`, `with(|setup| …)`; `told(content)` → [`Told`], a turn from its first
//!   event to its end with the saved message, checked against each other.
//! - [`Database`]: `fresh`, `on(server)`, `url`, `through(&proxy)`, `texts(sql)`, `numbers(sql)`, `run(sql)`, `refuses(sql)`, `block` (nobody
//!   else may write while the guard lives); SQLite: `folder`; PostgreSQL: `server`, to put a proxy before.
//! - [`Row`]: rows as JSON: `Database::tables`, `rows(table)`, `insert(table, row)`, `migrate_to(number)`.
//! - [`Record`]: an ended turn as the record tells it: `read`, `crash` (S and R), `assert_owed(cursor, frames)`, `resume`.
//! - [`Proxy`]: stands before PostgreSQL, the gateway or an upstream: `cut`, `heal`, `pause`, `resume`,
//!   `delay`, `hold_replies_after`, `hold_one_after`.
//! - [`house::House`]: a store without a gateway, and what it is asked; for the store's own story.
//! - [`kept::Kept`]: all that a database holds, to be looked through.
//! - [`Outage`]: a database of the target's kind that goes away (`begin`) and comes back (`end`).
//! - [`Redis`]: a Redis of the test's own: `start`, `url`, `through(&proxy)`, `address`, `cli(words)`, `kill`, `restart` (empty, on
//!   the same port), `freeze`, `thaw`.
//! - [`Foreign`]: a program of somebody else's, `serve(…)` for one that listens; gone when dropped.
//! - [`Browser`]: headless Chromium; only the `browser` target has it installed for sure: `page`, `js`, `until`,
//!   `complaints` (what the console said), `resize`, `prefer` (light or dark),
//!   `freeze`, `thaw`, `network` (whether it is there).
//! - [`chance`]: random numbers whose seed is printed, and can be given as `TIDEGATE_TEST_SEED`.
//! - [`seeds`], [`chance_of`]: the same for a story of many rounds, each with a seed of its own.
//! - [`Pulse`]: how long the gateway takes to say that it lives, for promises in milliseconds.
//! - [`kills`]: how often a story that kills does so; `scripts/soak` asks for more.
//! - [`eventually`]: polls a condition; its limit only catches hangs. [`within`]: the same for a future.
//! - [`Collector`]: takes traces by OTLP and keeps them: `url`, `spans`, `wait_for(n)`.
//! - [`access`]: for a gateway whose callers must say who they are: `Scene::closed`, `Setup::closed`, `Gateway::key`,
//!   `Client::bearing`, `Scene::through(widget)`, `visitor(widget)`; `user(id)` and `signed(secret, claims)` make tokens.
//! - [`Task`]: a future in the background; it is aborted when dropped and its panic is the test's.
#![expect(dead_code, reason = "no target tells every story, so none uses every tool")]

pub mod access;
mod browser;
mod certificate;
mod client;
mod collector;
mod database;
mod fold;
mod foreign;
mod frames;
mod gate;
mod gateway;
pub mod house;
mod http1;
pub mod kept;
mod outage;
mod pair;
mod proxy;
mod pulse;
mod record;
mod redis;
mod rows;
mod scene;
mod script;
mod setup;
mod socket;
mod stream;
mod task;
mod upstream;

use std::future::Future;
use std::time::{Duration, Instant};

#[expect(unused_imports, reason = "no target tells every story, so none uses every tool")]
pub use self::{
    browser::Browser,
    certificate::Certificate,
    client::{Client, Encoding, Reply, Request},
    collector::{Collector, Span},
    database::{Block, Database, Kind},
    fold::Fold,
    foreign::Foreign,
    frames::Frame,
    gate::Gate,
    gateway::{Gateway, announced, program},
    http1::Closing,
    outage::Outage,
    pair::Pair,
    proxy::Proxy,
    pulse::Pulse,
    record::Record,
    redis::Redis,
    rows::Row,
    scene::{Scene, Told},
    script::{Script, assert_stamps, stamp},
    setup::Setup,
    stream::Stream,
    task::Task,
    upstream::{Call, Upstream},
};

/// How long anything may take before the test is taken to hang.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for `future`, and says what it waited for if that hangs.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {} s for {what}", PATIENCE.as_secs()),
    }
}

/// Polls until `look` gives something, and says what it waited for if it never does.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited {} s for {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Random numbers. The seed is printed, and taken from `TIDEGATE_TEST_SEED` where that is set.
pub fn chance() -> fastrand::Rng {
    chance_of(seed())
}

/// Random numbers from this seed, which is printed.
pub fn chance_of(seed: u64) -> fastrand::Rng {
    println!("TIDEGATE_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// A seed for each of `rounds`: the last that was printed, given as `TIDEGATE_TEST_SEED`, makes that round the first.
pub fn seeds(rounds: usize) -> impl Iterator<Item = u64> {
    let first = seed();
    (0..rounds as u64).map(move |round| first.wrapping_add(round))
}

fn seed() -> u64 {
    let given = std::env::var("TIDEGATE_TEST_SEED").ok();
    given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().expect("TIDEGATE_TEST_SEED is a number"))
}

/// How often a story that kills does so: `TIDEGATE_TEST_KILLS`, or a few.
pub fn kills() -> usize {
    let given = std::env::var("TIDEGATE_TEST_KILLS").ok();
    given.map_or(20, |kills| kills.parse().expect("TIDEGATE_TEST_KILLS is a number"))
}
