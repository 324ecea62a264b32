//! Who asks, as a handler takes it: [`Asker`] for what is made or listed, [`Mine`] for one object, [`Admin`] for what only
//! admins may. A handler that takes none of them reaches no row.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath};
use http::header::{AUTHORIZATION, COOKIE, HeaderName, ORIGIN};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method};
use parking_lot::Mutex;

use super::address::Address;
use super::app::{App, no_conversation, no_message, no_turn};
use super::audited::Attempt;
use super::code::Code;
use super::cross_site;
use super::limits::{Quota, limited};
use super::problem::Problem;
use super::query::{Id, pairs};
use super::session;
use crate::access::revoked::{Revocations, Watch};
use crate::access::streams::Place;
use crate::access::{Denied, Known, Presented};
use crate::domain::audit::Whence;
use crate::domain::caller::{Caller, Opened, Reach, Standing};
use crate::domain::ids::{ConversationId, MessageId, RequestId, TurnId};
use crate::domain::owner::Owner;
use crate::domain::secret::Secret;
use crate::identity::bearer;
use crate::store::whose::Object;

/// The user a key acts for.
const USER: HeaderName = HeaderName::from_static("tidegate-user");
/// A widget's key.
const WIDGET: HeaderName = HeaderName::from_static("tidegate-widget");
/// The key of idempotency.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says `ignored` where a token was shown that is none.
const AUTH_STATUS: HeaderName = HeaderName::from_static("auth-status");
/// The token of a visitor who is new.
const VISITOR_TOKEN: HeaderName = HeaderName::from_static("visitor-token");

/// The parameters of a query that say who asks. They are read here, and are no others' business.
pub const PARAMETERS: [&str; 2] = ["ticket", "widget_key"];

/// What a caller is told beside the answer. The guard lays it into the request, and reads it for the answer.
#[derive(Clone, Debug, Default)]
pub struct Aside(Arc<Mutex<Said>>);

#[derive(Default)]
struct Said {
    ignored: bool,
    visitor_token: Option<Secret>,
    /// What they attempt, where that is audited.
    attempt: Option<Attempt>,
    quotas: Vec<Quota>,
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Said").field("ignored", &self.ignored).finish_non_exhaustive()
    }
}

impl Aside {
    /// Has the audit log tell that the caller was refused, where that is audited.
    pub fn refused(&self, code: &'static str) {
        if let Some(attempt) = self.0.lock().attempt.take() {
            attempt.refused(code);
        }
    }

    /// Says it in an answer's head.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let said = self.0.lock();
        if said.ignored {
            headers.insert(AUTH_STATUS, HeaderValue::from_static("ignored"));
        }
        if let Some(Ok(token)) = said.visitor_token.as_ref().map(|token| HeaderValue::try_from(token.reveal())) {
            headers.insert(VISITOR_TOKEN, token);
        }
        Quota::tell(&said.quotas, headers);
    }
}

/// From where a request comes.
#[derive(Clone, Debug)]
pub struct Coming(Whence);

impl Coming {
    fn of_head(parts: &Parts) -> Self {
        let address = Address::of(&parts.extensions).map(|Address(address)| address.to_string().into());
        Self(Whence { request_id: parts.extensions.get::<RequestId>().cloned(), address })
    }

    /// The caller, asking from there.
    pub fn of(&self, caller: Caller) -> Caller {
        Caller { whence: self.0.clone(), ..caller }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Coming {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of_head(parts))
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Asker(pub Caller);

impl FromRequestParts<App> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = authenticate(parts, app).await?;
        if matches!(caller.standing, Standing::Ticket(_)) {
            return Err(forbidden("A ticket opens one turn or conversation, and nothing else."));
        }
        Ok(Self(caller))
    }
}

/// Whoever looks after an application: an admin key that acts for nobody.
#[derive(Clone, Debug)]
pub struct Admin(pub Caller);

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = authenticate(parts, app).await?;
        match caller.standing {
            _ if caller.is_admin() => Ok(Self(caller)),
            // Whoever reaches the port would make keys that are good when auth is on again.
            Standing::Local => Err(forbidden("With auth off there are no admins: see `tidegate keys`.")),
            Standing::Key(_) | Standing::KeyFor(_) | Standing::Person | Standing::Ticket(_) => {
                Err(forbidden("This takes an admin key."))
            }
        }
    }
}

/// As whom something is done or read: the owner, and what would end it.
#[derive(Debug)]
pub struct Who {
    /// Whose it is.
    pub owner: Owner,
    /// Who asks.
    pub caller: Caller,
    revocations: Revocations,
}

impl Who {
    /// As the caller themself.
    pub fn own(app: &App, caller: Caller) -> Self {
        Self { owner: caller.owner.clone(), caller, revocations: app.access.revocations().clone() }
    }

    /// Counts a stream that is opened; nothing where nobody counts.
    ///
    /// # Errors
    /// 429 `rate_limited`.
    pub async fn open_stream(&self, app: &App) -> Result<Option<Place>, Problem> {
        app.access.open_stream(&self.caller).await.map_err(|bound| limited(&bound, None, None))
    }

    /// Watches for the revocation of what let the caller in; `None` for one who needs nothing.
    pub fn watch(&self) -> Option<Watch> {
        self.revocations.watch(&self.caller)
    }
}

/// One object that the caller may use, named by the path's one parameter.
#[derive(Debug)]
pub struct Mine<I> {
    /// As whom it is used.
    pub who: Who,
    /// Its id.
    pub id: I,
}

/// What can be asked for by its id.
pub trait Named: From<String> + Send + Sync {
    /// How the record is asked whose it is.
    fn object(&self) -> Object<'_>;
    /// Whether a ticket opens it.
    fn is(&self, opened: &Opened) -> bool;
    /// The refusal where there is none.
    fn absent() -> Problem;
}

impl Named for ConversationId {
    fn object(&self) -> Object<'_> {
        Object::Conversation(self)
    }

    fn is(&self, opened: &Opened) -> bool {
        matches!(opened, Opened::Conversation(id) if id == self)
    }

    fn absent() -> Problem {
        no_conversation()
    }
}

impl Named for TurnId {
    fn object(&self) -> Object<'_> {
        Object::Turn(self)
    }

    fn is(&self, opened: &Opened) -> bool {
        matches!(opened, Opened::Turn(id) if id == self)
    }

    fn absent() -> Problem {
        no_turn()
    }
}

impl Named for MessageId {
    fn object(&self) -> Object<'_> {
        Object::Message(self)
    }

    fn is(&self, _: &Opened) -> bool {
        false
    }

    fn absent() -> Problem {
        no_message()
    }
}

impl<I: Named> FromRequestParts<App> for Mine<I> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = authenticate(parts, app).await?;
        let Id(id) = Id::<I>::from_request_parts(parts, app).await?;
        let who = reach(app, caller, &id).await?;
        Ok(Self { who, id })
    }
}

/// The owner of an object, for a caller who may use it.
///
/// # Errors
/// 404 where it is not there for them, 403 where it is a fellow user's, 503 without a database.
pub async fn reach<I: Named>(app: &App, caller: Caller, id: &I) -> Result<Who, Problem> {
    let (reach, owner) = app.access.reach(&caller, id.object()).await?;
    let opened = match &caller.standing {
        Standing::Ticket(opened) => id.is(opened),
        Standing::Local | Standing::Key(_) | Standing::KeyFor(_) | Standing::Person => true,
    };
    match reach {
        Reach::Theirs if opened => Ok(Who { owner, caller, revocations: app.access.revocations().clone() }),
        Reach::Theirs => Err(forbidden("The ticket opens something else.")),
        Reach::Forbidden => Err(forbidden("It is another user's.")),
        Reach::Absent => Err(I::absent()),
    }
}

/// The same where a key of idempotency may tell that what is not there was deleted: it is looked for among what was its owner's,
/// as far as that is known, else among the caller's own.
///
/// # Errors
/// Those of [`reach`], but for 404.
pub async fn reach_or_own<I: Named>(app: &App, caller: Caller, id: &I) -> Result<Who, Problem> {
    match reach(app, caller.clone(), id).await {
        Err(problem) if problem.code() == I::absent().code() => {
            let owner = app.access.reached(&caller, id.object()).await?;
            let who = Who::own(app, caller);
            Ok(Who { owner: owner.unwrap_or_else(|| who.owner.clone()), ..who })
        }
        other => other,
    }
}

/// 403, with a sentence that says why.
pub fn forbidden(why: &'static str) -> Problem {
    Problem::new(Code::Forbidden, why)
}

async fn authenticate(parts: &mut Parts, app: &App) -> Result<Caller, Problem> {
    let pairs = pairs(parts.uri.query().unwrap_or_default()).unwrap_or_default();
    let parameter = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    // Two lines of one name say nothing.
    let header = |name: &HeaderName| {
        let mut lines = parts.headers.get_all(name).into_iter();
        let line = lines.next()?;
        Some(if lines.next().is_none() { std::str::from_utf8(line.as_bytes()).unwrap_or_default() } else { "" })
    };
    let origin = header(&ORIGIN).map(Cow::Borrowed).or_else(|| cross_site::own_origin(parts, &app.own_origin));
    let counts = || cross_site::cookie_counts(&parts.headers, &app.origins, &app.own_origin);
    let session = session::token(parts.headers.get_all(COOKIE), &app.own_origin).filter(|_| counts());
    let shown = Presented {
        bearer: header(&AUTHORIZATION).map(|header| bearer::token(header).unwrap_or_default()),
        session,
        ticket: parameter("ticket").filter(|_| parts.method == Method::GET),
        widget: header(&WIDGET).or_else(|| parameter("widget_key")),
        origin: origin.as_deref(),
        user: header(&USER),
        retry: header(&IDEMPOTENCY_KEY).map(|key| key.trim_matches('"')).or_else(|| parameter("key")),
    };
    let something = shown.bearer.or(shown.session).or(shown.ticket).or(shown.widget).is_some();
    let known = app.access.caller(shown).await;
    let Known { caller, ignored, visitor_token } = match known {
        Ok(known) => known,
        Err(denied) => return Err(refuse(app, &parts.extensions, denied, something).await),
    };
    let mut caller = Coming::of_head(parts).of(caller);
    if let Some(Aside(aside)) = parts.extensions.get() {
        *aside.lock() = Said { ignored, visitor_token, attempt: None, quotas: Vec::new() };
    }
    if parts.uri.path().starts_with("/v1/") {
        count(app, &parts.extensions, &mut caller).await?;
    }
    // What is beyond a limit of requests is no row of the audit log: nobody could bound those.
    if let Some(Aside(aside)) = parts.extensions.get() {
        let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        aside.lock().attempt = Attempt::of(app, &caller, &parts.method, route, parts.uri.path());
    }
    if cross_site::changes(parts) {
        if !caller.may_change() {
            return Err(forbidden("A read key reads, and changes nothing."));
        }
        // Its body may be long in coming, and the caller be let in no more when it is there.
        if let Some(watch) = app.access.revocations().watch(&caller) {
            parts.extensions.insert(Arc::new(watch));
        }
    }
    Ok(caller)
}

fn client(extensions: &Extensions) -> Option<IpAddr> {
    Address::of(extensions).map(Address::client)
}

/// The refusal of whoever is not let in. What they showed counts for their address, where it is good for nothing, and beyond what
/// is allowed one it does not even say why. Whoever shows something good is let in all the same: they share the address with
/// anybody, and a key is not found by guessing.
pub async fn refuse(app: &App, extensions: &Extensions, denied: Denied, shown: bool) -> Problem {
    let counted = match &denied {
        Denied::Unknown(_) if shown => app.access.count_stranger(client(extensions)).await,
        Denied::Unknown(_) | Denied::Forbidden(_) | Denied::Origin | Denied::Store(_) => Ok(()),
    };
    match counted {
        Ok(()) => denied.into(),
        Err(reached) => reached.into(),
    }
}

/// Notes that a token was shown that is none, to be told with the answer.
pub fn ignored(extensions: &Extensions) {
    if let Some(Aside(aside)) = extensions.get() {
        aside.lock().ignored = true;
    }
}

/// Counts a request of whoever is let in, and tells them what is left.
///
/// # Errors
/// 429 `rate_limited`.
pub async fn count(app: &App, extensions: &Extensions, caller: &mut Caller) -> Result<(), Problem> {
    let counted = app.access.count(caller, client(extensions)).await;
    let quotas: Vec<Quota> = match &counted {
        Ok(counted) => counted.iter().map(Quota::from).collect(),
        Err(reached) => reached.counted.iter().map(Quota::from).collect(),
    };
    if let Some(Aside(aside)) = extensions.get() {
        aside.lock().quotas = quotas;
    }
    counted?;
    Ok(())
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unknown(why) => Self::new(Code::AuthenticationRequired, why),
            Denied::Forbidden(why) => forbidden(why),
            Denied::Origin => {
                Self::new(Code::OriginNotAllowed, "The page is of an origin that this widget does not stand on.")
            }
            Denied::Store(error) => error.into(),
        }
    }
}
