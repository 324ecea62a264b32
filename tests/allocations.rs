//! What a delta allocates on its way from an upstream's socket to the turn: nothing.
#![cfg(test)]

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use allocation_counter::measure;
use serde_json::json;
use tidegate::upstream::openai::Openai;
use tidegate::upstream::transport::Transport;
use tidegate::upstream::{Batch, Call, Line, Part, Progress, Speaker, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(30);
/// Deltas after which every buffer has its size.
const FIRST: usize = 10;
const DELTAS: usize = 200;

fn openai(url: &str) -> Openai {
    let settings = json!({"name": "a", "kind": "openai", "base_url": url});
    let settings = serde_json::from_value(settings).unwrap();
    Openai {
        name: "a".into(),
        transport: Transport::new(&settings, None, PATIENCE).unwrap().into(),
        rename: settings.rename,
        extra_body: settings.extra_body,
        first_token: PATIENCE,
        idle: PATIENCE,
        event_bytes: 1 << 20,
    }
}

#[tokio::test]
async fn a_delta_allocates_nothing_on_its_way_in() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let openai = openai(&format!("http://{}", listener.local_addr().unwrap()));
    let lines = vec![Line { speaker: Speaker::User, text: "Hi".to_owned() }];
    let call = Call { model: "m".to_owned(), lines, temperature: None, max_tokens: None };
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head).await.unwrap();
        stream
    };
    let (mut stream, answer) = tokio::join!(serving, openai.open(call));
    let (mut answer, mut batch) = (answer.ok().unwrap(), Batch::default());
    let mut allocated = 0;
    for n in 0..FIRST + DELTAS {
        let chunk = json!({"choices": [{"index": 0, "delta": {"content": format!("word {n:03}")}}]});
        let event = format!("data: {chunk}\n\n");
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
        let progress = poll_fn(|cx| {
            let mut polled = Poll::Pending;
            let counted = measure(|| polled = answer.poll_next(cx, &mut batch));
            allocated += if n < FIRST { 0 } else { counted.count_total };
            polled
        });
        assert_eq!(progress.await, Ok(Progress::More));
        assert!(batch.parts().eq([Part::Delta(&format!("word {n:03}"))]));
        batch.clear();
    }
    assert_eq!(allocated, 0, "in {DELTAS} deltas");
}
