//! `alerts.yaml`: Prometheus reads it, it fires when it should, names what there is, and is explained.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::json;

use crate::support::{Request, Scene, Script};
use crate::{content, file, path};

/// The words of a text that may be the names of metrics of ours.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_');
    let ours =
        words.filter(|word| ["tidegate_", "gen_ai_client_", "http_server_"].iter().any(|own| word.starts_with(own)));
    ours.map(str::to_owned).collect()
}

/// The alerts that a page names at the beginning of its lines.
fn alerts(text: &str, before: &str) -> BTreeSet<String> {
    let names = text.lines().filter_map(|line| line.trim_start().strip_prefix(before));
    names.map(|rest| rest.chars().take_while(char::is_ascii_alphanumeric).collect()).collect()
}

#[test]
fn prometheus_reads_the_rules_and_each_fires_when_it_should() {
    content(Command::new("promtool").args(["check", "rules"]).arg(path("deploy/alerts.yaml")));
    content(Command::new("promtool").args(["test", "rules"]).arg(path("tests/deploy/alerts.yaml")));
    let (rules, tried) = (file("alerts.yaml"), std::fs::read_to_string(path("tests/deploy/alerts.yaml")).unwrap());
    let fires = alerts(&tried, "- {labels: '{alertname=\"");
    assert_eq!(alerts(&rules, "- alert: "), fires, "each alert fires in tests/deploy/alerts.yaml");
}

#[test]
fn each_alert_is_explained() {
    let page = std::fs::read_to_string(path("docs/operations.md")).unwrap();
    assert_eq!(alerts(&file("alerts.yaml"), "- alert: "), alerts(&page, "| **"), "docs/operations.md");
}

#[tokio::test]
async fn the_rules_name_metrics_that_there_are() {
    let scene = Scene::new().await;
    scene.upstream.push(Script::new().delta("half").cut());
    scene.told("go").await;
    scene.client.post("/v1/chat/stream", &json!({"message": ""})).await.expect(422);
    let reply = scene.client.send(Request::get("/metrics")).await;
    let text = String::from_utf8(reply.bytes).unwrap();
    let shown: BTreeSet<String> = text.lines().filter(|line| !line.starts_with('#')).flat_map(metrics).collect();
    let rules = file("alerts.yaml");
    let named = metrics(&rules.lines().filter(|line| !line.contains("summary")).collect::<Vec<_>>().join("\n"));
    assert!(named.len() > 10, "{named:?}");
    for name in &named {
        assert!(shown.contains(name), "{name} is none of {shown:?}");
    }
    assert!(text.contains(r#"tidegate_event_loop_stall_seconds_bucket{le="0.1"}"#), "{text}");
}
