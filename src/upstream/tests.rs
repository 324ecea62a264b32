//! What an upstream may do to us, played by a server whose every byte the test commands.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::domain::limits::Limits;
use crate::lifecycle::Lifecycle;

const HANG_LIMIT: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(150);
const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
const STOP: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// How an upstream's answer came to us.
#[derive(Debug, Default, PartialEq)]
struct Told {
    deltas: Vec<String>,
    reasoning: String,
    usage: Option<(u64, u64)>,
    end: Option<Result<String, Fault>>,
}

fn call() -> Call {
    let lines = vec![Line { speaker: Speaker::User, text: "Hi".to_owned() }];
    let (temperature, max_tokens, traceparent) = (None, None, None);
    Call { turn_id: "turn_1".into(), model: "m".to_owned(), lines, temperature, max_tokens, traceparent }
}

fn delta(text: &str) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}))
}

/// A fake upstream: what `act` does with each connection once its request has been read.
async fn fake<F>(act: impl FnOnce(TcpStream, String) -> F + Send + 'static) -> (String, Lifecycle)
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let life = Lifecycle::new();
    life.spawn("fake upstream", async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = request(&mut stream).await;
        act(stream, request).await;
    });
    (url, life)
}

async fn request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0, "the request broke off");
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
            if body.len() >= length {
                return text.into_owned();
            }
        }
    }
}

fn openai(url: &str, fields: Value, patience: (Duration, Duration)) -> openai::Openai {
    let mut settings = json!({"name": "a", "kind": "openai", "base_url": url});
    settings.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let settings: settings::Settings = serde_json::from_value(settings).unwrap();
    let secret = settings.api_key.clone();
    let ticks = Ticks::default();
    Lifecycle::new().spawn("ticks", ticks.clone().run(CancellationToken::new()));
    openai::Openai {
        name: "a".into(),
        transport: transport::Transport::new(&settings, secret, HANG_LIMIT, ticks).unwrap().into(),
        rename: settings.rename,
        extra_body: settings.extra_body,
        first_token: patience.0,
        idle: patience.1,
        event_bytes: 64 << 10,
    }
}

async fn read(mut answer: Box<dyn Answer>) -> Told {
    let (mut told, mut batch) = (Told::default(), Batch::default());
    while told.end.is_none() {
        let progress = poll_fn(|cx| answer.poll_next(cx, &mut batch)).await;
        for part in batch.parts() {
            match part {
                Part::Delta(text) => told.deltas.push(text.to_owned()),
                Part::Reasoning(text) => told.reasoning.push_str(text),
                Part::StepStarted { .. } | Part::StepFinished { .. } | Part::Source(_) | Part::Visualization(_) => {
                    panic!("no such thing was said: {part:?}");
                }
            }
        }
        match progress {
            Ok(Progress::More) => {}
            Ok(Progress::Finished(finish)) => told.end = Some(Ok(finish.reason)),
            Err(fault) => told.end = Some(Err(fault)),
        }
        if told.end.is_some() {
            assert!(batch.is_empty(), "an end adds nothing");
        }
        batch.clear();
    }
    told.usage = batch.usage().map(|usage| (usage.prompt_tokens, usage.completion_tokens));
    told
}

async fn asked(url: &str, patience: (Duration, Duration)) -> Result<Told, Refusal> {
    asked_by(openai(url, json!({}), patience)).await
}

async fn asked_by(openai: openai::Openai) -> Result<Told, Refusal> {
    let asking = async { Ok(read(openai.open(call()).await?).await) };
    tokio::time::timeout(HANG_LIMIT, asking).await.expect("the answer hangs")
}

/// The ways a call may go.
#[derive(Clone, Copy, Debug)]
enum Way {
    Raw,
    Client,
}

async fn asked_on(way: Way, url: &str, patience: (Duration, Duration)) -> Result<Told, Refusal> {
    let mut openai = openai(url, json!({}), patience);
    if let Way::Client = way {
        Arc::get_mut(&mut openai.transport).unwrap().by_client();
    }
    asked_by(openai).await
}

/// What becomes of an upstream that sends these bytes and closes: the same on either way.
async fn sends(bytes: impl Into<Vec<u8>>) -> Result<Told, Refusal> {
    let bytes = bytes.into();
    let mut told = Vec::new();
    for way in [Way::Raw, Way::Client] {
        let bytes = bytes.clone();
        let (url, _life) = fake(async move |mut stream, _| stream.write_all(&bytes).await.unwrap()).await;
        told.push(asked_on(way, &url, (HANG_LIMIT, HANG_LIMIT)).await);
    }
    assert_eq!(told[0], told[1]);
    told.remove(0)
}

/// What becomes of an upstream that sends these bytes and then nothing: the same on either way.
async fn sends_and_stays(bytes: impl Into<Vec<u8>>, patience: (Duration, Duration)) -> Result<Told, Refusal> {
    let bytes = bytes.into();
    let mut told = Vec::new();
    for way in [Way::Raw, Way::Client] {
        let bytes = bytes.clone();
        let (url, life) = fake(async move |mut stream, _| {
            stream.write_all(&bytes).await.unwrap();
            // Until the client hangs up.
            let _ = stream.read_u8().await;
        })
        .await;
        told.push(asked_on(way, &url, patience).await);
        assert!(life.finished(HANG_LIMIT).await, "the call goes on although its answer was dropped");
    }
    assert_eq!(told[0], told[1]);
    told.remove(0)
}

fn ended(told: Result<Told, Refusal>) -> Result<String, Fault> {
    told.unwrap().end.unwrap()
}

#[tokio::test]
async fn an_answer_is_told_delta_by_delta() {
    let told = sends(format!("{STREAM}{}{}{STOP}{USAGE}{DONE}", delta("Hel"), delta("lo\n“é😀”"))).await.unwrap();
    let deltas = vec!["Hel".to_owned(), "lo\n“é😀”".to_owned()];
    assert_eq!(told, Told { deltas, usage: Some((7, 2)), end: Some(Ok("stop".to_owned())), ..Told::default() });
}

#[tokio::test]
async fn bytes_that_come_one_by_one_tell_the_same() {
    let text = format!("{STREAM}{}: noise\n\n{}{STOP}{USAGE}{DONE}", delta("Hel"), delta("lo\n“é😀”"));
    let (url, _life) = fake(async move |mut stream, _| {
        stream.set_nodelay(true).unwrap();
        for byte in text.bytes() {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await;
    let told = asked(&url, (HANG_LIMIT, HANG_LIMIT)).await.unwrap();
    assert_eq!((told.deltas.len(), told.deltas.concat().as_str()), (2, "Hello\n“é😀”"));
    assert_eq!((told.usage, told.end), (Some((7, 2)), Some(Ok("stop".to_owned()))));
}

#[tokio::test]
async fn long_deltas_stay_whole() {
    let long = "tide\"\\é".repeat(2 << 10);
    let told = sends(format!("{STREAM}{}{STOP}", delta(&long).repeat(20))).await.unwrap();
    assert_eq!(told.deltas, vec![long; 20]);
}

#[tokio::test]
async fn halves_of_a_character_are_joined_across_deltas() {
    let [high, low] =
        [r#"{"choices":[{"delta":{"content":"a\ud83d"}}]}"#, r#"{"choices":[{"delta":{"content":"\ude00"}}]}"#];
    let told = sends(format!("{STREAM}data: {high}\n\ndata: {low}\n\ndata: {high}\n\n{STOP}")).await.unwrap();
    assert_eq!(told.deltas, ["a", "😀", "a", "\u{fffd}"]);
}

#[tokio::test]
async fn reasoning_is_told_apart() {
    let thought = "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"Hm\",\"content\":null}}]}\n\n";
    let told = sends(format!("{STREAM}{thought}{}{STOP}", delta("Yes"))).await.unwrap();
    assert_eq!((told.reasoning.as_str(), told.deltas), ("Hm", vec!["Yes".to_owned()]));
}

#[tokio::test]
async fn the_end_mark_is_a_finish_reason_and_not_done() {
    assert_eq!(ended(sends(format!("{STREAM}{}{STOP}", delta("a"))).await), Ok("stop".to_owned()));
    assert_eq!(ended(sends(format!("{STREAM}{}{DONE}", delta("a"))).await), Err(Fault::Truncated));
    assert_eq!(ended(sends(format!("{STREAM}{}", delta("a"))).await), Err(Fault::Truncated));
    assert_eq!(ended(sends(STREAM).await), Err(Fault::Truncated));
    let filtered = STOP.replace("stop", "content_filter");
    assert_eq!(ended(sends(format!("{STREAM}{filtered}{DONE}")).await), Ok("content_filter".to_owned()));
}

#[tokio::test]
async fn the_end_mark_counts_without_its_blank_line() {
    for tail in [STOP.trim_end(), STOP.strip_suffix('\n').unwrap()] {
        assert_eq!(ended(sends(format!("{STREAM}{}{tail}", delta("a"))).await), Ok("stop".to_owned()));
    }
    let told = sends(format!("{STREAM}{}{}", delta("a"), delta("b").trim_end())).await.unwrap();
    assert_eq!((told.deltas, told.end), (vec!["a".to_owned()], Some(Err(Fault::Truncated))));
}

#[tokio::test]
async fn a_body_cut_short_is_truncated_unless_the_end_mark_came() {
    let head = STREAM.replace("connection: close", "content-length: 100000");
    assert_eq!(ended(sends(format!("{head}{}", delta("a"))).await), Err(Fault::Truncated));
    assert_eq!(ended(sends(format!("{head}{}{STOP}", delta("a"))).await), Ok("stop".to_owned()));
}

#[tokio::test]
async fn a_reset_is_truncated_and_what_came_before_is_kept() {
    let (url, _life) = fake(async |mut stream, _| {
        stream.write_all(format!("{STREAM}{}", delta("a")).as_bytes()).await.unwrap();
        // Closing then resets.
        stream.set_zero_linger().unwrap();
    })
    .await;
    assert_eq!(ended(asked(&url, (HANG_LIMIT, HANG_LIMIT)).await), Err(Fault::Truncated));
}

#[tokio::test]
async fn an_error_inside_the_stream_is_an_error_and_nonsense_is_not() {
    let error = "data: {\"error\":{\"message\":\"overloaded\"}}\n\n";
    let told = sends(format!("{STREAM}{}{error}{STOP}", delta("a"))).await.unwrap();
    assert_eq!((told.deltas, told.end), (vec!["a".to_owned()], Some(Err(Fault::Error))));
    assert_eq!(ended(sends(format!("{STREAM}data: {{oops\n\n{STOP}")).await), Err(Fault::Protocol));
    let mut bytes = STREAM.as_bytes().to_vec();
    bytes.extend_from_slice(b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}\n\n");
    assert_eq!(ended(sends(bytes).await), Err(Fault::Protocol));
    assert_eq!(ended(sends(format!("{STREAM}{}", delta(&"x".repeat(100_000)))).await), Err(Fault::Protocol));
}

#[tokio::test]
async fn silence_before_the_first_token_is_bounded() {
    let told = sends_and_stays(format!("{STREAM}: comment\n\n"), (SHORT, HANG_LIMIT)).await;
    assert_eq!(ended(told), Err(Fault::Silent));
    assert_eq!(sends_and_stays("", (SHORT, HANG_LIMIT)).await, Err(Refusal::Silent));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn saying_nothing_without_a_pause_is_silence_too() {
    for (said, end) in [("", Err(Fault::Silent)), (STOP, Ok("stop".to_owned()))] {
        let (url, _life) = fake(async move |mut stream, _| {
            stream.write_all(format!("{STREAM}{said}").as_bytes()).await.unwrap();
            let nothing = vec![b'\n'; 1 << 20];
            while stream.write_all(&nothing).await.is_ok() {}
        })
        .await;
        let answer = openai(&url, json!({}), (SHORT, HANG_LIMIT)).open(call()).await.unwrap();
        assert_eq!(tokio::time::timeout(HANG_LIMIT, read(answer)).await.expect("it hangs").end, Some(end));
    }
}

#[tokio::test]
async fn silence_after_it_is_bounded() {
    let told = sends_and_stays(format!("{STREAM}{}", delta("a")), (HANG_LIMIT, SHORT)).await.unwrap();
    assert_eq!((told.deltas, told.end), (vec!["a".to_owned()], Some(Err(Fault::Silent))));
}

#[tokio::test]
async fn after_the_end_mark_the_rest_is_waited_for_briefly() {
    for rest in ["", USAGE, DONE] {
        let told =
            sends_and_stays(format!("{STREAM}{}{STOP}{rest}", delta("a")), (HANG_LIMIT, HANG_LIMIT)).await.unwrap();
        assert_eq!(told.end, Some(Ok("stop".to_owned())));
        assert_eq!(told.usage.is_some(), rest == USAGE);
    }
}

#[tokio::test]
async fn done_without_an_end_mark_is_not_waited_on() {
    let told = sends_and_stays(format!("{STREAM}{}{DONE}", delta("a")), (HANG_LIMIT, HANG_LIMIT)).await;
    assert_eq!(ended(told), Err(Fault::Truncated));
}

fn json_answer(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_whole_completion_is_one_delta() {
    let body = json!({
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2},
    });
    let told = sends(json_answer(&body.to_string())).await.unwrap();
    let deltas = vec!["Hello".to_owned()];
    assert_eq!(told, Told { deltas, usage: Some((7, 2)), end: Some(Ok("length".to_owned())), ..Told::default() });
}

#[tokio::test]
async fn other_json_is_an_error_or_nonsense() {
    assert_eq!(ended(sends(json_answer("{\"error\":{\"message\":\"no\"}}")).await), Err(Fault::Error));
    assert_eq!(ended(sends(json_answer("{\"hello\":1}")).await), Err(Fault::Protocol));
    assert_eq!(ended(sends(json_answer("oops")).await), Err(Fault::Protocol));
    assert_eq!(ended(sends(json_answer(&"x".repeat(100_000))).await), Err(Fault::Protocol));
    let cut = json_answer("{\"choices\":[]}").replace("content-length: 14", "content-length: 99");
    assert_eq!(ended(sends(cut).await), Err(Fault::Truncated));
}

#[tokio::test]
async fn a_status_other_than_2xx_is_a_refusal() {
    let status = |line: &str| sends(format!("HTTP/1.1 {line}\r\ncontent-length: 2\r\nretry-after: 7\r\n\r\n{{}}"));
    assert_eq!(status("500 Oops").await, Err(Refusal::Unavailable));
    assert_eq!(status("503 Oops").await, Err(Refusal::Unavailable));
    assert_eq!(status("429 Slow down").await, Err(Refusal::RateLimited(Some(Duration::from_secs(7)))));
    assert_eq!(status("408 Late").await, Err(Refusal::RequestTimeout));
    assert_eq!(status("401 Who").await, Err(Refusal::Rejected));
    assert_eq!(status("404 Where").await, Err(Refusal::Rejected));
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_its_text() {
    let head = "HTTP/1.1 503 Oops\r\ncontent-length: 1000\r\n\r\nstart";
    assert_eq!(sends_and_stays(head, (HANG_LIMIT, HANG_LIMIT)).await, Err(Refusal::Unavailable));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (elsewhere, life) = fake(async |_, _| panic!("the redirect was followed")).await;
    let told = sends(format!("HTTP/1.1 307 There\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n")).await;
    assert_eq!(told, Err(Refusal::Rejected));
    assert!(!life.finished(Duration::from_millis(20)).await, "nobody came");
}

#[tokio::test]
async fn no_connection_is_unavailable_and_what_is_not_http_is_garbled() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(asked(&format!("http://{free}"), (HANG_LIMIT, HANG_LIMIT)).await, Err(Refusal::Unavailable));
    assert_eq!(sends("").await, Err(Refusal::Unavailable));
    assert_eq!(sends("SSH-2.0-OpenSSH_9\r\n\r\n").await, Err(Refusal::Garbled));
}

#[tokio::test]
async fn the_request_is_what_the_settings_say() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let (url, _life) = fake(async move |mut stream, request| {
        sender.send(request).unwrap();
        stream.write_all(format!("{STREAM}{STOP}").as_bytes()).await.unwrap();
    })
    .await;
    let fields = json!({
        "api_key": "sk-1",
        "rename": {"m": "theirs"},
        "headers": {"x-team": "tide", "Accept": "text/plain"},
        "extra_body": {"seed": 5},
    });
    let openai = openai(&format!("{url}/?api-version=1"), fields, (HANG_LIMIT, HANG_LIMIT));
    read(openai.open(call()).await.unwrap()).await;
    let request = receiver.await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/chat/completions?api-version=1 HTTP/1.1\r\n"), "{head}");
    for line in ["authorization: Bearer sk-1", "x-team: tide", "accept: text/plain", "content-type: application/json"] {
        assert_eq!(head.lines().filter(|found| *found == line).count(), 1, "{line} in {head}");
    }
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["model"], &body["seed"], &body["stream"]), (&json!("theirs"), &json!(5), &json!(true)));
}

#[tokio::test]
async fn a_proxy_is_gone_through_when_it_is_set() {
    let (proxy, _life) = fake(async |mut stream, request| {
        assert!(request.starts_with("POST http://upstream.invalid/v1/chat/completions HTTP/1.1\r\n"), "{request}");
        stream.write_all(format!("{STREAM}{STOP}").as_bytes()).await.unwrap();
    })
    .await;
    let openai = openai("http://upstream.invalid/v1", json!({"proxy": proxy}), (HANG_LIMIT, HANG_LIMIT));
    assert_eq!(read(openai.open(call()).await.unwrap()).await.end, Some(Ok("stop".to_owned())));
}

#[tokio::test]
async fn http2_is_spoken_from_the_first_byte_when_it_is_set() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let openai = openai(&url, json!({"http2": true}), (HANG_LIMIT, HANG_LIMIT));
    let accept = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        preface
    };
    let (refusal, preface) = tokio::join!(openai.open(call()), accept);
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(refusal.err(), Some(Refusal::Unavailable));
}

#[tokio::test]
async fn a_caller_that_takes_its_time_is_not_taken_for_silence() {
    let (url, _life) = fake(async |mut stream, _| {
        stream.write_all(format!("{STREAM}{}", delta("a")).as_bytes()).await.unwrap();
        tokio::time::sleep(SHORT * 2).await;
        stream.write_all(format!("{}{STOP}", delta("b")).as_bytes()).await.unwrap();
    })
    .await;
    let openai = openai(&url, json!({}), (HANG_LIMIT, SHORT));
    let mut answer = openai.open(call()).await.unwrap();
    let mut batch = Batch::default();
    assert_eq!(poll_fn(|cx| answer.poll_next(cx, &mut batch)).await, Ok(Progress::More));
    // The caller is busy for longer than a silence may last.
    tokio::time::sleep(SHORT * 3).await;
    assert_eq!(read(answer).await.end, Some(Ok("stop".to_owned())));
}

#[tokio::test]
async fn a_connection_read_to_the_end_is_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let life = Lifecycle::new();
    life.spawn("fake upstream", async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for _ in 0..3 {
            request(&mut stream).await;
            let events = format!("{}{STOP}{DONE}", delta("a"));
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            let chunked = format!("{head}{:x}\r\n{events}\r\n0\r\n\r\n", events.len());
            stream.write_all(chunked.as_bytes()).await.unwrap();
        }
    });
    let openai = openai(&url, json!({}), (HANG_LIMIT, HANG_LIMIT));
    for _ in 0..3 {
        assert_eq!(read(openai.open(call()).await.unwrap()).await.end, Some(Ok("stop".to_owned())));
    }
    assert!(life.finished(HANG_LIMIT).await);
}

async fn lists(answer: String) -> (Vec<String>, Vec<String>) {
    let (url, _life) = fake(async move |mut stream, request| {
        assert!(request.starts_with("GET /v1/models HTTP/1.1\r\n"), "{request}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let settings = json!([{
        "name": "a", "kind": "openai", "base_url": url, "models": ["plain", "gpt-*"], "rename": {"fast": "gpt-1"},
    }]);
    let settings: Vec<settings::Settings> = serde_json::from_value(settings).unwrap();
    let upstreams = Upstreams::new(&settings, &Limits::default(), Ticks::default()).unwrap();
    let ids = |models: Vec<Model>| models.into_iter().map(|model| model.id).collect::<Vec<_>>();
    // The fake takes one connection only: two that ask at once, and one that asks later, share its answer.
    let (one, two) = tokio::join!(upstreams.models(), upstreams.models());
    assert_eq!(one, two);
    (ids(one), ids(upstreams.models().await))
}

#[tokio::test]
async fn an_upstream_behind_a_pattern_is_asked_once_for_its_models() {
    let body =
        json!({"object": "list", "data": [{"id": "gpt-1", "object": "model"}, {"id": "whisper"}, {"id": "plain"}]});
    let expected = vec!["plain".to_owned(), "fast".to_owned(), "gpt-1".to_owned()];
    assert_eq!(lists(json_answer(&body.to_string())).await, (expected.clone(), expected));
}

#[tokio::test]
async fn an_upstream_that_does_not_list_its_models_adds_none() {
    for answer in [json_answer("oops"), "HTTP/1.1 404 Not here\r\ncontent-length: 0\r\n\r\n".to_owned()] {
        assert_eq!(lists(answer).await.0, ["plain", "fast"]);
    }
}
