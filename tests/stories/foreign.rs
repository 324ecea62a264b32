//! A client that is not ours: `reqwest-eventsource` follows a turn by the standard's rules alone.

use std::time::Duration;

use futures::StreamExt;
use reqwest_eventsource::retry::Constant;
use reqwest_eventsource::{Error, Event, EventSource};
use serde_json::Value;

use crate::support::{Fold, Frame, Gate, Proxy, Scene, Script, assert_stamps, chance, within};

/// A source of the turn's events through `proxy`, from the beginning.
fn follow(proxy: &Proxy, turn: &str) -> EventSource {
    let url = format!("http://{}/v1/turns/{turn}/events", proxy.address());
    let http = reqwest12::Client::builder().no_proxy().build().unwrap();
    let mut source = EventSource::new(http.get(url)).unwrap();
    source.set_retry_policy(Box::new(Constant::new(Duration::from_millis(1), None)));
    source
}

/// The next event, over however many connections; `None` once the source was told to stop.
async fn next(source: &mut EventSource) -> Option<(String, Value)> {
    within("the next event of a foreign source", async {
        loop {
            match source.next().await {
                Some(Ok(Event::Open) | Err(Error::Transport(_) | Error::StreamEnded | Error::Parser(_))) => {}
                Some(Ok(Event::Message(message))) => {
                    return Some((message.id, serde_json::from_str(&message.data).unwrap()));
                }
                Some(Err(Error::InvalidStatusCode(status, _))) => {
                    assert_eq!(status.as_u16(), 204);
                    return None;
                }
                other => panic!("the source gives up: {other:?}"),
            }
        }
    })
    .await
}

#[tokio::test]
async fn it_sees_every_event_once_however_often_it_is_cut_off() {
    const DELTAS: usize = 300;
    let mut rng = chance();
    let scene = Scene::new().await;
    let gate = Gate::new();
    let script = (0..DELTAS / 10).fold(Script::new().role(), |script, _| script.stamped(10).gate(&gate));
    scene.upstream.push(script.finish("stop").usage(3, 300).done());
    let conversation = scene.client.conversation().await;
    let mut asked = scene.client.ask(&conversation, "go").await;
    let turn = asked.turn();

    let proxy = Proxy::to(scene.gateway.address()).await;
    let mut source = follow(&proxy, &turn);
    let (mut fold, mut seen) = (Fold::new(), Vec::new());
    let mut cuts = 0;
    while let Some((id, event)) = next(&mut source).await {
        assert_eq!(id, event["seq"].to_string());
        fold.apply(&event);
        if rng.u8(..10) == 0 {
            proxy.drop_connections();
            cuts += 1;
        }
        // The upstream says more once what it has said is here.
        if event["text"].as_str().is_some_and(|text| text.ends_with("9]")) {
            gate.pass(1);
        }
        seen.push(event);
    }
    assert!(cuts > 0);
    let told = asked.rest().await;
    assert_eq!(seen, told.into_iter().map(|frame: Frame| frame.json).collect::<Vec<_>>());
    assert_eq!(assert_stamps(fold.content()), DELTAS);
    fold.assert_same_as(&scene.client.answer(&conversation).await);
    assert_eq!(scene.upstream.calls().len(), 1);
}

#[tokio::test]
async fn it_goes_on_over_a_gateway_that_was_killed() {
    let mut scene = Scene::new().await;
    scene.upstream.push(Script::new().role().stamped(40).hang());
    let conversation = scene.client.conversation().await;
    let turn = scene.client.ask(&conversation, "go").await.turn();
    let proxy = Proxy::to(scene.gateway.address()).await;
    let mut source = follow(&proxy, &turn);
    let mut fold = Fold::new();
    while !fold.content().ends_with("[39]") {
        fold.apply(&next(&mut source).await.unwrap().1);
    }
    scene.gateway.kill();
    scene.gateway.restart().await;
    while let Some((_, event)) = next(&mut source).await {
        fold.apply(&event);
    }
    assert!(fold.ended);
    assert_stamps(fold.content());
    fold.assert_same_as(&scene.client.answer(&conversation).await);
    assert_eq!(scene.upstream.calls().len(), 1);
}
