//! Values that came as text although they are something else: models and tools write `"12.5"` where a chart needs a
//! number, and `"{\"rows\":3}"` where a step has an object.

use serde_json::{Number, Value};

use super::message::{Step, Visualization};

/// Reads what a step was given and what it gave, where that is an object or a list in a string.
pub fn step(step: &mut Step) {
    for value in [&mut step.input, &mut step.output].into_iter().flatten() {
        structured(value);
    }
}

/// Reads a visualization's specification, and the cells of its number columns, where they are strings.
pub fn visualization(visualization: &mut Visualization) {
    structured(&mut visualization.spec);
    let Some(spec) = visualization.spec.as_object_mut() else { return };
    for part in ["columns", "rows", "y"] {
        if let Some(value) = spec.get_mut(part) {
            structured(value);
        }
    }
    let numbers: Vec<String> = spec
        .get("columns")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|column| column.get("type").and_then(Value::as_str) == Some("number"))
        .filter_map(|column| column.get("key").and_then(Value::as_str).map(str::to_owned))
        .collect();
    for row in spec.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten() {
        for key in &numbers {
            if let Some(cell) = row.get_mut(key) {
                number(cell);
            }
        }
    }
}

/// An object or a list that is written in a string.
fn structured(value: &mut Value) {
    if let Value::String(text) = value
        && text.trim_start().starts_with(['{', '['])
        && let Ok(read) = serde_json::from_str(text)
    {
        *value = read;
    }
}

/// A number that is written in a string.
fn number(value: &mut Value) {
    let Value::String(text) = value else { return };
    let text = text.trim();
    let whole = text.parse::<i64>().ok().map(Number::from);
    if let Some(read) = whole.or_else(|| text.parse().ok().and_then(Number::from_f64)) {
        *value = Value::Number(read);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_chart_gets_its_numbers_back_and_keeps_its_text() {
        let mut chart = Visualization {
            visualization_id: "viz_1".into(),
            kind: "bar".to_owned(),
            title: "Sales".to_owned(),
            spec: json!({
                "columns": "[{\"key\":\"n\",\"label\":\"N\",\"type\":\"number\"},{\"key\":\"zip\",\"type\":\"string\"}]",
                "rows": [{"n": " 12.5", "zip": "01067"}, {"n": "7", "zip": "8"}, {"n": "n/a"}, {"n": 3}, {"n": "inf"}],
            }),
        };
        visualization(&mut chart);
        let rows = json!([{"n": 12.5, "zip": "01067"}, {"n": 7, "zip": "8"}, {"n": "n/a"}, {"n": 3}, {"n": "inf"}]);
        assert_eq!(chart.spec["rows"], rows);
        assert_eq!(chart.spec["columns"][1]["key"], "zip");
    }

    #[test]
    fn a_step_gets_its_objects_back_and_keeps_its_text() {
        let mut done: Step = serde_json::from_value(json!({
            "step_id": "step_1", "kind": "tool", "label": "l", "status": "ok",
            "input": "{\"q\": [1]}", "output": "{not json",
        }))
        .unwrap();
        step(&mut done);
        assert_eq!((done.input, done.output), (Some(json!({"q": [1]})), Some(json!("{not json"))));
    }
}
