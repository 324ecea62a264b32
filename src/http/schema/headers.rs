//! The headers that answers bear.

use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::Object;
use utoipa::openapi::{ComponentsBuilder, OpenApi, Ref, RefOr, Type};

/// Each, what it says, and its type.
const HEADERS: [(&str, &str, Type); 11] = [
    ("Request-Id", "The request, as the gateway's log has it.", Type::String),
    ("Turn-Id", "The turn that is told.", Type::String),
    ("Conversation-Id", "The conversation it is in.", Type::String),
    ("Location", "Where what was made is found, as a path.", Type::String),
    ("Retry-After", "When to come back, in seconds.", Type::Integer),
    (
        "RateLimit",
        "What is left of each limit that applies: `r`, and in how many seconds it is whole again, `t`.",
        Type::String,
    ),
    (
        "RateLimit-Policy",
        "The limits that apply: the most there may be, `q`, within so many seconds, `w`.",
        Type::String,
    ),
    ("Auth-Status", "`ignored` where a token was shown that is none, and the caller is a visitor.", Type::String),
    ("Visitor-Token", "The token of a visitor who is new.", Type::String),
    ("WWW-Authenticate", "How to say who one is: `Bearer`.", Type::String),
    ("Preference-Applied", "What of `Prefer` was kept, as in `respond-async, wait=10`.", Type::String),
];

/// Adds them to what operations speak of.
pub fn components(components: ComponentsBuilder) -> ComponentsBuilder {
    HEADERS.into_iter().fold(components, |components, (name, about, kind)| {
        let schema = Some(Object::with_type(kind));
        components.header(name, HeaderBuilder::new().schema(schema).description(Some(about)).build())
    })
}

/// One of them, by its name.
pub fn header(name: &str) -> Ref {
    Ref::new(format!("#/components/headers/{name}"))
}

/// Adds to every answer what the guard adds.
pub fn on_every_answer(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.patch, &mut item.put, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let asks = operation.responses.responses.contains_key("401");
            for (status, response) in &mut operation.responses.responses {
                let RefOr::T(response) = response else { continue };
                let mut bears = |name: &str| response.headers.insert(name.to_owned(), RefOr::Ref(header(name)));
                bears("Request-Id");
                if asks {
                    bears("RateLimit");
                    bears("RateLimit-Policy");
                }
                if asks && status.starts_with('2') {
                    bears("Auth-Status");
                    bears("Visitor-Token");
                }
                if status == "401" {
                    bears("WWW-Authenticate");
                }
            }
        }
    }
}
