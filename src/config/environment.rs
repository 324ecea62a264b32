//! Settings from the environment: `TIDEGATE_` and the path in upper case, `__` between levels, lists by index.
//!
//! A value is read as its key expects: a text as it stands; a number; `true` or `false`; a list as `a,b`, as JSON, or
//! one item by its index; a table (such as `headers`) as a JSON object. Where a setting has no default, an empty text
//! is the same as none.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;

use serde::Deserialize;
use toml::{Table, Value};

use super::ConfigError;
use super::keys::Shape;
use super::tree::{self, Place};

const PREFIX: &str = "TIDEGATE_";

/// What each path was set by.
pub type Origins = BTreeMap<String, String>;

/// Lays the environment over `tree`. The answer is one warning for each variable that names no setting.
pub fn lay_over(
    tree: &mut Table,
    environment: &HashMap<OsString, OsString>,
    origins: &mut Origins,
) -> Result<Vec<String>, ConfigError> {
    let mut warnings = Vec::new();
    let mut whole = Value::Table(std::mem::take(tree));
    for (path, (variable, value)) in variables(environment) {
        let value = value.to_str().ok_or_else(|| ConfigError::new("is not UTF-8").set_by(variable))?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let value = match value_at(&path, value) {
            Ok(Some(value)) if !variable.contains(|c: char| c.is_ascii_lowercase()) => value,
            Ok(_) => {
                warnings.push(unknown(variable, &path));
                continue;
            }
            Err(error) => return Err(error.set_by(variable)),
        };
        *slot(&mut whole, &path).map_err(|error| error.set_by(variable))? = value;
        origins.insert(path.join("."), variable.to_owned());
    }
    if let Value::Table(table) = whole {
        *tree = table;
    }
    Ok(warnings)
}

type Variable<'a> = (Vec<String>, (&'a str, &'a OsString));

/// Our variables and their paths, ordered so that index 2 comes before index 10.
fn variables(environment: &HashMap<OsString, OsString>) -> Vec<Variable<'_>> {
    let ours = environment.iter().filter_map(|(name, value)| {
        let name = name.to_str()?;
        let parts = name.strip_prefix(PREFIX)?.split("__");
        Some((parts.map(str::to_lowercase).collect(), (name, value)))
    });
    let mut ours: Vec<Variable<'_>> = ours.collect();
    ours.sort_by_cached_key(|(path, _)| {
        path.iter().map(|part| (part.parse::<usize>().ok(), part.clone())).collect::<Vec<_>>()
    });
    ours
}

/// `text` as the key at `path` expects it; `None` where there is no such key.
fn value_at(path: &[&str], text: &str) -> Result<Option<Value>, ConfigError> {
    let dotted = path.join(".");
    let must = |what: &str| ConfigError::at(&dotted, format_args!("must be {what}"));
    let key = match tree::place(&pattern(path)) {
        Place::Key(key) => key,
        Place::Sections => return json(text).map(Some).ok_or_else(|| must("a JSON list of objects")),
        Place::Section | Place::Unknown => {
            let item = match path {
                [list @ .., index] if index.parse::<usize>().is_ok() => tree::place(&pattern(list)),
                _ => Place::Unknown,
            };
            let in_list = matches!(item, Place::Key(key) if key.shape == Shape::List);
            return Ok(in_list.then(|| Value::String(text.to_owned())));
        }
    };
    let value = match key.shape {
        Shape::Text => Value::String(text.to_owned()),
        Shape::Flag => Value::Boolean(text.parse().map_err(|_| must("true or false"))?),
        Shape::Count(_) => Value::Integer(text.parse().map_err(|_| must("a whole number"))?),
        Shape::Seconds(_) => Value::Integer(text.parse().map_err(|_| must("a whole number of seconds"))?),
        Shape::List => json(text).filter(Value::is_array).unwrap_or_else(|| list(text)),
        Shape::Map => json(text).filter(Value::is_table).ok_or_else(|| must("a JSON object without nulls"))?,
    };
    Ok(Some(value))
}

fn json(text: &str) -> Option<Value> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    Value::deserialize(value).ok()
}

fn list(text: &str) -> Value {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
}

/// The path with `*` for each index.
fn pattern(path: &[&str]) -> String {
    let parts = path.iter().map(|part| if part.parse::<usize>().is_ok() { "*" } else { part });
    parts.collect::<Vec<_>>().join(".")
}

/// The place in the tree that `path` names, made if need be.
fn slot<'a>(tree: &'a mut Value, path: &[&str]) -> Result<&'a mut Value, ConfigError> {
    let mut here = tree;
    for (depth, part) in path.iter().enumerate() {
        let next_is_index = path.get(depth + 1).is_some_and(|next| next.parse::<usize>().is_ok());
        let empty = || if next_is_index { Value::Array(Vec::new()) } else { Value::Table(Table::new()) };
        here = match here {
            Value::Table(table) => table.entry(*part).or_insert_with(empty),
            Value::Array(list) => {
                let index: usize = part.parse().unwrap_or(usize::MAX);
                if index == list.len() {
                    list.push(empty());
                }
                let next = list.len();
                list.get_mut(index).ok_or_else(|| {
                    ConfigError::at(path.join("."), format_args!("leaves a gap: the next index is {next}"))
                })?
            }
            Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
                return Err(ConfigError::at(path.join("."), "has no place there"));
            }
        };
    }
    Ok(here)
}

fn unknown(variable: &str, path: &[&str]) -> String {
    let nearest = tree::nearest(&path.join("."), &pattern(path)).to_uppercase().replace('.', "__");
    format!("{variable} names no setting; the nearest is {PREFIX}{nearest}").replace(char::is_control, " ")
}
