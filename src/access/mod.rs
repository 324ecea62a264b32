//! Who asks: what a request shows, held against the record and the applications.
//!
//! [`Access::caller`] is the one place where somebody becomes a [`Caller`]; [`revoked`] tells open streams that they are
//! nobody's any more; [`limits`] says how much of it a caller may.
//!
//! To add a way of saying who one is: 1. how it looks in [`crate::identity::bearer`]; 2. its arm in `Access::bearer`;
//! 3. its hostile cases among the stories.

mod handed;
pub mod limits;
pub mod rates;
mod refusals;
pub mod revoked;
pub mod streams;
mod tending;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cluster::Cluster;
use crate::domain::acting::Acting;
use crate::domain::audit::{Deed, Whence};
use crate::domain::caller::{Caller, Credential, Models, Reach, Standing};
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::ids::{KeyId, VisitorId};
use crate::domain::owner::{Kind, Owner};
use crate::domain::quota::Bounds;
use crate::domain::secret::Secret;
use crate::identity::applications::{Application, Applications, Widget};
use crate::identity::bearer::Bearer;
use crate::identity::jwt;
use crate::identity::pepper::{Pepper, Purpose};
use crate::identity::visitor;
use crate::latest::Latest;
use crate::lifecycle::Lifecycle;
use crate::store::whose::Object;
use crate::store::{Error, Store};
pub use handed::{KeyError, Made, Visit, Wanted, make_key};
use rates::Rates;
use refusals::Refusals;
use revoked::Revocations;
use streams::Streams;

/// A key of idempotency shorter than this could be guessed, and with it who asked: such a retry is a new visitor.
const GUESSED: usize = 22;
/// A key's last use is noted so often, in microseconds.
const NOTED: i64 = 60_000_000;

/// How callers are known.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether callers must say who they are.
    pub required: bool,
    /// How long a visitor's token is good, in seconds.
    pub visitor_token_s: u64,
    /// The application whose admins look after the whole process; those of each do where none is named.
    pub overseer: Option<String>,
}

/// Who may call. Cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<House>);

struct House {
    settings: Settings,
    store: Store,
    clock: Clock,
    applications: Latest<Applications>,
    /// There is one wherever callers must say who they are.
    pepper: Option<Pepper>,
    revocations: Revocations,
    refusals: Refusals,
    rates: Rates,
    streams: Streams,
    /// Keys in use, and when they were used, until it is written; no more than there are good keys.
    used: Mutex<HashMap<KeyId, Timestamp>>,
}

/// What a request shows of who asks. It does not print.
#[derive(Clone, Copy, Default)]
pub struct Presented<'a> {
    /// The token of `Authorization`; empty where there is a header that holds none.
    pub bearer: Option<&'a str>,
    /// The token of a cookie that counts.
    pub session: Option<&'a str>,
    /// A ticket.
    pub ticket: Option<&'a str>,
    /// A widget's key.
    pub widget: Option<&'a str>,
    /// The page's origin.
    pub origin: Option<&'a str>,
    /// The user a key is to act for.
    pub user: Option<&'a str>,
    /// The key of idempotency it comes under.
    pub retry: Option<&'a str>,
}

/// Who asks, and what they are to be told beside the answer.
#[derive(Clone, Debug)]
pub struct Known {
    /// Who.
    pub caller: Caller,
    /// A token was shown that is none: they are a visitor all the same.
    pub ignored: bool,
    /// The token of a visitor who is new.
    pub visitor_token: Option<Secret>,
}

impl Known {
    fn plain(caller: Caller) -> Self {
        Self { caller, ignored: false, visitor_token: None }
    }
}

/// Why somebody is not let in.
#[derive(Debug)]
pub enum Denied {
    /// Nobody knows who they are: a sentence that says why.
    Unknown(&'static str),
    /// They are known, and are let in no more, or must not ask for that: a sentence that says why.
    Forbidden(&'static str),
    /// The page is of an origin that the widget does not stand on.
    Origin,
    /// The database does not answer.
    Store(Error),
}

impl From<Error> for Denied {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// A token that has been handed out.
#[derive(Clone, Debug)]
pub struct Token {
    /// As it is shown.
    pub text: Secret,
    /// When it ceases to be good.
    pub expires_at: Timestamp,
}

impl Access {
    /// Starts what looks for revocations, and what counts with other replicas where there is a cluster.
    pub fn open(
        settings: Settings,
        store: Store,
        cluster: Option<Cluster>,
        clock: Clock,
        applications: Latest<Applications>,
        pepper: Option<Pepper>,
        life: &Lifecycle,
    ) -> Self {
        let revocations = Revocations::default();
        let (rates, streams, used) = (Rates::new(cluster.clone()), Streams::open(cluster, life), Mutex::default());
        let refusals = Refusals::open(store.clone(), clock.clone(), life);
        let house = House { settings, store, clock, applications, pepper, revocations, refusals, rates, streams, used };
        let access = Self(Arc::new(house));
        if access.0.settings.required {
            life.spawn("access", tending::run(access.clone(), life.clone()));
        }
        access
    }

    /// Whether callers must say who they are.
    pub fn is_required(&self) -> bool {
        self.0.settings.required
    }

    /// Whether this caller looks after the whole process: an admin, of one application where that is named.
    pub fn oversees(&self, caller: &Caller) -> bool {
        let application = &*caller.owner.application_id;
        caller.is_admin() && self.0.settings.overseer.as_ref().is_none_or(|name| name == application)
    }

    /// What is told when a caller's credentials are revoked.
    pub fn revocations(&self) -> &Revocations {
        &self.0.revocations
    }

    /// Has the audit log tell that something was refused with this code. Nobody waits for it.
    pub fn note_refusal(&self, deed: Deed, code: &'static str) {
        self.0.refusals.note(deed, code);
    }

    /// Who asks.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn caller(&self, shown: Presented<'_>) -> Result<Known, Denied> {
        if !self.0.settings.required {
            return Ok(Known { ignored: shown.bearer.is_some(), ..Known::plain(Caller::local()) });
        }
        let mut why = "Say who you are: an API key, a user's token or a visitor's, as `Authorization: Bearer`.";
        // Whoever shows a token means to be that one, and not whom a cookie knows.
        if let Some(token) = shown.bearer.or(shown.session) {
            match self.bearer(token, shown.user).await {
                Ok(caller) => return Ok(Known::plain(caller)),
                Err(Denied::Unknown(other)) => why = other,
                Err(denied) => return Err(denied),
            }
        }
        if let Some(ticket) = shown.ticket {
            match self.ticket(ticket).await {
                Ok(caller) => return Ok(Known::plain(caller)),
                Err(Denied::Unknown(other)) => why = other,
                Err(denied) => return Err(denied),
            }
        }
        let Some(key) = shown.widget else { return Err(Denied::Unknown(why)) };
        let applications = self.0.applications.get();
        let (application, widget) = applications.widget(key).ok_or(Denied::Unknown("There is no such widget."))?;
        let again = shown.retry.filter(|key| key.len() >= GUESSED).and_then(|key| self.again(&widget.key, key));
        let (visitor, token) = self.visit(application, &widget.key, &widget.origins, shown.origin, again)?;
        let owner = Owner::person(&application.name, Kind::Visitor, visitor.as_str());
        let caller = self.through(application, widget, owner).await?;
        let ignored = shown.bearer.or(shown.session).is_some();
        Ok(Known { caller, ignored, visitor_token: Some(token.text) })
    }

    /// Who a Bearer token speaks for.
    async fn bearer(&self, token: &str, user: Option<&str>) -> Result<Caller, Denied> {
        let caller = match Bearer::of(token) {
            Bearer::Malformed => return Err(Denied::Unknown("The token is none.")),
            Bearer::Key { prefix } => return self.key(token, prefix, user).await,
            Bearer::Visitor => self.visitor(token).await?,
            Bearer::Jwt => {
                let (application, user) =
                    self.0.applications.get().user(token, self.0.clock.now()).await.map_err(Denied::Unknown)?;
                self.known(Owner::person(&application, Kind::User, &user), Models::default()).await?
            }
        };
        match user {
            Some(_) => Err(Denied::Forbidden("Only an API key may act for a user.")),
            None => Ok(caller),
        }
    }

    async fn key(&self, text: &str, prefix: &str, user: Option<&str>) -> Result<Caller, Denied> {
        const WRONG: Denied = Denied::Unknown("The API key is wrong, revoked or has expired.");
        let pepper = self.0.pepper.as_ref().ok_or(WRONG)?;
        let now = self.0.clock.now();
        let (key, mark) = self.0.store.key_by_prefix(prefix).await?.ok_or(WRONG)?;
        let known = pepper.knows(Purpose::Key, text.as_bytes(), &mark);
        let applications = self.0.applications.get();
        let (true, true, Some(application)) = (known, key.is_good(now), applications.get(&key.application_id)) else {
            return Err(WRONG);
        };
        if key.last_used_at.is_none_or(|used| now.as_micros() - used.as_micros() > NOTED) {
            self.0.used.lock().insert(key.id.clone(), now);
        }
        let key_of = [Credential::Key(key.id), Credential::Application(application.name.clone())];
        let Some(user) = user else {
            return Ok(Caller {
                owner: Owner::service(&application.name),
                standing: Standing::Key(key.role),
                credentials: key_of.into(),
                models: Models::default(),
                acting: None,
                whence: Whence::default(),
                bounds: Bounds::default(),
            });
        };
        if !jwt::is_user(user) {
            return Err(Denied::Forbidden("`Tidegate-User` is no user's id."));
        }
        let caller = self.known(Owner::person(&application.name, Kind::User, user), Models::default()).await?;
        let mut credentials = caller.credentials;
        credentials.extend(key_of);
        Ok(Caller { standing: Standing::KeyFor(key.role), credentials, ..caller })
    }

    async fn visitor(&self, text: &str) -> Result<Caller, Denied> {
        const WRONG: Denied = Denied::Unknown("The visitor's token is wrong or has expired.");
        let pepper = self.0.pepper.as_ref().ok_or(WRONG)?;
        let token = visitor::Token::from_text(text, pepper, self.0.clock.now()).ok_or(WRONG)?;
        let applications = self.0.applications.get();
        let (application, widget) = applications.widget(&token.widget).ok_or(WRONG)?;
        if *application.name != *token.application {
            return Err(WRONG);
        }
        if !application.visitors {
            return Err(NO_VISITORS);
        }
        let owner = Owner::person(&application.name, Kind::Visitor, token.visitor.as_str());
        self.through(application, widget, owner).await
    }

    /// A visitor who came through a widget, unless they are refused.
    async fn through(&self, application: &Application, widget: &Widget, owner: Owner) -> Result<Caller, Denied> {
        let mut caller = self.known(owner, widget.models.clone()).await?;
        let (application, key) = (application.name.clone(), widget.key.as_str().into());
        caller.credentials.push(Credential::Widget { application, key });
        Ok(caller)
    }

    /// A person, unless they are refused.
    async fn known(&self, owner: Owner, models: Models) -> Result<Caller, Denied> {
        let let_in = self.0.clock.now();
        let known = self.0.store.person(&owner).await?;
        if known.as_ref().is_some_and(|person| person.deactivated_at.is_some()) {
            return Err(Denied::Forbidden("This user has been deactivated."));
        }
        if known.as_ref().is_some_and(|person| person.forgetting_at.is_some()) {
            return Err(Denied::Forbidden("This user is being forgotten."));
        }
        let known_since = known.map(|person| person.created_at);
        Ok(person(Acting { owner, known_since, let_in }, models))
    }

    /// Whose an object is, if this caller may use it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn reach(&self, caller: &Caller, object: Object<'_>) -> Result<(Reach, Owner), Error> {
        if caller.standing == Standing::Local {
            return Ok((Reach::Theirs, caller.owner.clone()));
        }
        let owner = self.0.store.whose(&caller.owner.application_id, object).await?;
        Ok(owner.map_or((Reach::Absent, caller.owner.clone()), |owner| (caller.reach(&owner), owner)))
    }

    /// Whose a deleted object was, where this caller could have used it and somebody may still ask what became of it: of
    /// conversations alone the record knows.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn reached(&self, caller: &Caller, object: Object<'_>) -> Result<Option<Owner>, Error> {
        let Object::Conversation(id) = object else { return Ok(None) };
        let owner = self.0.store.whose_was(&caller.owner.application_id, id).await?;
        Ok(owner.filter(|owner| caller.reach(owner) == Reach::Theirs))
    }
}

const NO_VISITORS: Denied = Denied::Unknown("This application is for signed-in users.");

fn person(acting: Acting, models: Models) -> Caller {
    let owner = acting.owner.clone();
    let credentials = vec![Credential::Person(owner.clone())];
    let (bounds, whence) = (Bounds::default(), Whence::default());
    Caller { owner, standing: Standing::Person, credentials, models, acting: Some(acting), bounds, whence }
}

/// The pepper a server needs.
///
/// # Errors
/// A line that names the setting.
pub fn pepper(path: &std::path::Path) -> Result<Pepper, String> {
    Pepper::open(path).map_err(|error: io::Error| format!("`auth.pepper_file`: {}: {error}", path.display()))
}

impl Access {
    /// The visitor who asks under a key of idempotency before they have a token: a retry is to find the same turn, and an
    /// `EventSource` never sees the head that its token is in.
    fn again(&self, widget: &str, key: &str) -> Option<VisitorId> {
        let mark = self.0.pepper.as_ref()?.mark(Purpose::Retry, format!("{widget}\0{key}").as_bytes());
        Some(VisitorId::of(uuid::Builder::from_custom_bytes(*mark.first_chunk()?).into_uuid()))
    }

    /// A visitor of a widget, with a token: the one who asks again, or a new one.
    fn visit(
        &self,
        application: &Application,
        widget: &str,
        origins: &[String],
        origin: Option<&str>,
        again: Option<VisitorId>,
    ) -> Result<(VisitorId, Token), Denied> {
        if !origin.is_some_and(|origin| origins.iter().any(|one| one == origin)) {
            return Err(Denied::Origin);
        }
        if !application.visitors {
            return Err(NO_VISITORS);
        }
        let pepper = self.0.pepper.as_ref().ok_or(NO_VISITORS)?;
        let now = self.0.clock.now();
        let visitor = again.unwrap_or_else(|| VisitorId::new(now));
        let expires_at = later(now, self.0.settings.visitor_token_s);
        let token = visitor::Token {
            application: application.name.to_string(),
            visitor: visitor.clone(),
            widget: widget.to_owned(),
            expires: expires_at.as_micros(),
        };
        Ok((visitor, Token { text: token.to_text(pepper).into(), expires_at }))
    }
}

/// So many seconds after `now`.
fn later(now: Timestamp, seconds: u64) -> Timestamp {
    let micros = i64::try_from(seconds.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.as_micros().saturating_add(micros))
}
