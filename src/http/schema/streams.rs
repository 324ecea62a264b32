//! The answers that tell a turn, by `Accept` and `Prefer`.

use std::collections::BTreeMap;

use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{ContentBuilder, RefOr};
use utoipa::{IntoResponses, ToSchema};

use super::super::accept::Encoding;
use super::frame::{FeedFrame, Frame, ServerSentFeedFrame, ServerSentFrame};
use super::headers::header;
use super::message::Message;
use super::reference;
use super::turn::Turn;

type Responses = BTreeMap<String, RefOr<Response>>;

/// A turn that was asked for with a body: told, or put off.
pub struct Told;

impl IntoResponses for Told {
    fn responses() -> Responses {
        let whole =
            "The turn: streamed, or as JSON the message at its end, whatever end that is but `failed` or `timeout`.";
        BTreeMap::from([
            ("200".to_owned(), preferred(linked(streamed::<Frame, ServerSentFrame>(whole, &Encoding::ALL))).into()),
            ("202".to_owned(), put_off().into()),
            ("204".to_owned(), over().into()),
        ])
    }
}

/// A turn's events.
pub struct Events;

impl IntoResponses for Events {
    fn responses() -> Responses {
        let whole = "The events after the cursor, then live until the end; as JSON the message at its end.";
        BTreeMap::from([
            ("200".to_owned(), streamed::<Frame, ServerSentFrame>(whole, &Encoding::ALL).build().into()),
            ("204".to_owned(), over().into()),
        ])
    }
}

/// A turn that an `EventSource` asked for.
pub struct Source;

impl IntoResponses for Source {
    fn responses() -> Responses {
        let whole = "The turn's events; or, as a comment and a close, why there are none at present.";
        BTreeMap::from([
            ("200".to_owned(), streamed::<Frame, ServerSentFrame>(whole, &[Encoding::Sse]).build().into()),
            ("204".to_owned(), over().into()),
        ])
    }
}

/// A conversation's events.
pub struct Feed;

impl IntoResponses for Feed {
    fn responses() -> Responses {
        let whole = "The conversation's events, without end.";
        let response = streamed::<FeedFrame, ServerSentFeedFrame>(whole, &[Encoding::Ndjson, Encoding::Sse]);
        BTreeMap::from([("200".to_owned(), response.build().into())])
    }
}

/// 200 in each of these encodings, under all their names: of `F` a line, of `S` an event.
fn streamed<F: ToSchema, S: ToSchema>(about: &str, encodings: &[Encoding]) -> ResponseBuilder {
    let mut response = ResponseBuilder::new().description(about);
    for encoding in encodings {
        let schema = match encoding {
            Encoding::Ndjson => reference::<F>(),
            Encoding::Sse => reference::<S>(),
            Encoding::Json => reference::<Message>(),
        };
        for name in encoding.names() {
            response = response.content(*name, ContentBuilder::new().schema(Some(schema.clone())).build());
        }
    }
    named(response)
}

fn named(response: ResponseBuilder) -> ResponseBuilder {
    ["Turn-Id", "Conversation-Id"].into_iter().fold(response, |response, name| response.header_ref(name, header(name)))
}

/// From an answer to what can be asked of its turn.
fn linked(response: ResponseBuilder) -> ResponseBuilder {
    ["get_turn", "follow_turn", "stop_turn"].into_iter().fold(response, |response, operation| {
        let link = LinkBuilder::new().operation_id(operation).parameter("id", "$response.header.Turn-Id");
        response.link(operation, link.build())
    })
}

fn preferred(response: ResponseBuilder) -> Response {
    response.header_ref("Preference-Applied", header("Preference-Applied")).build()
}

fn put_off() -> Response {
    let content = ContentBuilder::new().schema(Some(reference::<Turn>())).build();
    let about = "With `Prefer: respond-async`: the turn as it stands. It goes on.";
    let response = ResponseBuilder::new().description(about).content("application/json", content);
    preferred(linked(named(response)).header_ref("Location", header("Location")))
}

fn over() -> Response {
    let about =
        "With `text/event-stream` only: the reader has seen the end, or the turn was deleted. Do not come back.";
    named(ResponseBuilder::new().description(about)).build()
}
