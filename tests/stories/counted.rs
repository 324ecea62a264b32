//! Two gateways that share a Redis count once; without it each counts for itself, and nobody waits or is refused for that.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use tempfile::TempDir;
use tidegate::cluster::Cluster;
use tidegate::cluster::places::Seat;
use tidegate::cluster::rates::{Share, Taken};
use tidegate::config::load::File;
use tidegate::config::{Flags, load};
use tidegate::domain::clock::{Clock, Timestamp};
use tidegate::domain::rate::Rate;
use tidegate::lifecycle::Lifecycle;
use tidegate::{Parts, serve};
use tokio::net::TcpListener;

use crate::support::access::user;
use crate::support::{
    Client, Database, Encoding, Gateway, Redis, Request, Setup, Stream, Task, Upstream, chance, eventually,
};

/// How long the places of a replica that died are kept.
const LAPSES: Duration = Duration::from_secs(10);

struct Pair {
    gateways: [Gateway; 2],
    redis: Redis,
    _kept: (Database, Upstream, TempDir),
}

/// Two gateways whose application `shop` has these limits, on one database and one Redis.
async fn pair(limits: &[(&str, i64)]) -> Pair {
    let (database, upstream, redis) = (Database::fresh().await, Upstream::start().await, Redis::start());
    let folder = TempDir::new().unwrap();
    let pepper = folder.path().join("pepper").to_str().unwrap().to_owned();
    let start = || {
        let setup = Gateway::on(&database).upstream(&upstream).closed().set("auth.pepper_file", &*pepper);
        let setup = setup.set("cluster.redis_url", redis.url());
        let limited =
            |setup: Setup, (path, most): &(&str, i64)| setup.set(&format!("applications.0.limits.{path}"), *most);
        limits.iter().fold(setup, limited).start()
    };
    let gateways = [start().await, start().await];
    Pair { gateways, redis, _kept: (database, upstream, folder) }
}

impl Pair {
    /// A user's client of each.
    fn clients(&self, id: &str) -> [Client; 2] {
        self.gateways.each_ref().map(|gateway| gateway.client().bearing(&user(id)))
    }

    /// Waits until both count together.
    async fn count_together(&self) {
        let [a, b] = self.clients("somebody");
        eventually("both to count together again", async || {
            a.get("/v1/models").await;
            b.get("/v1/models").await;
            let again = |gateway: &Gateway| gateway.log().contains("are counted over all replicas again");
            self.gateways.iter().all(again).then_some(())
        })
        .await;
    }
}

/// How many of so many requests each, all at once, were let in.
async fn let_in(clients: &[Client; 2], each: usize) -> usize {
    let all = (0..2 * each).map(|at| clients[at % 2].get("/v1/models"));
    let replies = join_all(all).await;
    assert!(replies.iter().all(|reply| matches!(reply.status, 200 | 429)));
    replies.iter().filter(|reply| reply.status == 200).count()
}

#[tokio::test]
async fn of_two_hundred_over_two_replicas_as_many_are_let_in_as_one_limit_says() {
    let pair = pair(&[("requests_per_minute", 50), ("per_user.requests_per_minute", 40)]).await;
    let begun = Instant::now();
    let (anna, bert) = (pair.clients("anna"), pair.clients("bert"));
    let annas = let_in(&anna, 100).await;
    // One comes back every 1.5 s.
    let back = usize::try_from(begun.elapsed().as_millis() / 1500).unwrap();
    assert!((40..=40 + back).contains(&annas), "{annas} of 40 and {back}");
    // Whoever was refused has used up nothing of the application's.
    let berts = let_in(&bert, 100).await;
    let back = usize::try_from(begun.elapsed().as_millis() / 1200).unwrap();
    assert!((50..=50 + back).contains(&(annas + berts)), "{annas} and {berts} of 50 and {back}");
    // One may have come back meanwhile.
    let refused = eventually("a refusal", async || {
        let reply = bert[1].get("/v1/models").await;
        (reply.status == 429).then_some(reply)
    })
    .await;
    assert_eq!(refused.expect(429)["scope"], "application");
    assert!(refused.header("ratelimit").unwrap().contains("\"application-requests\";r=0;t="));
    assert!(refused.header("ratelimit").unwrap().contains("\"user-requests\";r="));
    // Whoever looks into Redis is told nobody's name, and what is kept goes by itself.
    let keys = pair.redis.cli(&["--scan"]);
    assert!(keys.lines().count() >= 3 && !keys.contains("anna") && !keys.contains("shop"), "{keys}");
    for key in keys.lines().filter(|key| key.contains("rate")) {
        let left: i64 = pair.redis.cli(&["PTTL", key]).parse().unwrap();
        assert!((0..=62_000).contains(&left), "{key}: {left}");
    }
}

#[tokio::test]
async fn who_guesses_is_counted_over_all_replicas_too() {
    let pair = pair(&[("per_address.requests_per_minute", 10)]).await;
    let guess = pair.gateways.each_ref().map(|gateway| gateway.client().bearing("tg_0123456789abcdef_guess"));
    let begun = Instant::now();
    let replies = join_all((0..60).map(|at| guess[at % 2].get("/v1/models"))).await;
    let looked_at = replies.iter().filter(|reply| reply.status == 401).count();
    let back = usize::try_from(begun.elapsed().as_secs() / 6).unwrap();
    assert!((10..=10 + back).contains(&looked_at), "{looked_at} of 10 and {back}");
}

/// Opens so many feeds at once over both: those that are let in.
async fn feeds(clients: &[Client; 2], conversation: &str, count: usize) -> Vec<Stream> {
    let feed = || Request::get(&format!("/v1/conversations/{conversation}/events")).accept(Encoding::Ndjson);
    let opened = join_all((0..count).map(|at| clients[at % 2].open(feed()))).await;
    assert!(opened.iter().all(|stream| matches!(stream.status(), 200 | 429)));
    opened.into_iter().filter(|stream| stream.status() == 200).collect()
}

#[tokio::test]
async fn open_streams_are_counted_over_two_replicas_and_those_of_a_dead_one_lapse() {
    let mut pair = pair(&[("per_user.streams", 10)]).await;
    let anna = pair.clients("anna");
    let conversation = anna[0].conversation().await;
    let mut open = feeds(&anna, &conversation, 200).await;
    assert_eq!(open.len(), 10);
    assert_eq!(feeds(&pair.clients("bert"), &pair.clients("bert")[0].conversation().await, 10).await.len(), 10);
    // Places are renewed for as long as streams are open.
    let begun = Instant::now();
    eventually("longer than a place that nobody renews", async || (begun.elapsed() > LAPSES).then_some(())).await;
    assert_eq!(feeds(&anna, &conversation, 2).await.len(), 0);
    open.truncate(4);
    eventually("the places of the streams that were left", async || {
        open.extend(feeds(&anna, &conversation, 10).await);
        (open.len() == 10).then_some(())
    })
    .await;
    assert_eq!(feeds(&anna, &conversation, 20).await.len(), 0);
    let died = Instant::now();
    pair.gateways[0].kill();
    let another = Request::get(&format!("/v1/conversations/{conversation}/events")).accept(Encoding::Ndjson);
    let _again = eventually("the places of the replica that died", async || {
        let stream = anna[1].open(another.clone()).await;
        (stream.status() == 200).then_some(stream)
    })
    .await;
    assert!(died.elapsed() < LAPSES + Duration::from_secs(3), "{:?}", died.elapsed());
}

#[tokio::test]
async fn while_redis_is_away_each_counts_for_itself_and_afterwards_all_count_once() {
    let mut pair = pair(&[("per_user.requests_per_minute", 5), ("per_user.streams", 3)]).await;
    let (dora, conversation) = (pair.clients("dora"), pair.clients("eve")[0].conversation().await);
    assert_eq!(let_in(&dora, 4).await, 5);
    pair.redis.kill();
    let anna = pair.clients("anna");
    assert_eq!(let_in(&anna, 10).await, 10, "each lets in five");
    for gateway in &pair.gateways {
        let ready = gateway.client().get("/readyz").await.expect(200);
        assert_eq!(
            (&ready["status"], &ready["components"]["cluster"]["status"]),
            (&json!("degraded"), &json!("unavailable"))
        );
        let said = gateway.log().matches("are counted by this replica alone").count();
        assert_eq!(said, 1, "it is said once");
    }
    let eve = pair.clients("eve");
    let mut open = feeds(&eve, &conversation, 4).await;
    assert_eq!(open.len(), 4);
    pair.redis.restart();
    pair.count_together().await;
    let bert = pair.clients("bert");
    assert_eq!(let_in(&bert, 10).await, 5);
    // What was opened meanwhile is counted by all, as soon as it is renewed.
    let placed = || pair.redis.cli(&["--scan", "--pattern", "tidegate:places:*"]);
    let key = eventually("the places of what is open", async || {
        let key = placed();
        (!key.is_empty() && pair.redis.cli(&["ZCARD", &key]) == "4").then_some(key)
    })
    .await;
    open.clear();
    eventually("what was closed to be given back", async || (pair.redis.cli(&["ZCARD", &key]) == "0").then_some(()))
        .await;
    // One that answers nothing is away too, and keeps nobody waiting for long.
    pair.redis.freeze();
    let carl = pair.clients("carl");
    let begun = Instant::now();
    assert_eq!(let_in(&carl, 5).await, 10);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    pair.redis.thaw();
}

#[tokio::test]
async fn a_replica_whose_clock_is_wrong_counts_like_the_others() {
    let (database, upstream, redis) = (Database::fresh().await, Upstream::start().await, Redis::start());
    let setup = || {
        let application = toml::toml! { name = "default" };
        let setup = Gateway::on(&database).upstream(&upstream).set("applications", vec![application]);
        setup.set("applications.0.limits.requests_per_minute", 10).set("cluster.redis_url", redis.url())
    };
    let gateway = setup().start().await;
    let life = Lifecycle::new();
    let file = File { name: "settings".to_owned(), text: setup().text() };
    let config = load(Some(&file), Vec::<(String, String)>::new(), Flags::default()).unwrap().config;
    let ahead = Clock::System.now().as_micros() + 3_600_000_000;
    let clock = Clock::Manual(Arc::new(AtomicI64::new(ahead)));
    let parts = Parts { clock, ..Parts::open(&config, &life).await.unwrap() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = Client::new(listener.local_addr().unwrap());
    let serving = Task::start(serve(config, parts, listener, life.clone()));
    eventually("the other to be ready", async || (other.get("/readyz").await.status == 200).then_some(())).await;
    let begun = Instant::now();
    let clients = [gateway.client(), other];
    let count = let_in(&clients, 50).await;
    let back = usize::try_from(begun.elapsed().as_secs() / 6).unwrap();
    assert!((10..=10 + back).contains(&count), "{count} of 10 and {back}");
    life.soft().cancel();
    serving.join().await.unwrap();
}

#[tokio::test]
async fn the_script_counts_as_the_rule_says() {
    let redis = Redis::start();
    let cluster = Cluster::new(&redis.url()).unwrap();
    let mut rng = chance();
    let mut refused = 0;
    for round in 0..40 {
        let mosts: Vec<u64> = (0..rng.usize(1..5))
            .map(|_| [rng.u64(1..5), rng.u64(1..100), rng.u64(1..2_000_000)][rng.usize(0..3)])
            .collect();
        let rates: Vec<Rate> = mosts.iter().map(|most| Rate::new(*most)).collect();
        let share = |(at, rate): (usize, &Rate)| Share::new(&[&round.to_string(), &at.to_string()], *rate);
        let shares: Vec<Share> = rates.iter().enumerate().map(share).collect();
        // A moment with all its digits.
        let mut now = 1_799_999_999_000_000 + rng.i64(0..2_000_000);
        let mut taken = vec![0; rates.len()];
        let longest = [0, 1000, 1_000_000, 30_000_000][rng.usize(0..4)];
        for _ in 0..100 {
            now += rng.i64(0..=longest);
            let nanos = u64::try_from(now).unwrap() * 1000;
            let one = |(rate, taken): (&Rate, &u64)| rate.take(*taken, nanos);
            let next: Vec<Result<u64, Duration>> = rates.iter().zip(&taken).map(one).collect();
            let reached = next.iter().position(Result::is_err);
            if reached.is_none() {
                taken = next.into_iter().map(Result::unwrap).collect();
            }
            refused += usize::from(reached.is_some());
            let owed = taken.iter().map(|taken| taken.saturating_sub(nanos)).collect();
            let answer = cluster.take(&shares, Some(Timestamp::from_micros(now))).await.unwrap();
            assert_eq!(answer, Taken { owed, reached }, "{mosts:?} at {now}");
        }
    }
    assert!((100..3900).contains(&refused), "{refused} of 4000");
}

/// What other versions of the program read and write: a change here takes two releases.
#[tokio::test]
async fn what_is_counted_is_kept_like_this() {
    let redis = Redis::start();
    let cluster = Cluster::new(&redis.url()).unwrap();
    let now = Clock::System.now();
    let (second, micros) = (now.as_micros() / 1_000_000, now.as_micros() % 1_000_000);
    let share = Share::new(&["shop", "user", "anna"], Rate::new(1));
    assert_eq!(cluster.take(&[share], Some(now)).await.unwrap().reached, None);
    // The next is due a minute later.
    let key = redis.cli(&["--scan", "--pattern", "tidegate:rate:*"]);
    assert_eq!(redis.cli(&["GET", &key]), format!("{} {}", second + 60, micros * 1000));
    let seat = Seat::new(&["shop", "user", "anna"]);
    assert!(cluster.open_place(&seat, 1).await.unwrap());
    let key = redis.cli(&["--scan", "--pattern", "tidegate:places:*"]);
    let place = redis.cli(&["ZRANGE", &key, "0", "-1", "WITHSCORES"]);
    let (name, lapses) = place.split_once('\n').unwrap();
    assert!(name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{place}");
    let left = lapses.parse::<i64>().unwrap() - now.as_micros() / 1000;
    assert!((10_000..15_000).contains(&left), "{left} ms");
}
