//! Each mirror against values of the type it mirrors. A field or variant that is new in the domain does not compile here
//! before a value has it, and then fails until the mirror has it too.

use serde::Serialize;
use serde_json::{Value, json};
use tidegate::domain::clock::Timestamp;
use tidegate::domain::conversation::{Config, Conversation, State};
use tidegate::domain::event::{Closed, Event, Finished, Unnumbered, write_line};
use tidegate::domain::ids::{ConversationId, MessageId, SourceId, StepId, TurnId, VisualizationId};
use tidegate::domain::message::{
    Content, ContentPart, Feedback, Message, Rating, Role, Source, Step, StepStatus, Visualization,
};
use tidegate::domain::turn::{IfBusy, Problem, Status, StoppedBy, Turn};
use tidegate::domain::usage::{Basis, Usage};
use tidegate::domain::words::Piece;
use tidegate::http::code::Code;
use tidegate::turn::prompt::Said;

use crate::document::{component, document, faults, strict};

const NOW: i64 = 1_700_000_000_000_001;

/// An id made now.
fn id<T>(new: fn(Timestamp) -> T) -> T {
    new(Timestamp::from_micros(NOW))
}

/// Fails unless the schema of that name fits these values, and says of each field rightly whether it may be absent:
/// between them the values have every field, and lack each that may be lacking.
#[track_caller]
fn mirrors(name: &str, values: &[&dyn Erased]) {
    let document = strict(document());
    let schema = component(&document, name);
    let values: Vec<Value> = values.iter().map(|value| value.json()).collect();
    for value in &values {
        let faults = faults(&document, &json!({"$ref": format!("#/components/schemas/{name}")}), value);
        assert!(faults.is_empty(), "{name}: {faults:#?}\n{value:#}");
    }
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for field in schema["properties"].as_object().into_iter().flatten().map(|(field, _)| field) {
        let had = values.iter().filter(|value| value.get(field).is_some()).count();
        assert!(had > 0, "{name}.{field} is described, and no value has it");
        let always = required.contains(&field.as_str());
        assert_eq!(always, had == values.len(), "{name}.{field}: whether it is required");
    }
}

/// What can be serialised, whatever it is.
trait Erased {
    fn json(&self) -> Value;
}

impl<T: Serialize> Erased for T {
    fn json(&self) -> Value {
        serde_json::to_value(self).unwrap()
    }
}

/// Fails unless the schema's names are those of these values.
#[track_caller]
fn names(name: &str, values: &[impl Serialize]) {
    let document = document();
    let schema = component(&document, name);
    assert_eq!(schema["enum"], serde_json::to_value(values).unwrap(), "{name}");
}

/// All variants of an enum; does not compile while one is missing.
macro_rules! every {
    ($type:ident: $($variant:ident)*) => {{
        fn _complete(value: &$type) {
            match value { $($type::$variant => {})* }
        }
        [$($type::$variant),*]
    }};
}

#[test]
fn names_are_the_same() {
    names("Role", &every!(Role: User Assistant));
    names("State", &every!(State: Active Paused Ended));
    names("Rating", &every!(Rating: Up Down));
    names("StepStatus", &every!(StepStatus: Running Ok Error Skipped));
    names("Status", &Status::ALL);
    names("StoppedBy", &every!(StoppedBy: Request Disconnect Interrupt Deletion));
    names("IfBusy", &every!(IfBusy: Reject Queue Interrupt));
    names("Basis", &every!(Basis: Reported Estimated));
    names("ClosedCode", &every!(Closed: Draining LostLease Unavailable Revoked));
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let document = document();
    assert_eq!(component(&document, "Problem")["properties"]["code"]["enum"], json!(codes));
}

fn usage(full: bool) -> Usage {
    let some = full.then_some(3);
    Usage {
        prompt_tokens: 1,
        completion_tokens: 2,
        cached_tokens: some,
        cache_write_tokens: some,
        reasoning_tokens: some,
        cost_nano_usd: some,
        basis: Basis::Reported,
    }
}

fn source(full: bool) -> Source {
    Source {
        source_id: id(SourceId::new),
        number: 1,
        title: "A title".to_owned(),
        url: full.then(|| "https://docs.example/a?b=c".to_owned()),
        document_id: full.then(|| "doc_1".to_owned()),
        snippet: "A passage".to_owned(),
        score: 0.25,
    }
}

fn step(full: bool) -> Step {
    Step {
        step_id: id(StepId::new),
        parent_id: full.then(|| id(StepId::new)),
        kind: "sql".to_owned(),
        label: "Ask the database".to_owned(),
        input: full.then(|| json!({"sql": "select 1"})),
        status: if full { StepStatus::Ok } else { StepStatus::Running },
        output: full.then(|| json!([1, "a", null])),
        error: full.then(|| "it broke".to_owned()),
        duration_ms: full.then_some(7),
    }
}

fn visualization(full: bool) -> Visualization {
    let mut spec = json!({
        "columns": [{"key": "day", "label": "Day", "type": "time"}, {"key": "sold", "label": "Sold", "type": "number"},
            {"key": "by", "label": "By", "type": "string"}],
        "rows": [{"day": "2026-01-01", "sold": 3, "by": null}],
    });
    if full {
        spec["x"] = json!("day");
        spec["y"] = json!(["sold"]);
    }
    let visualization_id = id(VisualizationId::new);
    Visualization { visualization_id, kind: "bar".to_owned(), title: "Sales".to_owned(), spec }
}

fn problem() -> Problem {
    Problem { code: "upstream_error".to_owned(), message: "The model reported an error.".to_owned() }
}

fn message(full: bool) -> Message {
    let some = full.then_some(5);
    Message {
        id: id(MessageId::new),
        conversation_id: id(ConversationId::new),
        turn_id: id(TurnId::new),
        parent_id: full.then(|| id(MessageId::new)),
        role: if full { Role::Assistant } else { Role::User },
        content: match full {
            true => Content::Text("Hello".to_owned()),
            false => Content::Parts(vec![ContentPart::Text { text: "Hello".to_owned() }]),
        },
        reasoning: full.then(|| "Hm".to_owned()),
        status: if full { Status::Failed } else { Status::Completed },
        model: full.then(|| "demo".to_owned()),
        created_at: Timestamp::from_micros(NOW),
        seq: 9,
        sources: vec![source(full)],
        steps: vec![step(full)],
        visualizations: vec![visualization(full)],
        usage: full.then(|| usage(full)),
        finish_reason: full.then(|| "stop".to_owned()),
        error: full.then(problem),
        stopped_by: full.then_some(StoppedBy::Request),
        duration_ms: some,
        first_token_ms: some,
        feedback: full.then(|| feedback(true)),
        metadata: json!({"any": ["thing"]}),
    }
}

fn feedback(full: bool) -> Feedback {
    Feedback {
        rating: Rating::Down,
        reason: full.then(|| "outdated".to_owned()),
        note: full.then(|| "There is a newer one.".to_owned()),
        created_at: Timestamp::from_micros(NOW),
    }
}

fn finished(full: bool) -> Finished {
    Finished {
        status: Status::Failed,
        finish_reason: full.then(|| "stop".to_owned()),
        error: full.then(problem),
        stopped_by: full.then_some(StoppedBy::Interrupt),
        saved: full,
        message_id: id(MessageId::new),
        duration_ms: 5,
        first_token_ms: full.then_some(2),
    }
}

#[test]
fn messages_are_as_described() {
    mirrors("Message", &[&message(true), &message(false)]);
    mirrors("Step", &[&step(true), &step(false)]);
    mirrors("Source", &[&source(true), &source(false)]);
    mirrors("Visualization", &[&visualization(true), &visualization(false)]);
    mirrors("VisualizationSpec", &[&visualization(true).spec, &visualization(false).spec]);
    mirrors("Feedback", &[&feedback(true), &feedback(false)]);
    mirrors("Usage", &[&usage(true), &usage(false)]);
    mirrors("TurnProblem", &[&problem()]);
    mirrors("ContentPart", &[&ContentPart::Text { text: String::new() }]);
    mirrors("Content", &[&Content::Text("a".to_owned()), &Content::Parts(Vec::new())]);
    mirrors("Said", &[&Said { role: Role::User, content: "a".to_owned() }]);
}

fn config(full: bool) -> Config {
    Config {
        model: full.then(|| "demo".to_owned()),
        instructions: full.then(|| "Be kind.".to_owned()),
        temperature: full.then_some(0.5),
        max_tokens: full.then_some(10),
        enable_rag: full.then_some(false),
        timeout_seconds: full.then_some(60),
    }
}

fn conversation(full: bool) -> Conversation {
    Conversation {
        id: id(ConversationId::new),
        title: "A title".to_owned(),
        state: State::Active,
        archived_at: full.then(|| Timestamp::from_micros(NOW)),
        archive_reason: full.then(|| "solved".to_owned()),
        created_at: Timestamp::from_micros(NOW),
        last_message_at: Timestamp::from_micros(NOW),
        expires_at: full.then(|| Timestamp::from_micros(NOW)),
        config: config(full),
        metadata: json!({}),
        live_turn_id: full.then(|| id(TurnId::new)),
    }
}

#[test]
fn turns_and_conversations_are_as_described() {
    let turn = |full: bool| Turn {
        id: id(TurnId::new),
        conversation_id: id(ConversationId::new),
        status: Status::Running,
        seq: 4,
        message: message(full),
        usage: full.then(|| usage(full)),
        created_at: Timestamp::from_micros(NOW),
        finished_at: full.then(|| Timestamp::from_micros(NOW)),
    };
    mirrors("Turn", &[&turn(true), &turn(false)]);
    mirrors("Config", &[&config(true), &config(false)]);
    mirrors("Conversation", &[&conversation(true), &conversation(false)]);
    mirrors("Piece", &[&Piece { text: "tide".to_owned(), matched: true }]);
}

/// The name of an event's schema; does not compile while a kind is missing.
fn schema_of(event: &Event) -> &'static str {
    match event {
        Event::TurnStarted { .. } => "TurnStarted",
        Event::StepStarted { .. } => "StepStarted",
        Event::StepFinished { .. } => "StepFinished",
        Event::Source(_) => "SourceFound",
        Event::Delta { .. } => "Delta",
        Event::Reasoning { .. } => "Reasoning",
        Event::Visualization(_) => "VisualizationShown",
        Event::Usage { .. } => "UsageTold",
        Event::TurnFinished(_) => "TurnFinished",
    }
}

fn events(full: bool) -> Vec<Event> {
    vec![
        Event::TurnStarted {
            turn_id: id(TurnId::new),
            conversation_id: id(ConversationId::new),
            user_message_id: id(MessageId::new),
            message_id: id(MessageId::new),
            model: "demo".to_owned(),
        },
        Event::StepStarted {
            step_id: id(StepId::new),
            parent_id: full.then(|| id(StepId::new)),
            kind: "model".to_owned(),
            label: "Ask".to_owned(),
            input: full.then(|| json!("x")),
        },
        Event::StepFinished {
            step_id: id(StepId::new),
            status: StepStatus::Skipped,
            output: full.then(|| json!(1)),
            error: full.then(|| "it broke".to_owned()),
            duration_ms: 3,
        },
        Event::Source(source(full)),
        Event::Delta { text: "a".to_owned() },
        Event::Reasoning { text: "a".to_owned() },
        Event::Visualization(visualization(full)),
        Event::Usage { step_id: id(StepId::new), model: "demo".to_owned(), usage: usage(full) },
        Event::TurnFinished(finished(full)),
    ]
}

#[test]
fn every_kind_of_event_is_as_described() {
    let mut kinds = Vec::new();
    for (full, bare) in events(true).into_iter().zip(events(false)) {
        let json = |event: &Event| {
            let mut line = Vec::new();
            write_line(&mut line, 12, event);
            serde_json::from_slice::<Value>(&line).unwrap()
        };
        let name = schema_of(&full);
        kinds.push((json(&full)["type"].as_str().unwrap().to_owned(), format!("#/components/schemas/{name}")));
        if let Event::TurnFinished(finished) = &bare {
            // The end has no number where it is not saved.
            mirrors(name, &[&json(&full), &Unnumbered::Unsaved(finished)]);
        } else {
            mirrors(name, &[&json(&full), &json(&bare)]);
        }
        mirrors("Event", &[&json(&full), &json(&bare)]);
    }
    let mapping: serde_json::Map<String, Value> = kinds.into_iter().map(|(kind, name)| (kind, name.into())).collect();
    assert_eq!(component(&document(), "Event")["discriminator"], json!({"propertyName": "type", "mapping": mapping}));
}

#[test]
fn every_frame_without_a_number_is_as_described() {
    let (message, finished, conversation_id) = (message(false), finished(false), id(ConversationId::new));
    let closed = |full: bool| Unnumbered::Closed { code: Closed::Draining, retry_after_ms: full.then_some(500) };
    let (long, short) = (closed(true), closed(false));
    let conversation = conversation(true);
    let frames: [(Unnumbered<'_>, &str); 6] = [
        (Unnumbered::Ping, "Ping"),
        (Unnumbered::Snapshot { seq: 9, message: &message }, "Snapshot"),
        (Unnumbered::Unsaved(&finished), "Frame"),
        (Unnumbered::Updated { conversation: &conversation }, "ConversationUpdated"),
        (Unnumbered::Deleted { conversation_id: &conversation_id }, "ConversationDeleted"),
        (closed(true), "Frame"),
    ];
    mirrors("StreamClosed", &[&long, &short]);
    for (frame, name) in &frames {
        mirrors(name, &[frame]);
        match frame {
            Unnumbered::Updated { .. } | Unnumbered::Deleted { .. } => mirrors("FeedFrame", &[frame]),
            Unnumbered::Ping | Unnumbered::Snapshot { .. } | Unnumbered::Closed { .. } | Unnumbered::Unsaved(_) => {
                mirrors("Frame", &[frame]);
            }
        }
    }
}

#[test]
fn a_drift_shows() {
    let document = strict(document());
    let schema = json!({"$ref": "#/components/schemas/Message"});
    let mut value = message(true).json();
    assert_eq!(faults(&document, &schema, &value), [""; 0]);
    for (field, wrong) in
        [("seq", json!("9")), ("status", json!("done")), ("new", json!(1)), ("created_at", json!("today"))]
    {
        let right = value[field].take();
        value[field] = wrong;
        assert!(!faults(&document, &schema, &value).is_empty(), "{field}");
        value[field] = right;
        if field == "new" {
            value.as_object_mut().unwrap().remove(field);
        }
    }
    value["steps"][0]["new"] = json!(1);
    assert!(!faults(&document, &schema, &value).is_empty(), "a field of a step");
}
