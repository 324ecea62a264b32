//! The OpenAPI 3.1 document: what goes over the wire, told to programs and, at `/docs`, to people.
//!
//! An operation is described where it is handled, by `#[utoipa::path]`; a type of the domain has a mirror here, because
//! the domain knows nothing of HTTP. `tests/description` holds each mirror against real values.
//!
//! To add a type of the domain: 1. its mirror here, in the file of its noun; 2. its line in `components`, unless another
//! type or a handler names it; 3. a value of it in `tests/description/mirrors.rs`. To add a way of telling a turn: a type
//! in [`streams`]. To add a refusal to an operation: its code in [`refusals`].

pub mod conversation;
pub mod event;
pub mod frame;
pub mod headers;
pub mod json_schema;
pub mod key;
pub mod message;
pub mod new_content;
pub mod parameters;
pub mod problem;
pub mod refusals;
pub mod streams;
pub mod turn;

use utoipa::openapi::info::{InfoBuilder, LicenseBuilder};
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ComponentsBuilder, Content, OpenApi, OpenApiBuilder, RefOr, Server, Type};
use utoipa::{PartialSchema, ToSchema};

/// The tags, in the order in which they are shown, each with what it is about.
const TAGS: [(&str, &str); 8] = [
    ("Chat", "One call for a widget, curl or `new EventSource(url)`, by the client's own session ids."),
    ("Conversations", "Conversations, the messages in them, and the feed of all that happens in one."),
    ("Turns", "A turn is one user message and the reply it causes. It goes on whoever reads it."),
    ("Models", "What may be asked for by name."),
    ("Usage", "What was used, and what it cost."),
    ("Access", "Who asks: visitors, cookies, and tickets for what cannot send a header."),
    (
        "Administration",
        "For whoever looks after an application: its keys, its users, and who did what. It takes an admin key.",
    ),
    ("Operation", "For whoever runs the gateway."),
];

const ABOUT: &str = "A streaming chat gateway: every token at once, and a true record of the answer.\n\n\
    A stream is written as `Accept` asks: `application/x-ndjson` (also called `application/ndjson` or \
    `application/jsonl`; one JSON object a line), `text/event-stream` (the same objects as `data:`), or \
    `application/json`, which waits for the end and gives the message. The schema of a stream is that of one line, or \
    of one server-sent event. Where a stream breaks off before `turn.finished`, ask for the turn's events with `?after=` the last \
    `seq` that came: they go on from there, each once.\n\n\
    An `EventSource` gives up for good on any status but 200 and 204. So on a GET with `text/event-stream` a 429 or 503 \
    is 200 with the code as a comment, a `retry:` and the close.\n\n\
    Every refusal is `application/problem+json` (RFC 9457); its codes are listed at [/docs/errors](/docs/errors). A \
    client ignores fields, and types of events, that it does not know.";

/// The document before its operations.
pub fn base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Tidegate")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build()))
        .build();
    let tags = TAGS.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build());
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([Server::new("/")]))
        .tags(Some(tags))
        .components(Some(components().build()))
        .build()
}

/// The document, once its operations are in it.
pub fn finish(mut document: OpenApi) -> OpenApi {
    headers::on_every_answer(&mut document);
    who_asks(&mut document);
    for item in document.paths.paths.values_mut() {
        if let Some(RefOr::T(body)) = item.post.as_mut().and_then(|operation| operation.request_body.as_mut()) {
            body.content.values_mut().for_each(never_null);
        }
    }
    document
}

/// Says how one says who one is, wherever that is asked.
fn who_asks(document: &mut OpenApi) {
    let token = "An API key, a user's token or a visitor's. With auth off nothing is asked.";
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(token)).build();
    let kept = "What `POST /v1/session` keeps; `tidegate_session` where the gateway is reached without TLS.";
    let cookie = ApiKeyValue::with_description("__Host-tidegate_session", kept);
    let ticket = ApiKeyValue::with_description("ticket", "From `POST /v1/tickets`: reads one turn or conversation.");
    let widget = ApiKeyValue::with_description("tidegate-widget", "A widget's key, from a page it stands on.");
    let schemes = [
        ("token", SecurityScheme::Http(bearer)),
        ("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie))),
        ("ticket", SecurityScheme::ApiKey(ApiKey::Query(ticket))),
        ("widget", SecurityScheme::ApiKey(ApiKey::Header(widget))),
    ];
    let any: Vec<_> = schemes.iter().map(|(name, _)| SecurityRequirement::new::<_, _, &str>(*name, [])).collect();
    if let Some(components) = &mut document.components {
        schemes.into_iter().for_each(|(name, scheme)| components.add_security_scheme(name, scheme));
    }
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.patch, &mut item.put, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            if operation.responses.responses.contains_key("401") {
                // Nothing is one of the ways: with auth off.
                operation.security = Some([vec![SecurityRequirement::default()], any.clone()].concat());
            }
        }
    }
}

/// A body that may be left out is still an object, never null.
fn never_null(content: &mut RefOr<Content>) {
    let RefOr::T(Content { schema: Some(schema), .. }) = content else { return };
    if let RefOr::T(Schema::OneOf(choice)) = schema
        && let Some(object) = choice.items.iter().find(|item| matches!(item, RefOr::Ref(_))).cloned()
    {
        *schema = object;
    }
}

/// What the operations speak of, by name. What stands in the attribute of a handler comes by itself.
fn components() -> ComponentsBuilder {
    let mut components = ComponentsBuilder::new();
    components = add::<message::Message>(components);
    components = add::<turn::Turn>(components);
    components = add::<problem::Problem>(components);
    headers::components(frame::components(components))
}

/// Adds a type, and all that it speaks of.
fn add<T: ToSchema>(components: ComponentsBuilder) -> ComponentsBuilder {
    let mut nested = Vec::new();
    T::schemas(&mut nested);
    add_nested(components.schema(T::name(), T::schema()), nested)
}

fn add_nested(components: ComponentsBuilder, nested: Vec<(String, RefOr<Schema>)>) -> ComponentsBuilder {
    nested.into_iter().fold(components, |components, (name, schema)| components.schema(name, schema))
}

/// A schema, by reference.
fn reference<T: ToSchema>() -> RefOr<Schema> {
    utoipa::openapi::Ref::from_schema_name(T::name()).into()
}

/// A text that is always the same.
fn only(text: &'static str) -> Object {
    let about = format!("Always `{text}`.");
    ObjectBuilder::new().schema_type(Type::String).description(Some(about)).enum_values(Some([text])).build()
}

/// A mirror's own schema, never a reference.
fn own<T: PartialSchema>() -> Schema {
    match T::schema() {
        RefOr::T(schema) => schema,
        RefOr::Ref(_) => Schema::default(),
    }
}
