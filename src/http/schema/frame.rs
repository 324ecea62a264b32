//! Frames: what one line, or one `data:`, of a stream can be. Each is told by its `type`.

use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, OneOfBuilder, Schema, SchemaType};
use utoipa::openapi::{ComponentsBuilder, Discriminator, Ref, RefOr, Type};

use super::event::{
    ConversationDeleted, ConversationUpdated, Delta, Ping, Reasoning, Snapshot, SourceFound, StepFinished, StepStarted,
    StreamClosed, TurnFinished, TurnStarted, UsageTold, VisualizationShown,
};
use super::{add_nested, only, own, reference};

/// One frame: its `type`, the name of its schema, the schema.
struct Kind {
    tag: &'static str,
    name: String,
    schema: Schema,
    nested: Vec<(String, RefOr<Schema>)>,
}

fn kind<T: ToSchema>(tag: &'static str) -> Kind {
    let mut nested = Vec::new();
    T::schemas(&mut nested);
    Kind { tag, name: T::name().into_owned(), schema: tagged(tag, own::<T>()), nested }
}

/// The schema of a mirror with its `type`.
fn tagged(tag: &'static str, schema: Schema) -> Schema {
    let Schema::Object(mut object) = schema else { return schema };
    object.schema_type = SchemaType::Type(Type::Object);
    object.properties.shift_insert(0, "type".to_owned(), only(tag).into());
    object.required.insert(0, "type".to_owned());
    Schema::Object(object)
}

fn events() -> Vec<Kind> {
    vec![
        kind::<TurnStarted>("turn.started"),
        kind::<StepStarted>("step.started"),
        kind::<StepFinished>("step.finished"),
        kind::<SourceFound>("source"),
        kind::<Delta>("delta"),
        kind::<Reasoning>("reasoning"),
        kind::<VisualizationShown>("visualization"),
        kind::<UsageTold>("usage"),
        kind::<TurnFinished>("turn.finished"),
    ]
}

/// What else a turn's stream has.
fn others() -> [Kind; 3] {
    [kind::<Snapshot>("snapshot"), kind::<Ping>("ping"), kind::<StreamClosed>("closed")]
}

/// What else a feed has.
fn of_feeds() -> [Kind; 2] {
    [kind::<ConversationUpdated>("conversation.updated"), kind::<ConversationDeleted>("conversation.deleted")]
}

/// All of them.
fn every() -> impl Iterator<Item = Kind> {
    events().into_iter().chain(others()).chain(of_feeds())
}

/// The names of their schemas.
pub fn names() -> impl Iterator<Item = String> {
    every().map(|kind| kind.name)
}

/// One of `kinds`, told apart by `type`.
fn one_of<'a>(kinds: impl IntoIterator<Item = &'a Kind>, about: &str) -> Schema {
    let mut discriminator = Discriminator::new("type");
    let mut one_of = OneOfBuilder::new().description(Some(about));
    for kind in kinds {
        let reference = Ref::from_schema_name(&kind.name);
        discriminator.mapping.insert(kind.tag.to_owned(), reference.ref_location.clone());
        one_of = one_of.item(reference);
    }
    one_of.discriminator(Some(discriminator)).build().into()
}

/// What a turn's stream is made of.
pub struct Frame;

/// The same in server-sent events.
pub struct ServerSentFrame;

/// What a conversation's feed is made of.
pub struct FeedFrame;

/// The same in server-sent events.
pub struct ServerSentFeedFrame;

macro_rules! named {
    ($($name:ident = $text:literal;)*) => {$(
        impl utoipa::PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                Ref::from_schema_name($text).into()
            }
        }

        impl ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                $text.into()
            }
        }
    )*};
}

named! {
    Frame = "Frame";
    ServerSentFrame = "ServerSentFrame";
    FeedFrame = "FeedFrame";
    ServerSentFeedFrame = "ServerSentFeedFrame";
}

/// Where an event stands in a feed.
#[derive(ToSchema)]
pub struct FeedPlace {
    /// The turn.
    #[schema(pattern = "^turn_[0-9a-f]{32}$")]
    pub turn_id: String,
    /// `N.SEQ`, good for `?after=`: the turn's number in the conversation, and the event's in the turn. Absent only
    /// where the end could not be saved.
    #[schema(required = false, pattern = r"^[0-9]+\.[0-9]+$")]
    pub cursor: String,
}

/// A frame as a server-sent event, as the OpenAPI Specification 3.2 (section 4.14.3) has such an event.
fn server_sent(frame: &str, id: &str) -> Schema {
    let text = |about: String| ObjectBuilder::new().schema_type(Type::String).description(Some(about));
    let inner = json!({ "$ref": Ref::from_schema_name(frame).ref_location });
    let data = text(format!("A `{frame}` as JSON, on one line."))
        .content_media_type("application/json")
        .extensions(Some([("contentSchema", inner)].into_iter().collect()));
    ObjectBuilder::new()
        .description(Some(format!("One server-sent event, with a `{frame}` in it.")))
        .property("data", data)
        .required("data")
        .property("id", text(format!("Its `{id}`; absent where it has none.")))
        .property("event", text("Its `type`, with `?events=named`.".to_owned()))
        .build()
        .into()
}

/// Adds the frames, and all that they speak of.
pub fn components(components: ComponentsBuilder) -> ComponentsBuilder {
    let (events, others) = (events(), others());
    let placed = |what: Ref| Schema::from(AllOfBuilder::new().item(what).item(reference::<FeedPlace>()).build());
    let feed = OneOfBuilder::new()
        .description(Some("One line, or one `data:`, of a conversation's feed."))
        .item(Ref::from_schema_name("FeedEvent"))
        .item(Ref::from_schema_name("FeedSnapshot"))
        .item(reference::<Ping>())
        .item(reference::<StreamClosed>())
        .item(reference::<ConversationUpdated>())
        .item(reference::<ConversationDeleted>());
    let mut components = components
        .schema("ServerSentFrame", server_sent("Frame", "seq"))
        .schema("ServerSentFeedFrame", server_sent("FeedFrame", "cursor"))
        .schema("Event", one_of(&events, "One thing that happened in a turn. `seq` starts at 1 and rises by 1."))
        .schema("Frame", one_of(events.iter().chain(&others), "One line, or one `data:`, of a turn's stream."))
        .schema("FeedEvent", placed(Ref::from_schema_name("Event")))
        .schema("FeedSnapshot", placed(Ref::from_schema_name("Snapshot")))
        .schema("FeedPlace", own::<FeedPlace>())
        .schema("FeedFrame", Schema::from(feed.build()));
    for kind in every() {
        components = add_nested(components.schema(kind.name, kind.schema), kind.nested);
    }
    components
}
