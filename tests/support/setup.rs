//! What a gateway is started with.

use toml::{Table, Value};

use super::Upstream;

/// A gateway that is not started yet.
pub struct Setup {
    pub(super) config: Table,
    pub(super) environment: Vec<(String, String)>,
    pub(super) arguments: Vec<String>,
}

impl Setup {
    /// One that keeps its record there; it has no upstream yet.
    pub fn new(database_url: &str) -> Self {
        let config = toml::toml! {
            listen = "127.0.0.1:0"
            default_model = "test-model"
        };
        let setup = Self { config, environment: Vec::new(), arguments: Vec::new() };
        setup.set("database.url", database_url)
    }

    /// Adds an upstream for every model.
    pub fn upstream(self, upstream: &Upstream) -> Self {
        self.upstream_at(&upstream.base_url())
    }

    /// The same, by its base URL.
    pub fn upstream_at(self, base_url: &str) -> Self {
        let name = format!("fake{}", self.upstreams());
        self.add_upstream(toml::toml! { kind = "openai" models = ["*"] }, &name, Some(base_url))
    }

    /// Adds the built-in upstream for the model `demo`.
    pub fn demo(self) -> Self {
        self.add_upstream(toml::toml! { kind = "demo" models = ["demo"] }, "demo", None)
    }

    /// Takes the settings of a file in place of its own.
    pub fn text_of(mut self, text: &str) -> Self {
        self.config = text.parse().unwrap();
        self
    }

    /// The settings as a file, for a server in the test's own process.
    pub fn text(&self) -> String {
        self.config.to_string()
    }

    fn upstreams(&self) -> usize {
        self.config.get("upstreams").and_then(Value::as_array).map_or(0, Vec::len)
    }

    fn add_upstream(mut self, mut upstream: Table, name: &str, base_url: Option<&str>) -> Self {
        upstream.insert("name".into(), name.into());
        base_url.and_then(|url| upstream.insert("base_url".into(), url.into()));
        let list = self.config.entry("upstreams").or_insert_with(|| Value::Array(Vec::new()));
        list.as_array_mut().unwrap().push(upstream.into());
        self
    }

    /// Sets one key by its path, such as `limits.idle_s` or `upstreams.0.models`.
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        let (parents, key) = path.rsplit_once('.').unwrap_or(("", path));
        let mut table = &mut self.config;
        let mut parents = parents.split('.').filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parents.next() {
            let next = table.entry(part).or_insert_with(|| Value::Table(Table::new()));
            table = match (next, parents.peek().and_then(|index| index.parse::<usize>().ok())) {
                (Value::Array(items), Some(index)) => {
                    parents.next();
                    items[index].as_table_mut().unwrap()
                }
                (next, _) => next.as_table_mut().unwrap(),
            };
        }
        table.insert(key.to_owned(), value.into());
        self
    }

    /// Sets an environment variable of the process.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a command-line argument after `serve --config FILE`.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }
}
