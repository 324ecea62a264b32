//! What the demo knows: a few passages about tides, and a tide table.

use serde_json::{Value, json};

use crate::domain::clock::Timestamp;
use crate::domain::ids::{SourceId, VisualizationId};
use crate::domain::message::{Source, Visualization};

/// A passage the demo can cite.
struct Passage {
    title: &'static str,
    path: &'static str,
    snippet: &'static str,
}

const PASSAGES: [Passage; 5] = [
    Passage {
        title: "Why there are two tides a day",
        path: "two-tides",
        snippet: "The sea rises on the side that faces the moon and on the side that faces away from it.",
    },
    Passage {
        title: "How a tide gate works",
        path: "tide-gate",
        snippet: "A tide gate lets the river out at ebb and shuts by itself when the flood comes.",
    },
    Passage {
        title: "Reading a tide table",
        path: "tide-table",
        snippet: "Heights are given above chart datum, the level below which the tide seldom falls.",
    },
    Passage {
        title: "Spring and neap tides",
        path: "spring-neap",
        snippet: "When sun and moon pull along one line the range is greatest; at half moon it is least.",
    },
    Passage {
        title: "Slack water",
        path: "slack-water",
        snippet: "Between flood and ebb the stream stands still for a little while before it turns.",
    },
];

const HOURS: [(&str, f64, f64); 6] = [
    ("00:00", 1.2, 0.9),
    ("04:00", 3.8, 3.1),
    ("08:00", 4.6, 3.9),
    ("12:00", 1.9, 1.6),
    ("16:00", 3.5, 2.8),
    ("20:00", 4.9, 4.2),
];

/// What a passage says, by the same choice as [`sources`].
pub fn snippet(choice: u64, number: u64) -> &'static str {
    passage(choice, number).snippet
}

/// `count` different passages as sources `[1]`, `[2]`…
pub fn sources(choice: u64, count: u64, now: Timestamp) -> impl Iterator<Item = Source> {
    (1..=count).map(move |number| {
        let passage = passage(choice, number);
        Source {
            source_id: SourceId::new(now),
            number,
            title: passage.title.to_owned(),
            url: Some(format!("https://example.com/tides/{}", passage.path)),
            document_id: Some(passage.path.to_owned()),
            snippet: passage.snippet.to_owned(),
            score: 0.95 - 0.08 * number as f64,
        }
    })
}

fn passage(choice: u64, number: u64) -> &'static Passage {
    let count = PASSAGES.len() as u64;
    &PASSAGES[((choice % count + number - 1) % count) as usize]
}

/// The tide table, as a `table` or as a chart.
pub fn visualization(kind: &str, now: Timestamp) -> Visualization {
    let rows: Vec<Value> =
        HOURS.iter().map(|(hour, gate, harbour)| json!({"hour": hour, "gate": gate, "harbour": harbour})).collect();
    let mut spec = json!({
        "columns": [
            {"key": "hour", "label": "Hour", "type": "string"},
            {"key": "gate", "label": "At the gate (m)", "type": "number"},
            {"key": "harbour", "label": "In the harbour (m)", "type": "number"},
        ],
        "rows": rows,
    });
    if kind != "table" {
        spec["x"] = json!("hour");
        // A pie has room for one value of each row.
        spec["y"] = if kind == "pie" { json!(["gate"]) } else { json!(["gate", "harbour"]) };
    }
    let visualization_id = VisualizationId::new(now);
    Visualization { visualization_id, kind: kind.to_owned(), title: "Height of the tide today".to_owned(), spec }
}
