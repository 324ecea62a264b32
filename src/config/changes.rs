//! What two readings of the settings differ in.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

use super::keys::{KEYS, Shown};

/// Sections that a running server takes anew. All else it keeps until it is started again.
const RELOADED: [&str; 4] = ["applications.", "prices.", "tls.", "upstreams."];

/// The settings that a server keeps until it is started again, as they were read. Some are secrets: they are not shown.
#[derive(Clone, PartialEq)]
pub struct Kept(BTreeMap<&'static str, Option<Value>>);

impl Kept {
    /// Those of a tree that has passed every check.
    pub fn of(tree: &Table) -> Self {
        let kept = KEYS.iter().filter(|key| !RELOADED.iter().any(|section| key.path.starts_with(section)));
        let valued = kept.map(|key| match key.shown {
            // What is said and what is silently the case are the same.
            Shown::Default(value) => (key.path, at(tree, key.path).or_else(|| value.parse().ok())),
            Shown::Sample(_) => (key.path, at(tree, key.path)),
        });
        Self(valued.collect())
    }

    /// The paths of the settings that are others in `new`.
    pub fn changed(&self, new: &Self) -> Vec<&'static str> {
        self.0.iter().filter(|(path, value)| new.0.get(*path) != Some(value)).map(|(path, _)| *path).collect()
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn at(tree: &Table, path: &str) -> Option<Value> {
    let (parents, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut table = tree;
    for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
        table = table.get(parent)?.as_table()?;
    }
    table.get(name).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> Kept {
        Kept::of(&text.parse().unwrap())
    }

    #[test]
    fn what_a_running_server_keeps_is_named_where_it_changed() {
        let old = kept("listen = \"127.0.0.1:1\"\n[limits]\ngrace_s = 30\n[database]\nurl = \"postgres://u:p4ss@h/d\"");
        assert_eq!(old.changed(&old), Vec::<&str>::new());
        let new = kept("public_url = \"http://h\"\n[tls]\ncert_file = \"c\"\n[[upstreams]]\nname = \"a\"");
        assert_eq!(old.changed(&new), ["database.url", "listen", "public_url"], "the default of grace_s is 30");
        assert!(!format!("{old:?}").contains("p4ss"));
    }

    #[test]
    fn every_default_is_known() {
        assert!(kept("").0.values().flatten().count() > 30);
    }
}
