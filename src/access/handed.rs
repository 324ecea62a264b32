//! What is handed out: visitors' tokens, tickets and API keys.

use super::{Access, Denied, Token, later, person};
use crate::domain::acting::Acting;
use crate::domain::audit::{Action, Deed, Object, Whence};
use crate::domain::caller::{Caller, Credential, Models, Opened, Role, Standing};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{GoneId, KeyId, VisitorId};
use crate::domain::owner::{Kind, Owner};
use crate::domain::quota::Bounds;
use crate::domain::secret::Secret;
use crate::identity::pepper::{self, Pepper, Purpose};
use crate::store::forgetting::Forgetting;
use crate::store::keys::ApiKey;
use crate::store::tickets::Ticket;
use crate::store::{Error, Store};

/// A ticket must be used within so long, in seconds.
const OPENS: u64 = 60;
/// One for a turn is good until so long after the turn's end, in seconds.
const AFTER: u64 = 60;
/// One for a feed is good for so long, in seconds.
const FEED: u64 = 3600;

/// A key that has been made, with its text: it is shown once.
#[derive(Clone, Debug)]
pub struct Made {
    /// The key.
    pub key: ApiKey,
    /// Its text.
    pub secret: Secret,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system has no randomness to give.
    #[error("{0}")]
    Randomness(#[from] std::io::Error),
    /// The database does not do it.
    #[error("{0}")]
    Store(#[from] Error),
}

/// Somebody who came through a widget.
#[derive(Clone, Debug)]
pub struct Visit {
    /// They.
    pub caller: Caller,
    /// They showed no token that is good, and are somebody nobody was before.
    pub is_new: bool,
    /// What they show from now on.
    pub token: Token,
}

/// Whose key it is, by what it may do, and until when.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The application it is of.
    pub application: &'a str,
    /// What it may do.
    pub role: Role,
    /// When it ceases to be good.
    pub expires_at: Option<Timestamp>,
    /// The key in whose place it comes, which then is good until this at most.
    pub old: Option<(&'a KeyId, Timestamp)>,
}

/// Makes a key, and has the audit log tell whose doing that is: `deed`, given the key's id. `None` when there is no such
/// old key that is good.
///
/// # Errors
/// [`KeyError`].
pub async fn make_key(
    store: &Store,
    pepper: &Pepper,
    wanted: Wanted<'_>,
    now: Timestamp,
    deed: impl FnOnce(&KeyId) -> Deed,
) -> Result<Option<Made>, KeyError> {
    let Wanted { application, role, expires_at, old } = wanted;
    let new = pepper::new_key()?;
    let key = ApiKey {
        id: KeyId::new(now),
        application_id: application.to_owned(),
        prefix: new.prefix,
        role,
        created_at: now,
        last_used_at: None,
        expires_at,
        revoked_at: None,
    };
    let mark = pepper.mark(Purpose::Key, new.text.as_bytes());
    let deed = deed(old.map_or(&key.id, |(old, _)| old));
    Ok(store.add_key(&key, &mark, old, &deed).await?.then_some(Made { key, secret: new.text.into() }))
}

impl Access {
    /// A visitor's token for a widget, and who that is: the visitor who asks again with a token that is good, else a new one.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn visitor_token(
        &self,
        widget: &str,
        origin: Option<&str>,
        old: Option<&str>,
    ) -> Result<Option<Visit>, Denied> {
        let applications = self.0.applications.get();
        let Some((application, widget)) = applications.widget(widget) else { return Ok(None) };
        let mut again = None;
        if let Some(token) = old
            && let Ok(caller) = self.visitor(token).await
            && caller.owner.application_id == application.name
        {
            again = caller.owner.person_id().map(VisitorId::from);
        }
        let (is_new, let_in) = (again.is_none(), self.0.clock.now());
        let (visitor, token) = self.visit(application, &widget.key, &widget.origins, origin, again)?;
        let owner = Owner::person(&application.name, Kind::Visitor, visitor.as_str());
        let caller = person(Acting { owner, known_since: None, let_in }, widget.models.clone());
        Ok(Some(Visit { caller, is_new, token }))
    }

    /// Who a token speaks for, where one is to be kept as a cookie.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn session(&self, token: &str) -> Result<Caller, Denied> {
        self.bearer(token, None).await
    }

    /// A ticket that opens one object as its owner, for whoever may read it.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn new_ticket(&self, caller: &Caller, owner: &Owner, opens: Opened) -> Result<Token, Denied> {
        let pepper = self.0.pepper.as_ref().ok_or(NO_TICKETS)?;
        let text = pepper::new_ticket().map_err(|error| {
            tracing::error!(%error, "there is no ticket");
            NO_TICKETS
        })?;
        let now = self.0.clock.now();
        let object = match &opens {
            Opened::Turn(id) => Object::from(id),
            Opened::Conversation(id) => Object::from(id),
        };
        let deed = caller.deed(Action::TicketCreate, Some(object), now);
        let key = caller.key_id().cloned();
        let (opened_at, turn_ended_at) = (None, None);
        let widget = caller.widget().cloned();
        let ticket =
            Ticket { owner: owner.clone(), opens, key_id: key, widget, created_at: now, opened_at, turn_ended_at };
        if !self.0.store.add_ticket(&ticket, &pepper.mark(Purpose::Ticket, text.as_bytes()), &deed).await? {
            return Err(OUTLIVED);
        }
        Ok(Token { text: text.into(), expires_at: later(now, OPENS) })
    }

    /// Who a ticket speaks for.
    pub(super) async fn ticket(&self, text: &str) -> Result<Caller, Denied> {
        let pepper = self.0.pepper.as_ref().ok_or(WRONG)?;
        if !text.starts_with(pepper::TICKET) {
            return Err(WRONG);
        }
        let mark = pepper.mark(Purpose::Ticket, text.as_bytes());
        let ticket = self.0.store.ticket(&mark).await?.ok_or(WRONG)?;
        let now = self.0.clock.now();
        let applications = self.0.applications.get();
        let application = applications.get(&ticket.owner.application_id).ok_or(WRONG)?;
        let closed = ticket.owner.kind() == Kind::Visitor && !application.visitors;
        if closed || !is_good(&ticket, now) {
            return Err(WRONG);
        }
        let mut credentials = Vec::new();
        if let Some(key) = ticket.key_id {
            let key = self.0.store.key(&ticket.owner.application_id, &key).await?;
            let key = key.filter(|key| key.is_good(now)).ok_or(WRONG)?;
            credentials.extend([Credential::Key(key.id), Credential::Application(application.name.clone())]);
        }
        if let Some(key) = ticket.widget {
            applications.widget(&key).filter(|(of, _)| of.name == application.name).ok_or(WRONG)?;
            credentials.push(Credential::Widget { application: application.name.clone(), key });
        }
        let mut acting = None;
        if matches!(ticket.owner.kind(), Kind::User | Kind::Visitor) {
            let person = self.known(ticket.owner.clone(), Models::default()).await?;
            credentials.extend(person.credentials);
            acting = person.acting;
        }
        if ticket.opened_at.is_none() {
            self.0.store.ticket_opened(&mark, now).await?;
        }
        let standing = Standing::Ticket(ticket.opens);
        let (models, bounds, whence) = (Models::default(), Bounds::default(), Whence::default());
        Ok(Caller { owner: ticket.owner, standing, credentials, models, acting, bounds, whence })
    }

    pub(super) async fn drop_tickets(&self) -> Result<(), Error> {
        let now = self.0.clock.now().as_micros();
        let before = |seconds: u64| Timestamp::from_micros(now - (seconds * 1_000_000).cast_signed());
        self.0.store.drop_tickets(before(OPENS), before(AFTER), before(FEED)).await
    }

    /// Makes a key of the caller's application, for an admin.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn new_key(&self, caller: &Caller, wanted: Wanted<'_>) -> Result<Option<Made>, KeyError> {
        let Some(pepper) = &self.0.pepper else { return Ok(None) };
        let now = self.0.clock.now();
        let action = if wanted.old.is_some() { Action::KeyRotate } else { Action::KeyCreate };
        let deed = |id: &KeyId| caller.deed(action, Some(id.into()), now);
        make_key(&self.0.store, pepper, wanted, now, deed).await
    }

    /// Revokes a key of the caller's application, for an admin: whoever streams by it is told. False when the application has
    /// none of that id.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn revoke_key(&self, caller: &Caller, id: &KeyId) -> Result<bool, Error> {
        let now = self.0.clock.now();
        let deed = caller.deed(Action::KeyRevoke, Some(id.into()), now);
        let revoked = self.0.store.revoke_key(&caller.owner.application_id, id, now, &deed).await?;
        if revoked {
            self.0.revocations.revoke(&Credential::Key(id.clone()));
        }
        Ok(revoked)
    }

    /// Refuses a person from now on, or no longer, for an admin: whoever streams as them is told.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn set_active(&self, caller: &Caller, owner: &Owner, active: bool) -> Result<(), Error> {
        let now = self.0.clock.now();
        let action = if active { Action::UserActivate } else { Action::UserDeactivate };
        let deed = caller.deed(action, Object::person(owner), now);
        self.0.store.set_active(owner, active, now, &deed).await?;
        if !active {
            self.0.revocations.revoke(&Credential::Person(owner.clone()));
        }
        Ok(())
    }
}

impl Access {
    /// Marks a person as one who is to be forgotten, for an admin: they are refused until they are, and whoever streams as them
    /// is told.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn begin_forgetting(&self, caller: &Caller, owner: &Owner) -> Result<(), Error> {
        let since = self.0.clock.now();
        let who = Forgetting { owner: owner.clone(), pseudonym: GoneId::new(since), since };
        let deed = caller.deed(Action::UserForget, Object::person(owner), since);
        self.0.store.begin_forgetting(&who, &deed).await?;
        self.0.revocations.revoke(&Credential::Person(owner.clone()));
        Ok(())
    }
}

const WRONG: Denied = Denied::Unknown("The ticket is wrong or opens nothing any more.");
const OUTLIVED: Denied = Denied::Unknown("What let this request in has been revoked meanwhile.");
const NO_TICKETS: Denied = Denied::Forbidden("No ticket can be made here.");

/// Whether a ticket opens at `now`: within a minute of its making, and once it was used, until what it opens is over.
fn is_good(ticket: &Ticket, now: Timestamp) -> bool {
    if later(ticket.created_at, OPENS) > now {
        return true;
    }
    ticket.opened_at.is_some()
        && match ticket.opens {
            Opened::Turn(_) => ticket.turn_ended_at.is_none_or(|ended| later(ended, AFTER) > now),
            Opened::Conversation(_) => later(ticket.created_at, FEED) > now,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_opens_for_a_minute_and_reopens_until_its_object_is_over() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let ticket = |opens: Opened, opened: Option<i64>, ended: Option<i64>| Ticket {
            owner: Owner::local(),
            opens,
            key_id: None,
            widget: None,
            created_at: at(0),
            opened_at: opened.map(at),
            turn_ended_at: ended.map(at),
        };
        let turn = || Opened::Turn("turn_1".into());
        let good = |ticket: &Ticket, seconds| is_good(ticket, at(seconds));
        let unused = ticket(turn(), None, None);
        assert!(good(&unused, 59) && !good(&unused, 60));
        let live = ticket(turn(), Some(1), None);
        assert!(good(&live, 60) && good(&live, 100_000));
        let ended = ticket(turn(), Some(1), Some(100));
        assert!(good(&ended, 159) && !good(&ended, 160));
        let feed = ticket(Opened::Conversation("conv_1".into()), Some(1), None);
        assert!(good(&feed, 3599) && !good(&feed, 3600));
    }
}
