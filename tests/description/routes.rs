//! Routes: what is served is described, and what is described is served.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::document::document;
use crate::support::{Database, Gateway, Request};

/// Where routes are made without a description: pages and files, which are for people.
const PAGES: [(&str, usize); 2] = [("docs.rs", 4), ("page.rs", 1)];

#[test]
fn a_route_without_a_description_is_a_page() {
    let http = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let mut open = vec![http];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if name.starts_with("tests") {
                continue;
            }
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let made: usize = [".route(", ".route_service(", ".nest(", ".nest_service("]
                .map(|call| text.matches(call).count())
                .iter()
                .sum();
            let pages = PAGES.iter().find(|(page, _)| *page == name).map_or(0, |(_, count)| *count);
            assert_eq!(made, pages, "{name} makes routes without a description; describe them and use routes!");
        }
    }
}

#[tokio::test]
async fn every_path_takes_the_methods_that_are_described_and_no_others() {
    let gateway = Gateway::on(&Database::fresh().await).demo().set("default_model", "demo").start().await;
    let client = gateway.client();
    let document = document();
    for (path, item) in document["paths"].as_object().unwrap() {
        let described: BTreeSet<String> = item.as_object().unwrap().keys().map(|key| key.to_uppercase()).collect();
        let target = path.replace(['{', '}'], "");
        let refused = client.send(Request { method: "PUT".to_owned(), ..Request::get(&target) }).await;
        assert_eq!(refused.expect(405)["code"], "method_not_allowed", "{path}");
        let allow = refused.header("allow").unwrap();
        let taken: BTreeSet<String> = allow.split(',').map(|method| method.trim().to_owned()).collect();
        let taken: BTreeSet<String> = taken.into_iter().filter(|method| method != "HEAD").collect();
        assert_eq!(taken, described, "{path}");
    }
}

#[tokio::test]
async fn the_document_that_is_served_is_the_one_that_is_made() {
    let gateway = Gateway::on(&Database::fresh().await).demo().set("default_model", "demo").start().await;
    let reply = gateway.client().send(Request::get("/openapi.json")).await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let served: Value = reply.expect(200);
    assert_eq!(served, document());
}
