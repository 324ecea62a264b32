//! The API against its own description: thousands of requests, right and wrong, made from `/openapi.json` by
//! schemathesis, which `scripts/test` installs.
#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::process::Stdio;

use support::{Database, Gateway, Kind, eventually};

/// The kind of every fresh database here.
const DATABASE: Kind = Kind::Sqlite;

#[tokio::test]
async fn the_api_does_what_its_description_says() {
    let database = Database::fresh().await;
    let gateway = Gateway::on(&database).demo().set("default_model", "demo").set("stream.heartbeat_s", 1).start().await;
    let report = gateway.home().join("report");
    let said = std::fs::File::create(&report).unwrap();
    let mut checking = std::process::Command::new("schemathesis")
        .args(["run", &format!("{}/openapi.json", gateway.url()), "--no-color"])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
             negative_data_rejection",
        ])
        // A feed has no end, so a client that waits for one learns nothing.
        .args(["--exclude-path-regex", r"/conversations/\{\w+\}/events$"])
        .args(["--phases", "examples,coverage,fuzzing,stateful"])
        .args(["--max-examples", "25", "--request-timeout", "20", "--generation-database", "none"])
        .stdout(said.try_clone().unwrap())
        .stderr(Stdio::from(said))
        .current_dir(gateway.home())
        .spawn()
        .expect("schemathesis is on the PATH: run scripts/test, which installs it");
    let status = loop {
        // A minute is no limit here: nextest's own catches a hang.
        if let Some(status) = checking.try_wait().unwrap() {
            break status;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert!(status.success(), "{}", std::fs::read_to_string(&report).unwrap());
    let client = gateway.client();
    eventually("the gateway to be well after it all", async || {
        let ready = client.try_send(support::Request::get("/readyz")).await;
        ready.ok().filter(|reply| reply.status == 200)
    })
    .await;
}
