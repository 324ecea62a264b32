//! Whatever an upstream does, the turn has one right end, what was said is kept, and the next request is fine.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Scene, Script, Told, Upstream, assert_stamps};

/// What the upstream's own words must never be seen in.
const SECRET: &str = "sk-upstream-secret";

/// What is due after a fault.
struct Due {
    /// The turn's status.
    status: &'static str,
    /// The error's code; empty: not looked at.
    code: &'static str,
    /// The HTTP status where JSON was asked for.
    http: u16,
    /// How many stamps were said.
    said: usize,
    /// `reported`, `estimated`, or empty where no upstream accepted the call.
    usage: &'static str,
}

async fn scene() -> Scene {
    Scene::with(|setup| setup.set("limits.first_token_s", 1).set("limits.idle_s", 1).set("limits.connect_s", 2)).await
}

/// Plays the fault to a stream and to a waiting request.
async fn fault(script: Script, due: Due) -> Scene {
    let scene = scene().await;
    scene.upstream.when("fault", script);
    assert_fault(&scene, &due).await;
    assert_eq!(scene.upstream.calls().len(), 4, "each question is asked once");
    scene
}

async fn assert_fault(scene: &Scene, due: &Due) {
    let told = scene.told("fault").await;
    assert_end(&told, due);
    assert_next_is_fine(scene, &told.conversation).await;

    let conversation = scene.client.conversation().await;
    let reply = scene.client.ask_whole(&conversation, "fault").await;
    let body = reply.expect(due.http);
    let kept = scene.client.answer(&conversation).await;
    if due.http == 200 {
        assert_eq!(body, kept);
    } else {
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        assert_eq!(body["status"], due.http);
        assert_eq!(body["turn_id"], kept["turn_id"]);
        assert!(due.code.is_empty() || body["code"] == due.code, "{body}");
    }
    assert_eq!((&kept["status"], &kept["content"]), (&told.message["status"], &told.message["content"]));
    assert_next_is_fine(scene, &conversation).await;

    for seen in [told.end().to_string(), told.message.to_string(), body.to_string(), kept.to_string()] {
        assert!(!seen.contains(SECRET), "the upstream's text is relayed: {seen}");
    }
}

fn assert_end(told: &Told, due: &Due) {
    let message = &told.message;
    assert_eq!(message["status"], due.status, "{message}");
    let failed = matches!(due.status, "failed" | "timeout");
    assert!(!failed || message["error"]["code"].is_string() || due.status == "timeout", "{message}");
    assert!(due.code.is_empty() || message["error"]["code"] == due.code, "{message}");
    assert_eq!(assert_stamps(told.content()), due.said);
    assert_eq!(message["usage"]["basis"].as_str().unwrap_or_default(), due.usage, "{message}");
    if due.usage == "estimated" && due.said > 0 {
        assert!(message["usage"]["completion_tokens"].as_u64().unwrap() > 0, "{message}");
    }
    if due.usage == "reported" {
        assert_eq!(
            (&message["usage"]["prompt_tokens"], &message["usage"]["completion_tokens"]),
            (&json!(7), &json!(9))
        );
    }
    let usages = told.frames.iter().filter(|frame| frame.kind() == "usage").count();
    assert_eq!(usages, usize::from(!due.usage.is_empty()), "one usage for each call that an upstream accepted");
    let steps = message["steps"].as_array().unwrap();
    assert!(steps.iter().all(|step| step["status"] != "running"), "{message}");
}

async fn assert_next_is_fine(scene: &Scene, conversation: &str) {
    let message = scene.client.ask_whole(conversation, "and now?").await.expect(200);
    assert_eq!((&message["status"], &message["content"]), (&json!("completed"), &json!("Hello from the fake.")));
}

fn refusal(status: u16) -> Script {
    Script::status(status, &[("retry-after", "7")], &json!({"error": {"message": SECRET}}))
}

const UNAVAILABLE: Due = Due { status: "failed", code: "upstream_unavailable", http: 503, said: 0, usage: "" };
const REJECTED: Due = Due { status: "failed", code: "upstream_error", http: 502, said: 0, usage: "" };
const TRUNCATED: Due = Due { status: "truncated", code: "", http: 200, said: 3, usage: "estimated" };
const WHOLE: Due = Due { status: "completed", code: "", http: 200, said: 3, usage: "reported" };

#[tokio::test]
async fn an_upstream_that_is_not_there_is_unavailable() {
    let nobody = Upstream::nobody().await;
    let scene = Scene::with(|setup| {
        let setup = setup.upstream_at(&nobody).set("upstreams.1.models", vec!["nobody"]);
        setup.set("upstreams.0.models", vec!["test-model"])
    })
    .await;
    let conversation = scene.client.conversation().await;
    let body = json!({"content": "hi", "model": "nobody"});
    let stream = scene.client.ask_as(crate::support::Encoding::Ndjson, &conversation, &body).await;
    assert_end(&Told::hear(&scene.client, &conversation, stream).await, &UNAVAILABLE);
    let reply = scene.client.post(&format!("/v1/conversations/{conversation}/messages"), &body).await;
    assert_eq!(reply.expect(503)["code"], "upstream_unavailable");
    assert_next_is_fine(&scene, &conversation).await;
}

#[tokio::test]
async fn a_500_is_unavailable() {
    fault(refusal(500), UNAVAILABLE).await;
}

#[tokio::test]
async fn a_503_is_unavailable() {
    fault(refusal(503), UNAVAILABLE).await;
}

#[tokio::test]
async fn a_reset_before_the_answer_is_unavailable() {
    fault(Script::slam(), UNAVAILABLE).await;
}

#[tokio::test]
async fn a_429_is_rate_limited_and_says_when_to_retry() {
    let scene = fault(refusal(429), Due { code: "upstream_rate_limited", http: 429, ..UNAVAILABLE }).await;
    let conversation = scene.client.conversation().await;
    let reply = scene.client.ask_whole(&conversation, "fault").await;
    assert_eq!(reply.header("retry-after"), Some("7"), "as the upstream said");
}

#[tokio::test]
async fn any_other_refusal_is_an_error() {
    for status in [400, 401, 404, 408, 422] {
        fault(refusal(status), REJECTED).await;
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let scene = scene().await;
    let elsewhere = Upstream::start().await;
    let location = format!("{}/chat/completions", elsewhere.base_url());
    for status in [301, 302, 307, 308] {
        scene.upstream.when("fault", Script::status(status, &[("location", &location)], &Value::Null));
        assert_fault(&scene, &REJECTED).await;
    }
    assert_eq!(elsewhere.calls().len(), 0);
}

#[tokio::test]
async fn silence_instead_of_an_answer_is_a_timeout() {
    let scene = fault(Script::silence(), Due { status: "timeout", http: 504, ..UNAVAILABLE.uncoded() }).await;
    scene.upstream.calls()[0].closed().await;
}

#[tokio::test]
async fn silence_before_the_first_token_is_a_timeout() {
    let script = Script::new().comment("thinking").role().hang();
    let due = Due { status: "timeout", code: "", http: 504, said: 0, usage: "estimated" };
    let scene = fault(script, due).await;
    scene.upstream.calls()[0].closed().await;
}

#[tokio::test]
async fn silence_after_the_first_token_is_a_timeout_that_keeps_what_was_said() {
    let due = Due { status: "timeout", code: "", http: 504, said: 3, usage: "estimated" };
    fault(Script::new().stamped(3).hang(), due).await;
}

#[tokio::test]
async fn a_slow_upstream_that_keeps_talking_is_no_timeout() {
    let script = Script::new().paced(3, Duration::from_millis(600)).finish("stop").usage(7, 9).done();
    fault(script, WHOLE).await;
}

#[tokio::test]
async fn a_close_in_the_middle_truncates() {
    fault(Script::new().stamped(3).cut(), TRUNCATED).await;
}

#[tokio::test]
async fn a_reset_in_the_middle_truncates() {
    let scene = scene().await;
    // A reset may overtake what was sent just before it, so how much was said is not for the test to know.
    scene.upstream.when("fault", Script::new().stamped(3).reset());
    let told = scene.told("fault").await;
    assert_eq!(told.message["status"], "truncated");
    assert!(assert_stamps(told.content()) <= 3);
    assert_next_is_fine(&scene, &told.conversation).await;
}

#[tokio::test]
async fn a_clean_end_without_the_end_mark_truncates() {
    fault(Script::new().stamped(3).end(), TRUNCATED).await;
    fault(Script::until_close().stamped(3), TRUNCATED).await;
}

#[tokio::test]
async fn done_alone_is_no_end_mark() {
    fault(Script::new().stamped(3).done(), TRUNCATED).await;
    fault(Script::new().stamped(3).usage(7, 9).done(), Due { usage: "reported", ..TRUNCATED }).await;
}

#[tokio::test]
async fn a_finish_reason_without_done_is_the_end() {
    fault(Script::new().stamped(3).usage(7, 9).finish("stop"), WHOLE).await;
    fault(Script::new().stamped(3).finish("stop").usage(7, 9).cut(), WHOLE).await;
}

#[tokio::test]
async fn the_models_own_reasons_to_end_are_told() {
    for (reason, status) in [("length", "length"), ("content_filter", "filtered")] {
        let script = Script::new().stamped(3).finish(reason).usage(7, 9).done();
        let scene = fault(script, Due { status, ..WHOLE }).await;
        assert_eq!(scene.told("fault").await.message["finish_reason"], reason);
    }
}

#[tokio::test]
async fn garbage_is_a_breach_of_protocol() {
    let due = || Due { status: "failed", code: "upstream_protocol", http: 502, said: 3, usage: "estimated" };
    fault(Script::new().stamped(3).data(&format!("{{not json {SECRET}")).stamped(1), due()).await;
    fault(
        Script::new().stamped(3).raw(b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\xfe\"}}]}\n\n".to_vec()),
        due(),
    )
    .await;
}

#[tokio::test]
async fn a_page_instead_of_a_stream_is_no_answer() {
    let page = Script::status(200, &[("content-type", "text/html")], &json!(SECRET));
    let scene = scene().await;
    scene.upstream.when("fault", page);
    let told = scene.told("fault").await;
    let (status, code) = (&told.message["status"], &told.message["error"]["code"]);
    assert_eq!((status, code), (&json!("failed"), &json!("upstream_protocol")), "{}", told.message);
    assert!(!told.message.to_string().contains(SECRET));
    assert_next_is_fine(&scene, &told.conversation).await;
}

#[tokio::test]
async fn an_error_object_fails_the_turn_and_keeps_what_was_said() {
    let due = || Due { status: "failed", code: "upstream_error", http: 502, said: 3, usage: "estimated" };
    fault(Script::new().stamped(3).error(SECRET).stamped(2), due()).await;
    fault(Script::new().stamped(3).usage(7, 9).error(SECRET), Due { usage: "reported", ..due() }).await;
}

#[tokio::test]
async fn large_deltas_come_through_as_they_were_cut() {
    let scene = scene().await;
    let text = |n: usize| format!("{n:04}{}", "é".repeat(8190));
    scene.upstream.push(Script::new().deltas(64, Duration::ZERO, text).finish("stop").usage(7, 9).done());
    let told = scene.told("go").await;
    let deltas = told.texts("delta");
    assert_eq!(deltas.len(), 64);
    assert!(deltas.iter().enumerate().all(|(n, delta)| *delta == text(n)));
}

#[tokio::test]
async fn an_answer_in_single_bytes_is_the_same_answer() {
    let whole = || Script::new().role().stamped(3).finish("stop").usage(7, 9).done();
    fault(whole().writes_of(1), WHOLE).await;
    fault(whole().writes_of(5), WHOLE).await;
}

#[tokio::test]
async fn every_line_end_and_noise_is_read() {
    for line_end in ["\n", "\r\n", "\r"] {
        let script = Script::new().bom().line_end(line_end).comment("OPENROUTER PROCESSING").role().stamped(3);
        fault(script.raw("event: noise\nid: 7\nretry: 5\n\n").finish("stop").usage(7, 9).done().writes_of(3), WHOLE)
            .await;
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_ends_as_length() {
    let scene = Scene::with(|setup| setup.set("limits.max_answer_bytes", 100)).await;
    scene.upstream.push(Script::new().stamped(1000).hang());
    let told = scene.told("go").await;
    assert_eq!(told.message["status"], "length");
    // Whether the delta that would go beyond is the last or already too much is not promised.
    assert!(told.content().len() < 110 && assert_stamps(told.content()) > 10, "{}", told.content());
    scene.upstream.call(0).await.closed().await;
}

#[tokio::test]
async fn the_next_upstream_is_asked_only_while_none_has_answered() {
    let second = Upstream::start().await;
    let scene = Scene::with(|setup| setup.upstream(&second)).await;
    let mut asked = 0;
    for script in [refusal(500), refusal(503), refusal(429), refusal(408), Script::slam()] {
        scene.upstream.push(script);
        asked += 1;
        let told = scene.told("go").await;
        assert_eq!(told.message["status"], "completed", "{}", told.message);
        assert_eq!((scene.upstream.calls().len(), second.calls().len()), (asked, asked));
    }
    for (script, status) in [
        (refusal(400), "failed"),
        (refusal(404), "failed"),
        (Script::new().cut(), "truncated"),
        (Script::new().stamped(1).error(SECRET), "failed"),
        (Script::new().stamped(1), "truncated"),
    ] {
        scene.upstream.push(script);
        let told = scene.told("go").await;
        assert_eq!(told.message["status"], status, "{}", told.message);
    }
    assert_eq!(
        second.calls().len(),
        asked,
        "after an answer, or a refusal of the request itself, nobody else is asked"
    );
    scene.upstream.refuse();
    assert_eq!(scene.told("go").await.message["status"], "completed");
}

#[tokio::test]
async fn a_connection_that_does_not_open_in_time_is_left_for_the_next_upstream() {
    // A listener whose queue is full lets no further connection open (Linux listen(2)).
    let full = TcpSocket::new_v4().unwrap();
    full.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let full = full.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(open) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        queued.push(open.unwrap());
    }
    let next = Upstream::start().await;
    let scene = Scene::with(|setup| {
        let base_url = format!("http://{address}/v1");
        let setup = setup.upstream_at(&base_url).upstream_at(&base_url).upstream(&next).set("limits.connect_s", 1);
        let setup = setup.set("upstreams.0.models", vec!["test-model"]).set("upstreams.1.models", vec!["alone"]);
        setup.set("upstreams.2.models", vec!["twice"]).set("upstreams.3.models", vec!["twice"])
    })
    .await;
    let conversation = scene.client.conversation().await;
    for (model, status, code) in [("alone", 503, "upstream_unavailable"), ("twice", 200, "")] {
        let began = tokio::time::Instant::now();
        let body = json!({"content": "hi", "model": model});
        let reply = scene.client.post(&format!("/v1/conversations/{conversation}/messages"), &body).await;
        let reply = reply.expect(status);
        assert_eq!(reply["code"].as_str().unwrap_or_default(), code);
        assert!(began.elapsed() >= Duration::from_secs(1));
    }
    assert_eq!(next.calls().len(), 1);
    drop((full, queued));
}

impl Due {
    /// The same, whatever the code.
    fn uncoded(self) -> Self {
        Self { code: "", ..self }
    }
}
