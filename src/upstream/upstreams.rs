//! The upstreams of one server, in the order of its settings.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use globset::{Glob, GlobSet, GlobSetBuilder};

use super::Upstream;
use super::demo::Demo;
use super::openai::Openai;
use super::openai::catalog::Catalog;
use super::settings::{Kind, Settings};
use super::setup::SetupError;
use super::transport::Transport;
use super::transport::raw::ticks::Ticks;
use crate::domain::called::OTHER;
use crate::domain::limits::Limits;
use crate::domain::secret::Secret;

/// The upstreams of one server, in the order of its settings.
#[derive(Debug)]
pub struct Upstreams {
    entries: Vec<Entry>,
    ticks: Ticks,
}

/// One upstream, and which models it serves.
pub struct Entry {
    name: Arc<str>,
    provider: &'static str,
    upstream: Arc<dyn Upstream>,
    globs: GlobSet,
    /// Names that are served whatever the globs say.
    named: Vec<String>,
    /// Our model name → theirs.
    rename: BTreeMap<String, String>,
    catalog: Option<Catalog>,
}

/// A model that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Our name for it.
    pub id: String,
    /// The name of the upstream that is asked first.
    pub owned_by: String,
}

impl Upstreams {
    /// Reads keys and certificates, and makes ready to call. An absent time is taken from `limits`; fast connections are read at
    /// `ticks`.
    pub fn new(settings: &[Settings], limits: &Limits, ticks: Ticks) -> Result<Self, SetupError> {
        let mut names = HashSet::new();
        let mut entries = Vec::with_capacity(settings.len());
        for (index, settings) in settings.iter().enumerate() {
            if settings.name.is_empty() || !names.insert(settings.name.as_str()) {
                let problem = if settings.name.is_empty() { "is empty" } else { "is the name of another upstream" };
                return Err(SetupError::new("name", problem).of(index));
            }
            entries.push(Entry::new(settings, limits, &ticks).map_err(|error| error.of(index))?);
        }
        Ok(Self { entries, ticks })
    }

    /// When fast connections are read.
    pub fn ticks(&self) -> &Ticks {
        &self.ticks
    }

    /// With one more that is made already, and is asked after the others. `models` are names, not patterns.
    #[must_use]
    pub fn and(mut self, name: &str, upstream: Arc<dyn Upstream>, models: &[&str]) -> Self {
        let named = models.iter().copied().map(str::to_owned).collect();
        let (name, globs) = (name.into(), GlobSet::empty());
        let rename = BTreeMap::new();
        self.entries.push(Entry { name, provider: OTHER, upstream, globs, named, rename, catalog: None });
        self
    }

    /// Those that serve the model, in the order they are to be asked.
    pub fn candidates<'a>(&'a self, model: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.serves(model))
    }

    /// Whether any of them serves the model. An empty text is no name, nor is one with control characters, even where
    /// a pattern would take it: a database may not hold them.
    pub fn serves(&self, model: &str) -> bool {
        is_name(model) && self.candidates(model).next().is_some()
    }

    /// The models that are known by name: those named in the settings, and those the upstreams behind a pattern list
    /// themselves. Never fails; an upstream that does not answer within seconds adds what it said last.
    pub async fn models(&self) -> Vec<Model> {
        let mut seen = BTreeSet::new();
        let mut models = Vec::new();
        let lists = join_all(self.entries.iter().map(Entry::models)).await;
        for (entry, list) in self.entries.iter().zip(lists) {
            for id in list {
                if seen.insert(id.clone()) {
                    models.push(Model { id, owned_by: entry.name.to_string() });
                }
            }
        }
        models
    }
}

/// The longest name of a model, in bytes.
const NAME: usize = 255;

/// Whether a text can be a model's name at all.
fn is_name(model: &str) -> bool {
    (1..=NAME).contains(&model.len()) && !model.chars().any(char::is_control)
}

impl Entry {
    fn new(settings: &Settings, limits: &Limits, ticks: &Ticks) -> Result<Self, SetupError> {
        let (plain, patterns): (Vec<_>, Vec<_>) = settings.models.iter().partition(|model| is_plain(model));
        let mut named: Vec<String> = plain.into_iter().chain(settings.rename.keys()).cloned().collect();
        let globs = globs(settings)?;
        let first_token = time("first_token_s", settings.first_token_s, limits.first_token_s)?;
        let idle = time("idle_s", settings.idle_s, limits.idle_s)?;
        let connect = time("connect_s", settings.connect_s, limits.connect_s)?;
        let name: Arc<str> = settings.name.as_str().into();
        let secret = secret(settings)?;
        let (upstream, catalog): (Arc<dyn Upstream>, _) = match settings.kind {
            Kind::Demo => {
                if settings.base_url.is_some() {
                    return Err(SetupError::new("base_url", "is not for `demo`, which is built in"));
                }
                if globs.is_match("demo") {
                    named.push("demo".to_owned());
                }
                (Arc::new(Demo::new(first_token, idle)), None)
            }
            Kind::Openai => {
                let transport = Arc::new(Transport::new(settings, secret, connect, ticks.clone())?);
                let catalog = (!patterns.is_empty()).then(|| Catalog::new(name.clone(), transport.clone()));
                let openai = Openai {
                    name: name.clone(),
                    transport,
                    rename: settings.rename.clone(),
                    extra_body: settings.extra_body.clone(),
                    first_token,
                    idle,
                    event_bytes: limits.upstream_event_bytes,
                };
                (Arc::new(openai), catalog)
            }
        };
        let (provider, rename) = (settings.kind.provider(), settings.rename.clone());
        Ok(Self { name, provider, upstream, globs, named, rename, catalog })
    }

    /// Its name in logs and metrics.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which provider it speaks as, by OpenTelemetry's name.
    pub fn provider(&self) -> &'static str {
        self.provider
    }

    /// Its own name for the model.
    pub fn name_of<'a>(&'a self, model: &'a str) -> &'a str {
        self.rename.get(model).map_or(model, String::as_str)
    }

    /// The upstream itself.
    pub fn upstream(&self) -> &Arc<dyn Upstream> {
        &self.upstream
    }

    fn serves(&self, model: &str) -> bool {
        self.globs.is_match(model) || self.named.iter().any(|name| name == model)
    }

    async fn models(&self) -> Vec<String> {
        let mut models = self.named.clone();
        if let Some(catalog) = &self.catalog {
            models.extend(catalog.models().await.into_iter().filter(|model| is_name(model) && self.serves(model)));
        }
        models
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether a glob stands for one name only.
fn is_plain(glob: &str) -> bool {
    !glob.contains(['*', '?', '[', ']', '{', '}', '\\'])
}

fn globs(settings: &Settings) -> Result<GlobSet, SetupError> {
    let mut set = GlobSetBuilder::new();
    for (index, text) in settings.models.iter().enumerate() {
        let glob = Glob::new(text).map_err(|error| {
            SetupError::new(format!("models.{index}"), format!("`{text}` is no pattern: {}", error.kind()))
        })?;
        set.add(glob);
    }
    set.build().map_err(|error| SetupError::new("models", error.kind().to_string()))
}

fn time(setting: &str, own: Option<u64>, common: u64) -> Result<Duration, SetupError> {
    match own {
        Some(0) => Err(SetupError::new(setting, "must be at least 1")),
        own => Ok(Duration::from_secs(own.unwrap_or(common))),
    }
}

/// The API key, from the one place that is set.
fn secret(settings: &Settings) -> Result<Option<Secret>, SetupError> {
    let wrong = |setting: &str, problem: String| Err(SetupError::new(setting, problem));
    let (setting, text) = match (&settings.api_key, &settings.api_key_env, &settings.api_key_file) {
        (None, None, None) => return Ok(None),
        (Some(key), None, None) => ("api_key", key.reveal().to_owned()),
        (None, Some(name), None) => match std::env::var(name) {
            Ok(key) => ("api_key_env", key),
            Err(_) => return wrong("api_key_env", format!("the environment variable {name} is not set")),
        },
        (None, None, Some(path)) => match std::fs::read_to_string(path) {
            Ok(key) => ("api_key_file", key),
            Err(error) => return wrong("api_key_file", format!("cannot read {}: {error}", path.display())),
        },
        (_, Some(_), _) => return wrong("api_key_env", "another api_key is set as well".to_owned()),
        (_, None, Some(_)) => return wrong("api_key_file", "another api_key is set as well".to_owned()),
    };
    let key = text.trim_end_matches(['\r', '\n']);
    if key.is_empty() {
        return wrong(setting, "holds no key".to_owned());
    }
    Ok(Some(key.into()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::{Value, json};

    use super::*;

    fn settings(fields: Value) -> Settings {
        let mut all = json!({"name": "a", "kind": "openai", "base_url": "http://127.0.0.1:1/v1"});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn of(settings: &[Settings]) -> Upstreams {
        Upstreams::new(settings, &Limits::default(), Ticks::default()).unwrap()
    }

    fn error(fields: Value) -> String {
        Upstreams::new(&[settings(fields)], &Limits::default(), Ticks::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_model_is_served_in_the_order_of_the_settings() {
        let upstreams = of(&[
            settings(json!({"models": ["gpt-4o", "meta/*"]})),
            settings(json!({"name": "b", "models": ["gpt-*"], "rename": {"fast": "x"}})),
        ]);
        let names = |model| upstreams.candidates(model).map(Entry::name).collect::<Vec<_>>();
        assert_eq!(names("gpt-4o"), ["a", "b"]);
        assert_eq!(names("meta/llama/3"), ["a"]);
        assert_eq!(names("fast"), ["b"]);
        assert!(upstreams.serves("gpt-5") && !upstreams.serves("claude"));
    }

    #[tokio::test]
    async fn models_named_in_the_settings_are_listed_once() {
        let upstreams = of(&[
            settings(json!({"models": ["x"], "rename": {"fast": "x"}})),
            settings(json!({"name": "b", "models": ["x", "y"]})),
            settings(json!({"name": "d", "kind": "demo", "base_url": null})),
        ]);
        let models = upstreams.models().await;
        let pairs: Vec<_> = models.iter().map(|model| (model.id.as_str(), model.owned_by.as_str())).collect();
        assert_eq!(pairs, [("x", "a"), ("fast", "a"), ("y", "b"), ("demo", "d")]);
    }

    #[test]
    fn an_impossible_setting_is_named_in_one_line() {
        for (fields, start) in [
            (json!({"base_url": null}), "upstreams.0.base_url: is missing"),
            (json!({"base_url": "localhost:1"}), "upstreams.0.base_url: must begin"),
            (json!({"base_url": "//"}), "upstreams.0.base_url: is no URL"),
            (json!({"kind": "demo"}), "upstreams.0.base_url: is not for"),
            (json!({"name": ""}), "upstreams.0.name: is empty"),
            (json!({"models": ["a", "b["]}), "upstreams.0.models.1: `b[` is no pattern"),
            (json!({"idle_s": 0}), "upstreams.0.idle_s: must be"),
            (json!({"headers": {"a b": "x"}}), "upstreams.0.headers.a b: is no"),
            (json!({"headers": {"x": "a\nb"}}), "upstreams.0.headers.x: holds a"),
            (json!({"proxy": "::"}), "upstreams.0.proxy: is no URL"),
            (json!({"ca_file": "/nowhere"}), "upstreams.0.ca_file: cannot read /nowhere"),
            (json!({"api_key": "a\nb"}), "upstreams.0.api_key: holds a character"),
            (json!({"api_key_env": "TIDEGATE_TEST_UNSET"}), "upstreams.0.api_key_env: the environment"),
            (json!({"api_key_file": "/nowhere"}), "upstreams.0.api_key_file: cannot read"),
            (json!({"api_key": "a", "api_key_file": "/nowhere"}), "upstreams.0.api_key_file: another"),
        ] {
            let error = error(fields);
            assert!(error.starts_with(start) && !error.contains('\n'), "{error}");
        }
        let twins = [settings(json!({})), settings(json!({}))];
        let error = Upstreams::new(&twins, &Limits::default(), Ticks::default()).unwrap_err();
        assert_eq!(error.setting(), "upstreams.1.name");
    }

    #[test]
    fn a_key_is_read_from_its_file_without_the_line_end() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"sk-1\n").unwrap();
        let settings = settings(json!({"api_key_file": file.path()}));
        assert_eq!(secret(&settings).unwrap().unwrap().reveal(), "sk-1");
    }

    #[test]
    fn no_secret_is_printed() {
        let settings = settings(json!({"api_key": "sk-1", "headers": {"x": "sk-1"}, "proxy": "http://u:sk-1@h"}));
        let upstreams = of(std::slice::from_ref(&settings));
        assert!(!format!("{settings:?} {upstreams:?}").contains("sk-1"));
    }
}
