//! The gateway behind nginx and Caddy, set up as `docs/proxies.md` says. `scripts/test` installs both.
#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::{Client, Encoding, Foreign, Gate, Kind, Request, Scene, Script, eventually};
use tempfile::TempDir;

/// The kind of every fresh database here.
const DATABASE: Kind = Kind::Sqlite;

/// A proxy, its address, and its folder.
struct Standing {
    address: SocketAddr,
    _server: Foreign,
    _home: TempDir,
}

async fn stand(command: impl FnOnce(&Path, SocketAddr) -> Command) -> Standing {
    let home = TempDir::new().unwrap();
    let (server, address) = Foreign::serve(|address| command(home.path(), address)).await;
    Standing { address, _server: server, _home: home }
}

async fn nginx(scene: &Scene) -> Standing {
    let snippet = documented("nginx", "nginx").replace("127.0.0.1:8080", &scene.gateway.address().to_string());
    stand(|home, address| {
        let home = home.display();
        let server = snippet.replace("listen 80;", &format!("listen {address};"));
        let config = format!(
            "daemon off; master_process off; pid {home}/pid; error_log {home}/error;\nevents {{}}\nhttp {{\n\
             access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; \
             fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;\n{server}}}\n"
        );
        std::fs::write(format!("{home}/nginx.conf"), config).unwrap();
        let mut command = Command::new("nginx");
        command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap()));
        command.args(["-e", &format!("{home}/error"), "-c", &format!("{home}/nginx.conf")]);
        command
    })
    .await
}

async fn caddy(scene: &Scene) -> Standing {
    let snippet = documented("caddy", "caddyfile").replace("127.0.0.1:8080", &scene.gateway.address().to_string());
    stand(|home, address| {
        let site = snippet.replace("chat.example", &format!("http://{address}"));
        let file = home.join("Caddyfile");
        std::fs::write(&file, format!("{{\n    admin off\n}}\n{site}")).unwrap();
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
        command.env("HOME", home).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        command.stderr(std::fs::File::create(home.join("log")).unwrap());
        command
    })
    .await
}

/// A file from the docs.
fn documented(name: &str, language: &str) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/proxies.md")).unwrap();
    let (_, rest) = page.split_once(&format!("<!-- tested: {name} -->\n```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// Each delta comes through before the next one is sent, a reader can come back, and one that leaves is noticed.
async fn assert_streams(scene: &Scene, proxy: &Standing) {
    let client = Client::new(proxy.address);
    for encoding in Encoding::ALL {
        let gates = [Gate::new(), Gate::new(), Gate::new()];
        let script = gates
            .iter()
            .enumerate()
            .fold(Script::new().role(), |script, (number, gate)| script.delta(&number.to_string()).gate(gate));
        scene.upstream.push(script.finish("stop").done());
        let conversation = client.conversation().await;
        let path = format!("/v1/conversations/{conversation}/messages");
        let question =
            Request::post(&path, &json!({"content": "go"})).accept(encoding).header("accept-encoding", "gzip");
        let mut stream = client.open(question).await;
        assert_eq!((stream.status(), stream.header("content-encoding")), (200, None));
        let turn = stream.turn();
        for (number, gate) in gates.iter().enumerate() {
            let delta = loop {
                let frame = stream.event().await;
                if frame.kind() == "delta" {
                    break frame;
                }
            };
            assert_eq!(delta.json["text"], number.to_string());
            gate.open();
        }
        assert_eq!(stream.rest().await.last().unwrap().kind(), "turn.finished");
        let again =
            client.open(Request::get(&format!("/v1/turns/{turn}/events?after=2")).accept(encoding)).await.rest().await;
        assert_eq!(again[0].seq(), Some(3));
        assert_eq!(again.last().unwrap().kind(), "turn.finished");

        let before = scene.upstream.calls().len();
        scene.upstream.push(Script::new().role().delta("0").hang());
        let question: Value = json!({"content": "go", "on_disconnect": "cancel"});
        let mut stream = client.open(Request::post(&path, &question).accept(encoding)).await;
        while stream.event().await.kind() != "delta" {}
        let call = scene.upstream.call(before).await;
        let turn = stream.turn();
        stream.leave();
        call.closed().await;
        let ended = eventually("the turn to end", async || {
            let turn = client.get(&format!("/v1/turns/{turn}")).await.expect(200);
            turn["finished_at"].is_string().then_some(turn)
        });
        assert_eq!(ended.await["message"]["stopped_by"], "disconnect");
    }
    let refused = client.post("/v1/chat/stream", &json!({"message": ""})).await.expect(422);
    assert_eq!(refused["field"], "message");
}

#[tokio::test]
async fn nginx_passes_every_delta_on_at_once() {
    let scene = Scene::new().await;
    let proxy = nginx(&scene).await;
    assert_streams(&scene, &proxy).await;
}

#[tokio::test]
async fn caddy_passes_every_delta_on_at_once() {
    let scene = Scene::new().await;
    let proxy = caddy(&scene).await;
    assert_streams(&scene, &proxy).await;
}
