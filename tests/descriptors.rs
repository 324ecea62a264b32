//! Running out of file descriptors. Alone in its file, because the limit is the whole process's.

use std::error::Error;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate::domain::clock::Clock;
use tidegate::http::address::Proxies;
use tidegate::http::cors::Origins;
use tidegate::http::guard::Guard;
use tidegate::http::settings::Settings;
use tidegate::http::{routes, server};
use tidegate::lifecycle::Lifecycle;
use tidegate::meter::Meter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Catches a hang, nothing else.
const PATIENCE: Duration = Duration::from_secs(20);

async fn ask(stream: &mut TcpStream) -> Result<String, Box<dyn Error>> {
    let mut answer = String::new();
    stream.write_all(b"GET /docs/errors HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await??;
    Ok(answer)
}

#[tokio::test]
async fn a_client_is_told_and_the_server_lives_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = Settings {
        public_url: format!("http://{address}").parse().unwrap(),
        origins: Origins::new(&[], None),
        proxies: Proxies::default(),
        auth_off: true,
        max_body_bytes: 1000,
        reader_stall: Duration::from_secs(60),
        certificate: None,
        max_connections: 100,
        drain_delay: Duration::ZERO,
        grace: Duration::from_secs(30),
    };
    let lifecycle = Lifecycle::new();
    let app = routes::assemble(Guard::new(&settings, Clock::System, Meter::default()), axum::Router::new());
    let within = lifecycle.clone();
    lifecycle.spawn("server", async move {
        server::serve(listener, app, &settings, Clock::System, Meter::default(), within).await
    });
    assert!(ask(&mut TcpStream::connect(address).await.unwrap()).await.unwrap().starts_with("HTTP/1.1 200 "));

    let socket = TcpSocket::new_v4().unwrap();
    let free = File::open("/dev/null").unwrap().as_raw_fd();
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: u64::try_from(free).ok(), ..before }).unwrap();
    let answer = ask(&mut socket.connect(address).await.unwrap()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"too_many_connections\""), "{answer}");

    setrlimit(Resource::Nofile, before).unwrap();
    assert!(ask(&mut TcpStream::connect(address).await.unwrap()).await.unwrap().starts_with("HTTP/1.1 200 "));
    lifecycle.soft().cancel();
    assert!(lifecycle.finished(PATIENCE).await, "a task was left behind");
}
