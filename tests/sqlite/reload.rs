//! SIGHUP: the settings are read again, in place or not at all.

use rustix::process::Signal;

use crate::stories::usage::price;
use crate::support::{Certificate, Database, Fold, Gate, Gateway, Script, Setup, Upstream, eventually};

fn setup(database: &Database, upstream: &Upstream) -> Setup {
    Gateway::on(database).upstream(upstream)
}

#[tokio::test]
async fn the_next_turn_asks_the_new_upstream_and_the_running_one_stays() {
    let (database, old, new) = (Database::fresh().await, Upstream::start().await, Upstream::start().await);
    let gateway = setup(&database, &old).start().await;
    let client = gateway.client();
    let gate = Gate::new();
    old.push(Script::new().delta("old").gate(&gate).delta(" and gold").finish("stop").done());
    let (running, next) = (client.conversation().await, client.conversation().await);
    let mut stream = client.ask(&running, "Which?").await;
    gate.reached().await;

    let line = gateway.reload(setup(&database, &new).set("upstreams.0.models", vec!["test-*", "other"])).await;
    assert!(line.contains("reloaded the upstreams (fake0)"), "{line}");
    let models = client.get("/v1/models").await.expect(200)["data"].to_string();
    assert!(models.contains("\"other\"") && models.contains("\"test-model\""), "{models}");

    new.push(Script::answer(&["new"]));
    let frames = client.ask(&next, "Which?").await.rest().await;
    assert_eq!(Fold::of(&frames).content(), "new");
    gate.open();
    assert_eq!(Fold::of(&stream.rest().await).content(), "old and gold");
    assert_eq!((old.calls().len(), new.calls().len()), (1, 1));
}

#[tokio::test]
async fn the_next_call_costs_the_new_price() {
    let (database, upstream) = (Database::fresh().await, Upstream::start().await);
    let at = |prompt| setup(&database, &upstream).set("prices", vec![price("test-model", "2026-01-01", prompt)]);
    let gateway = at(1_000_000).start().await;
    let client = gateway.client();
    let cost = async || {
        let conversation = client.conversation().await;
        client.ask_whole(&conversation, "How much?").await.expect(200)["usage"]["cost_nano_usd"].clone()
    };
    assert_eq!(cost().await, 11 + 40);
    let line = gateway.reload(at(2_000_000)).await;
    assert!(line.contains("reloaded the upstreams (fake0), the prices and the applications"), "{line}");
    assert_eq!(cost().await, 2 * (11 + 40));
    let line = gateway.reload(at(-1)).await;
    assert!(line.contains("_nano_usd_per_mtok` must be at least 0"), "{line}");
    assert_eq!(cost().await, 2 * (11 + 40));
    assert!(!gateway.log().contains("until a restart"), "prices take none");
}

#[tokio::test]
async fn what_cannot_be_changes_nothing_and_is_named() {
    let (database, upstream) = (Database::fresh().await, Upstream::start().await);
    let gateway = setup(&database, &upstream).start().await;
    let good = || setup(&database, &upstream);
    for (bad, named) in [
        (good().set("limits.idle_s", "soon"), "`limits.idle_s` must be"),
        (good().set("upstreams.0.base_url", "no address"), "`upstreams.0.base_url` must be"),
        (good().set("upstreams.0.ca_file", "absent.pem"), "upstreams.0.ca_file: "),
        (good().set("upstreams.0.models", vec!["other"]), "`default_model` is `test-model`, which no upstream serves"),
        (
            good().set("upstreams.0.models", vec!["other"]).set("default_model", "other"),
            "a new default_model takes a restart",
        ),
    ] {
        let line = gateway.reload(bad).await;
        assert!(line.contains("nothing is reloaded: ") && line.contains(named), "{line} does not say {named}");
    }
    std::fs::remove_file(gateway.home().join("tidegate.toml")).unwrap();
    let line = gateway.hang_up().await;
    assert!(line.contains("nothing is reloaded: tidegate.toml: cannot be read"), "{line}");

    let client = gateway.client();
    let conversation = client.conversation().await;
    client.ask(&conversation, "Still there?").await.rest().await;
    assert_eq!(upstream.calls().len(), 1);
    assert!(gateway.reload(good()).await.contains("reloaded the upstreams"), "it is read again all the same");
}

#[tokio::test]
async fn what_takes_a_restart_is_named() {
    let (database, upstream, certificate) = (Database::fresh().await, Upstream::start().await, Certificate::fresh());
    let gateway = setup(&database, &upstream).start().await;
    gateway.reload(setup(&database, &upstream)).await;
    assert!(!gateway.log().contains("until a restart"), "nothing has changed");
    let changed = setup(&database, &upstream).set("limits.grace_s", 7).set("listen", "127.0.0.1:1").tls(&certificate);
    let line = gateway.reload(changed).await;
    assert!(line.contains("reloaded the upstreams (fake0)") && !line.contains("certificate"), "{line}");
    let line = eventually("what takes a restart", async || {
        gateway.log().lines().find(|line| line.contains("until a restart")).map(str::to_owned)
    })
    .await;
    assert!(line.contains(": limits.grace_s, listen, tls.cert_file, tls.key_file"), "{line}");
    // Everything is as it was, and the port speaks as before.
    gateway.client().get("/v1/models").await.expect(200);
}

#[tokio::test]
async fn a_word_before_it_is_ready_and_one_after_another_are_heard() {
    let (database, upstream) = (Database::fresh().await, Upstream::start().await);
    let mut gateway = setup(&database, &upstream).start().await;
    gateway.kill();
    let blocked = database.block().await;
    gateway.relaunch();
    eventually("signals to be listened to", async || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid().as_raw_nonzero())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
        let caught = u64::from_str_radix(&caught, 16).unwrap();
        (caught & 1 != 0).then_some(())
    })
    .await;
    gateway.signal(Signal::HUP);
    drop(blocked);
    gateway.await_ready().await;
    eventually("the early word", async || gateway.log().contains("reloaded the upstreams").then_some(())).await;
    // However many come while one is at work, the last one is followed by a reading.
    for _ in 0..50 {
        gateway.signal(Signal::HUP);
    }
    let line = gateway.reload(setup(&database, &upstream).set("upstreams.0.name", "last")).await;
    let log = || gateway.log();
    eventually("the last word", async || log().contains("reloaded the upstreams (last)").then_some(())).await;
    assert!(line.contains("reloaded"), "{line}");
}
