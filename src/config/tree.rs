//! The settings as a tree of TOML, held against the list of keys before any type is made of it.

use toml::{Table, Value};

use super::ConfigError;
use super::keys::{KEYS, Key, LATER_KINDS, LONGEST_S, Shape, Shown};

/// What is at a path.
pub enum Place {
    /// A setting.
    Key(&'static Key),
    /// A table of settings.
    Section,
    /// A list of tables of settings.
    Sections,
    /// Nothing that is known.
    Unknown,
}

/// What is at `pattern`, a path with `*` for each index.
pub fn place(pattern: &str) -> Place {
    let inside = |section: &str| KEYS.iter().any(|key| key.path.starts_with(section));
    match KEYS.iter().find(|key| key.path == pattern) {
        Some(key) => Place::Key(key),
        None if inside(&format!("{pattern}.*.")) => Place::Sections,
        None if inside(&format!("{pattern}.")) => Place::Section,
        None => Place::Unknown,
    }
}

/// Refuses what is unknown, of the wrong type, out of bounds or not supported yet.
pub fn check(tree: &Table) -> Result<(), ConfigError> {
    check_table(tree, "", "")
}

fn check_table(table: &Table, path: &str, pattern: &str) -> Result<(), ConfigError> {
    for (name, value) in table {
        let path = join(path, name);
        if name.contains(['.', '*']) {
            return Err(unknown(&path, &path));
        }
        let pattern = join(pattern, name);
        match (place(&pattern), value) {
            (Place::Key(key), value) => check_value(key, value, &path)?,
            (Place::Section, Value::Table(table)) => check_table(table, &path, &pattern)?,
            (Place::Section, _) => return Err(ConfigError::at(path, "must be a table")),
            (Place::Sections, Value::Array(list)) => {
                for (index, item) in list.iter().enumerate() {
                    let path = join(&path, &index.to_string());
                    let Value::Table(table) = item else { return Err(ConfigError::at(path, "must be a table")) };
                    check_table(table, &path, &join(&pattern, "*"))?;
                }
            }
            (Place::Sections, _) => {
                return Err(ConfigError::at(&path, format_args!("must be a list of tables: `[[{path}]]`")));
            }
            (Place::Unknown, _) => return Err(unknown(&path, &pattern)),
        }
    }
    Ok(())
}

fn check_value(key: &Key, value: &Value, path: &str) -> Result<(), ConfigError> {
    let must = |what: &str| Err(ConfigError::at(path, format_args!("must be {what}")));
    match (key.shape, value) {
        (Shape::Text, Value::String(_)) | (Shape::Flag, Value::Boolean(_)) | (Shape::Map, Value::Table(_)) => {}
        (Shape::List, Value::Array(list)) if list.iter().all(Value::is_str) => {}
        (Shape::Count(least), Value::Integer(number)) => check_number(path, *number, least, i64::MAX.unsigned_abs())?,
        (Shape::Seconds(least), Value::Integer(number)) => check_number(path, *number, least, LONGEST_S)?,
        (Shape::Text, _) => return must("a text"),
        (Shape::Flag, _) => return must("true or false"),
        (Shape::Map, _) => return must("a table"),
        (Shape::List, _) => return must("a list of texts"),
        (Shape::Count(_), _) => return must("a whole number"),
        (Shape::Seconds(_), _) => return must("a whole number of seconds"),
    }
    if let (true, Some(kind)) = (key.path == "upstreams.*.kind", value.as_str())
        && LATER_KINDS.contains(&kind)
    {
        return Err(ConfigError::at(path, format_args!("`{kind}` is not supported yet")));
    }
    Ok(())
}

fn check_number(path: &str, number: i64, least: u64, most: u64) -> Result<(), ConfigError> {
    match u64::try_from(number) {
        Ok(number) if number > most => Err(ConfigError::at(path, format_args!("must be at most {most}"))),
        Ok(number) if number >= least => Ok(()),
        Ok(_) | Err(_) => Err(ConfigError::at(path, format_args!("must be at least {least}"))),
    }
}

/// Takes out empty texts where a setting has no default: there, empty and absent are the same.
pub fn drop_empty(table: &mut Table, pattern: &str) {
    table.retain(|name, value| {
        let pattern = join(pattern, name);
        match (place(&pattern), value) {
            (Place::Key(key), Value::String(text)) => !(text.is_empty() && matches!(key.shown, Shown::Sample(_))),
            (Place::Section, Value::Table(table)) => {
                drop_empty(table, &pattern);
                true
            }
            (Place::Sections, Value::Array(list)) => {
                list.iter_mut()
                    .filter_map(Value::as_table_mut)
                    .for_each(|table| drop_empty(table, &format!("{pattern}.*")));
                true
            }
            (Place::Key(_) | Place::Section | Place::Sections | Place::Unknown, _) => true,
        }
    });
}

/// `name` in `section`, which is empty at the top.
pub fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

fn unknown(path: &str, pattern: &str) -> ConfigError {
    ConfigError::at(path, format_args!("is no setting; the nearest is `{}`", nearest(path, pattern)))
}

/// The known path nearest to an unknown one, with the unknown one's indices.
pub fn nearest(path: &str, pattern: &str) -> String {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    // A slip in the name is likelier than one in the section, and a right name in a wrong section likelier still.
    let alike = |known: &str| {
        let whole = strsim::jaro_winkler(pattern, known);
        let name = strsim::jaro_winkler(&last(pattern), &last(known));
        whole.max(0.95 * name)
    };
    let known = KEYS.iter().map(|key| key.path).chain(KEYS.iter().map(|key| key.split().1));
    let best = known.filter(|known| !known.is_empty()).max_by(|a, b| alike(a).total_cmp(&alike(b))).unwrap_or_default();
    let mut indices = path.split('.').filter(|part| part.parse::<usize>().is_ok());
    let parts = best.split('.').map(|part| if part == "*" { indices.next().unwrap_or("0") } else { part });
    parts.collect::<Vec<_>>().join(".").trim_end_matches(".0").to_owned()
}
