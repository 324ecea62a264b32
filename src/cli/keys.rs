//! `tidegate keys`

use std::env;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::print::print;
use super::{Failure, logs};
use crate::OpenError;
use crate::access::{self, Wanted, make_key};
use crate::config::load::File;
use crate::config::{Config, Flags, Loaded, load};
use crate::domain::audit::{Action, Deed};
use crate::domain::caller::Role;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::ids::KeyId;
use crate::store::Store;
use crate::store::keys::ApiKey;

/// So many keys are read at once.
const PAGE: u32 = 100;

#[derive(Debug, Args)]
pub(super) struct KeysArgs {
    /// The settings, as TOML
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a key; its text is printed now and never again
    Create {
        /// The application it is for, as `[[applications]]` names it
        #[arg(long, value_name = "NAME", default_value = "default")]
        application: String,
        /// What it may do
        #[arg(long)]
        role: Word,
        /// When it ceases to be good, such as 2027-01-31T00:00:00Z; never, if absent
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
    },
    /// Lists the keys there are, without their secrets
    List,
    /// Revokes a key, at once and for good
    Revoke {
        /// Its id, as `keys list` shows it
        id: String,
    },
}

/// A role on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Word {
    /// Keys and users too
    Admin,
    /// All of its application, or as one of its users
    Service,
    /// Every GET of its application
    Read,
}

impl From<Word> for Role {
    fn from(word: Word) -> Self {
        match word {
            Word::Admin => Self::Admin,
            Word::Service => Self::Service,
            Word::Read => Self::Read,
        }
    }
}

pub(super) async fn run(args: KeysArgs) -> Result<(), Failure> {
    let file = args.config.as_deref().map(File::read).transpose()?;
    let Loaded { config, warnings, .. } = load(file.as_ref(), env::vars_os(), Flags::default())?;
    logs::install(config.log.format);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    // Before the database, which is made where there is none: what cannot be meant leaves nothing behind.
    let work = Work::read(args.command, &config)?;
    let store = Store::beside(&config.database.url, config.limits.database()).await.map_err(OpenError::from)?;
    let text = work.run(&config, &store).await;
    store.close().await;
    print(text?.as_bytes())
}

enum Work {
    Create(String, Role, Option<Timestamp>),
    List,
    Revoke(KeyId),
}

impl Work {
    fn read(command: Command, config: &Config) -> Result<Self, Failure> {
        Ok(match command {
            Command::List => Self::List,
            Command::Revoke { id } => Self::Revoke(id.into()),
            Command::Create { application, role, expires_at } => {
                let names: Vec<&str> = config.applications.iter().map(|one| one.name.as_str()).collect();
                if !names.contains(&application.as_str()) {
                    let there = names.join(", ");
                    return Err(Failure::setting(format_args!(
                        "`--application`: there is no `{application}`; there are: {there}"
                    )));
                }
                let expires_at = expires_at.as_deref().map(time).transpose()?;
                Self::Create(application, role.into(), expires_at)
            }
        })
    }

    async fn run(self, config: &Config, store: &Store) -> Result<String, Failure> {
        match self {
            Self::List => list(config, store).await,
            Self::Revoke(id) => revoke(store, &id).await,
            Self::Create(application, role, expires_at) => {
                let pepper = access::pepper(&config.auth.pepper_file).map_err(Failure::setting)?;
                let now = Clock::System.now();
                let wanted = Wanted { application: &application, role, expires_at, old: None };
                let deed = |id: &KeyId| Deed::of_cli(&application, Action::KeyCreate, Some(id.into()), now);
                let made = make_key(store, &pepper, wanted, now, deed).await.map_err(Failure::new)?;
                let made = made.ok_or_else(|| Failure::new("no key was made"))?;
                Ok(format!("{}  {application}  {}\n{}\n", made.key.id, role.as_str(), made.secret.reveal()))
            }
        }
    }
}

/// A time that is still to come.
fn time(text: &str) -> Result<Timestamp, Failure> {
    let read: Option<Timestamp> = serde_json::from_value(text.into()).ok();
    let read = read.filter(|time| *time > Clock::System.now());
    read.ok_or_else(|| Failure::setting("`--expires-at`: must be a time to come, such as 2027-01-31T00:00:00Z"))
}

async fn list(config: &Config, store: &Store) -> Result<String, Failure> {
    let (mut text, mut after) = (String::new(), String::new());
    loop {
        let keys = store.every_key(&after, PAGE).await.map_err(Failure::new)?;
        for key in &keys {
            let is_known = config.applications.iter().any(|application| application.name == key.application_id);
            text.push_str(&line(key, is_known));
        }
        match keys.last() {
            Some(last) if keys.len() == PAGE as usize => after = last.id.to_string(),
            Some(_) | None => break,
        }
    }
    Ok(if text.is_empty() { "There are no keys.\n".to_owned() } else { text })
}

/// A key, as it stands; one whose application is in the settings no more opens nothing until it is there again.
fn line(key: &ApiKey, is_known: bool) -> String {
    let stands = match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {at}"),
        (None, Some(at)) => format!("expires {at}"),
        (None, None) => "good".to_owned(),
    };
    let used = key.last_used_at.map_or_else(|| "never used".to_owned(), |at| format!("used {at}"));
    let ApiKey { id, application_id, role, prefix, created_at, .. } = key;
    let gone = if is_known { "" } else { "  (its application is not in the settings)" };
    format!("{id}  {application_id}  {}  tg_{prefix}_…  made {created_at}  {used}  {stands}{gone}\n", role.as_str())
}

async fn revoke(store: &Store, id: &KeyId) -> Result<String, Failure> {
    let (now, absent) = (Clock::System.now(), || Failure::new(format_args!("there is no key `{id}`")));
    let application = store.application_of(id).await.map_err(Failure::new)?.ok_or_else(absent)?;
    let deed = Deed::of_cli(&application, Action::KeyRevoke, Some(id.into()), now);
    match store.revoke_key(&application, id, now, &deed).await.map_err(Failure::new)? {
        true => Ok(format!("{id} is revoked.\n")),
        false => Err(absent()),
    }
}
