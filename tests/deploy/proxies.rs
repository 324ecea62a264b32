//! The gateway behind nginx and Caddy, by the files in `deploy/`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::file;
use crate::support::{Client, Encoding, Foreign, Gate, Request, Scene, Script, eventually};

/// A proxy, its address, and its folder.
pub struct Standing {
    /// Where it listens.
    pub address: SocketAddr,
    _server: Foreign,
    _home: TempDir,
}

async fn stand(command: impl FnOnce(&Path, SocketAddr) -> Command) -> Standing {
    let home = TempDir::new().unwrap();
    let (server, address) = Foreign::serve(|address| command(home.path(), address)).await;
    Standing { address, _server: server, _home: home }
}

/// nginx before these gateways.
pub async fn nginx(gateways: &[SocketAddr]) -> Standing {
    let text = file("nginx.conf");
    let (servers, rest): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with("    server 127.0.0.1:"));
    let (_, options) = servers[0].trim().split_once(":8081 ").unwrap();
    let ours: String = gateways.iter().map(|gateway| format!("    server {gateway} {options}\n")).collect();
    let text = rest.join("\n").replacen("    keepalive ", &format!("{ours}    keepalive "), 1);
    stand(|home, address| {
        let home = home.display();
        let server = text.replace("listen 80;", &format!("listen {address};"));
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

/// Caddy before these gateways.
pub async fn caddy(gateways: &[SocketAddr]) -> Standing {
    let replicas = gateways.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(" ");
    stand(|home, address| {
        let config = home.join("Caddyfile");
        // Its own door for admins has one port, which others have too.
        std::fs::write(&config, format!("{{\n\tadmin off\n}}\n{}", file("Caddyfile"))).unwrap();
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&config);
        command.env("SITE", format!("http://{address}")).env("REPLICAS", replicas);
        command.env("HOME", home).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        command.stderr(std::fs::File::create(home.join("log")).unwrap());
        command
    })
    .await
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

#[test]
fn their_own_programs_find_nothing_wrong_with_the_files() {
    let mut caddy = Command::new("caddy");
    caddy.args(["validate", "--adapter", "caddyfile", "--config"]).arg(crate::path("deploy/Caddyfile"));
    let home = TempDir::new().unwrap();
    let output = caddy.env("HOME", home.path()).env_remove("SITE").env_remove("REPLICAS").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !said.contains("not formatted"), "{said}");
}

#[tokio::test]
async fn nginx_passes_every_delta_on_at_once() {
    let scene = Scene::new().await;
    let proxy = nginx(&[scene.gateway.address()]).await;
    assert_streams(&scene, &proxy).await;
}

#[tokio::test]
async fn caddy_passes_every_delta_on_at_once() {
    let scene = Scene::new().await;
    let proxy = caddy(&[scene.gateway.address()]).await;
    assert_streams(&scene, &proxy).await;
}
