//! The way from file, environment and flags to a [`Config`].

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use toml::{Table, Value};

use super::changes::Kept;
use super::environment::{self, Origins};
use super::{Config, ConfigError, check, secrets, tree};

/// A settings file, read and not yet understood.
#[derive(Clone, Debug)]
pub struct File {
    /// What errors call it.
    pub name: String,
    /// TOML.
    pub text: String,
}

impl File {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => Err(ConfigError::new(format_args!("cannot be read: {error}")).set_by(name)),
        }
    }

    fn parse(&self) -> Result<Table, ConfigError> {
        self.text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| self.text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            ConfigError::new(error.message()).set_by(format!("{}:{line}", self.name))
        })
    }
}

/// The settings that have a flag; an absent one changes nothing.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--listen`
    pub listen: Option<String>,
    /// `--database-url`
    pub database_url: Option<String>,
}

/// What was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What of it a running server cannot change.
    pub kept: Kept,
    /// One line for each `TIDEGATE_…` variable that names no setting.
    pub warnings: Vec<String>,
}

/// Built-in default < `file` < `environment` < `flags`.
///
/// # Errors
/// The first setting that is unknown, impossible or not supported yet.
pub fn load<K: Into<OsString>, V: Into<OsString>>(
    file: Option<&File>,
    environment: impl IntoIterator<Item = (K, V)>,
    flags: Flags,
) -> Result<Loaded, ConfigError> {
    let environment: HashMap<OsString, OsString> =
        environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let mut origins = Origins::new();
    let mut tree = match file {
        Some(file) => {
            let tree = file.parse()?;
            tree::check(&tree).map_err(|error| error.set_by(&file.name))?;
            tree
        }
        None => Table::new(),
    };
    let warnings = environment::lay_over(&mut tree, &environment, &mut origins)?;
    lay_flags_over(&mut tree, flags, &mut origins);
    let (config, kept) = finish(tree, &environment).map_err(|error| match (origin(&origins, error.path()), file) {
        (Some(origin), _) => error.set_by(origin),
        (None, Some(file)) => error.set_by(&file.name),
        (None, None) => error,
    })?;
    Ok(Loaded { config, kept, warnings })
}

fn lay_flags_over(tree: &mut Table, flags: Flags, origins: &mut Origins) {
    if let Some(listen) = flags.listen {
        tree.insert("listen".to_owned(), Value::String(listen));
        origins.insert("listen".to_owned(), "--listen".to_owned());
    }
    if let Some(url) = flags.database_url {
        let database = tree.entry("database").or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(database) = database {
            database.insert("url".to_owned(), Value::String(url));
        }
        origins.insert("database.url".to_owned(), "--database-url".to_owned());
    }
}

/// Who set `path`, or the whole it is part of.
fn origin<'a>(origins: &'a Origins, path: Option<&str>) -> Option<&'a str> {
    let mut path = path?;
    loop {
        if let Some(origin) = origins.get(path) {
            return Some(origin);
        }
        path = path.rsplit_once('.')?.0;
    }
}

fn finish(mut tree: Table, environment: &HashMap<OsString, OsString>) -> Result<(Config, Kept), ConfigError> {
    tree::check(&tree)?;
    tree::drop_empty(&mut tree, "");
    let kept = Kept::of(&tree);
    let mut config: Config = serde_path_to_error::deserialize(tree).map_err(|error| {
        let path = error.path().to_string().replace('[', ".").replace(']', "");
        match path.as_str() {
            "listen" => ConfigError::at(path, "must be an address and a port, such as 127.0.0.1:8080"),
            _ => ConfigError::at(path, format_args!("is wrong: {}", error.inner().message())),
        }
    })?;
    if config.upstreams.is_empty() {
        config.upstreams = Config::default().upstreams;
    }
    if config.applications.is_empty() {
        config.applications = Config::default().applications;
    }
    config.public_url = config.public_url.map(|url| url.trim_end_matches('/').to_owned());
    check::check(&config)?;
    secrets::fetch(&mut config, environment)?;
    Ok((config, kept))
}
