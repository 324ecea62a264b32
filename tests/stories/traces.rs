//! A collector is told of every turn: a span over the whole of it, and one for each step; never a word of what was said.

use std::time::Duration;

use serde_json::json;

use crate::support::{Collector, Encoding, Gate, Request, Scene, Script, Setup, Span, eventually};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn traced() -> (Scene, Collector) {
    let collector = Collector::start().await;
    let url = collector.url();
    // OpenTelemetry's own variable: spans leave ten times a second.
    let scene = Scene::with(|setup| setup.set("otel.endpoint", url).env("OTEL_BSP_SCHEDULE_DELAY", "100")).await;
    (scene, collector)
}

#[track_caller]
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.span.name == name).unwrap_or_else(|| panic!("no span {name} in {spans:#?}"))
}

#[tokio::test]
async fn a_turn_is_a_span_over_its_whole_stream_and_the_models_call_one_below_it() {
    let (scene, collector) = traced().await;
    let script = Script::new().delta("words that nobody else").paced(12, Duration::from_millis(10));
    scene.upstream.always(script.delta(" may read").finish("stop").usage(3, 5).done());
    let conversation = scene.client.conversation().await;
    let mut stream = scene.client.ask(&conversation, "a secret question").await;
    stream.events(3).await;
    assert_eq!(collector.spans().len(), 0, "a span leaves when it is over");
    let rest = stream.rest().await;
    let spans = collector.wait_for(2).await;
    let (turn, call) = (named(&spans, "turn"), named(&spans, "chat test-model"));
    assert_eq!(turn.service, "tidegate");
    assert_eq!(format!("turn_{}", turn.trace()), stream.turn());
    assert_eq!((turn.parent(), call.parent(), call.trace()), (String::new(), turn.id(), turn.trace()));
    assert!(turn.millis() >= call.millis() && call.millis() >= 100, "{spans:#?}");
    let end = &rest.last().unwrap().json;
    for (span, key, value) in [
        (turn, "gen_ai.conversation.id", &*conversation),
        (turn, "tidegate.turn.id", &stream.turn()),
        (turn, "tidegate.turn.status", "completed"),
        (turn, "tidegate.turn.events", &end["seq"].to_string()),
        (call, "gen_ai.operation.name", "chat"),
        (call, "gen_ai.provider.name", "openai"),
        (call, "gen_ai.request.model", "test-model"),
        (call, "gen_ai.usage.input_tokens", "3"),
        (call, "gen_ai.usage.output_tokens", "5"),
        (call, "tidegate.upstream", "fake0"),
    ] {
        assert_eq!(span.attribute(key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(turn.attribute("error.type"), None);
    let told = format!("{spans:?}");
    assert!(!told.contains("may read") && !told.contains("secret"), "{told}");
    // The upstream knows which span it works for.
    let header = scene.upstream.call(0).await.header("traceparent").map(str::to_owned);
    assert_eq!(header, Some(format!("00-{}-{}-01", call.trace(), call.id())));
}

#[tokio::test]
async fn a_request_that_is_part_of_a_trace_has_its_turn_in_it() {
    let (scene, collector) = traced().await;
    let conversation = scene.client.conversation().await;
    let target = format!("/v1/conversations/{conversation}/messages");
    let requests = [
        Request::post(&target, &json!({"content": "go"})).accept(Encoding::Ndjson),
        Request::post("/v1/chat/stream", &json!({"message": "go"})).accept(Encoding::Sse),
        Request::get("/v1/chat/stream?message=go&key=k").accept(Encoding::Sse),
    ];
    for request in requests {
        scene.client.open(request.header("traceparent", PARENT)).await.rest().await;
    }
    scene
        .client
        .send(Request::post("/v1/conversations", &json!({"first_message": "go"})).header("traceparent", PARENT))
        .await
        .expect(201);
    let spans = collector.wait_for(8).await;
    for span in &spans {
        assert_eq!(span.trace(), "0af7651916cd43dd8448eb211c80319c");
    }
    let turns: Vec<&Span> = spans.iter().filter(|span| span.span.name == "turn").collect();
    assert_eq!(turns.len(), 4);
    assert!(turns.iter().all(|turn| turn.parent() == "b7ad6b7169203331"), "{turns:#?}");
    // Whoever does not want to be traced is not; what is no traceparent counts as none.
    for (header, is_told) in [(PARENT.replace("-01", "-00"), false), ("nonsense".to_owned(), true)] {
        let before = collector.spans().len();
        let request = Request::post("/v1/chat/stream", &json!({"message": "go"})).accept(Encoding::Ndjson);
        scene.client.open(request.header("traceparent", &header)).await.rest().await;
        if is_told {
            let spans = collector.wait_for(before + 2).await;
            assert!(spans[before..].iter().all(|span| !span.trace().starts_with("0af7")), "{spans:#?}");
        }
    }
    assert_eq!(collector.spans().len(), 10, "one that is not sampled is not told");
}

#[tokio::test]
async fn what_went_wrong_is_told_with_the_span() {
    let (scene, collector) = traced().await;
    scene.upstream.always(Script::new().delta("half").cut());
    scene.told("go").await;
    let spans = collector.wait_for(2).await;
    let (turn, call) = (named(&spans, "turn"), named(&spans, "chat test-model"));
    assert_eq!(turn.attribute("error.type").as_deref(), Some("upstream_truncated"));
    assert_eq!(call.attribute("error.type").as_deref(), Some("truncated"));
    for span in [turn, call] {
        assert_eq!(span.span.status.as_ref().unwrap().code, 2, "STATUS_CODE_ERROR");
    }
}

#[tokio::test]
async fn the_last_traces_leave_before_the_process_does() {
    let (mut scene, collector) = traced().await;
    let gate = Gate::new();
    scene.upstream.always(Script::new().delta("one").gate(&gate).finish("stop").usage(1, 1).done());
    let conversation = scene.client.conversation().await;
    let mut stream = scene.client.ask(&conversation, "go").await;
    stream.events(3).await;
    scene.gateway.terminate();
    gate.open();
    stream.rest().await;
    assert!(scene.gateway.exit().await.success());
    assert_eq!(collector.spans().len(), 2);
}

#[tokio::test]
async fn what_is_for_the_collector_goes_nowhere_else() {
    let other = Collector::start().await;
    let collector = Collector::before(&other).await;
    let setup = |setup: Setup| setup.set("otel.endpoint", collector.url()).env("OTEL_BSP_SCHEDULE_DELAY", "50");
    let scene = Scene::with(|all| setup(all).env("HTTP_PROXY", &other.url())).await;
    scene.told("go").await;
    eventually("the collector to be asked", async || (collector.asked() > 0).then_some(())).await;
    assert_eq!(other.spans().len(), 0);
}

#[tokio::test]
async fn a_collector_that_is_gone_harms_nobody() {
    let collector = Collector::start().await;
    let url = collector.url();
    drop(collector);
    let mut scene = Scene::with(|setup| setup.set("otel.endpoint", url).env("OTEL_BSP_SCHEDULE_DELAY", "50")).await;
    for _ in 0..3 {
        assert_eq!(scene.told("go").await.end()["status"], "completed");
    }
    scene.gateway.terminate();
    assert!(scene.gateway.exit().await.success());
}
