//! What the audit log holds: who did what to which object, when, from where, and what came of it. No text that people or
//! models write is in it, nor any secret.

use std::sync::Arc;

use super::acting::Acting;
use super::clock::Timestamp;
use super::ids::{AuditId, ConversationId, KeyId, MessageId, RequestId, TurnId};
use super::owner::{Kind, Owner};

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What is audited. The names are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Action {
            $($(#[$doc])* $name,)*
        }

        impl Action {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

actions! {
    /// An API key was made.
    KeyCreate = "key.create";
    /// One took the place of another, which the row names.
    KeyRotate = "key.rotate";
    /// One was revoked.
    KeyRevoke = "key.revoke";
    /// Keys, users or the audit log were asked for by somebody who may not see them.
    AdminRead = "admin.read";
    /// A user was to be let in or not, and it did not come to that.
    UserUpdate = "user.update";
    /// A user is let in again.
    UserActivate = "user.activate";
    /// A user is let in no more.
    UserDeactivate = "user.deactivate";
    /// A user and all that is theirs was forgotten.
    UserForget = "user.forget";
    /// A conversation was made, other than by a question.
    ConversationCreate = "conversation.create";
    /// Its title, configuration or metadata changed.
    ConversationUpdate = "conversation.update";
    /// It was put away.
    ConversationArchive = "conversation.archive";
    /// It was fetched back.
    ConversationUnarchive = "conversation.unarchive";
    /// It was paused.
    ConversationPause = "conversation.pause";
    /// It was resumed.
    ConversationResume = "conversation.resume";
    /// It was ended; not by silence.
    ConversationEnd = "conversation.end";
    /// It was erased, or its session reset.
    ConversationDelete = "conversation.delete";
    /// It was handed out as a file.
    ConversationExport = "conversation.export";
    /// What is known in it changed.
    ContextUpdate = "context.update";
    /// What is known in it was cleared.
    ContextClear = "context.clear";
    /// An answer was rated.
    MessageRate = "message.rate";
    /// A question was answered again.
    MessageRegenerate = "message.regenerate";
    /// A turn was stopped by somebody's request.
    TurnStop = "turn.stop";
    /// A token was kept as a cookie.
    SessionCreate = "session.create";
    /// The cookie was taken back.
    SessionDelete = "session.delete";
    /// A ticket was handed out.
    TicketCreate = "ticket.create";
}

impl Action {
    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|action| action.as_str() == name)
    }
}

/// From where a request came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whence {
    /// Its id.
    pub request_id: Option<RequestId>,
    /// The address of the client, as text.
    pub address: Option<Arc<str>>,
}

/// What did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActorKind {
    /// An API key.
    Key,
    /// A user.
    User,
    /// A visitor.
    Visitor,
    /// Whoever holds a ticket.
    Ticket,
    /// Whoever runs `tidegate keys` on the machine.
    Cli,
    /// The gateway itself.
    System,
    /// Anybody, while auth is off.
    Local,
}

impl ActorKind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Key, Self::User, Self::Visitor, Self::Ticket, Self::Cli, Self::System, Self::Local];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::User => "user",
            Self::Visitor => "visitor",
            Self::Ticket => "ticket",
            Self::Cli => "cli",
            Self::System => "system",
            Self::Local => "local",
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    /// What they are.
    pub kind: ActorKind,
    /// A key's id, or a person's own.
    pub id: Option<Arc<str>>,
    /// The person a key acts for, or whose ticket it is, by how they own rows.
    pub acting_for: Option<Arc<str>>,
}

impl Actor {
    /// One that has no id.
    pub fn nameless(kind: ActorKind) -> Self {
        Self { kind, id: None, acting_for: None }
    }
}

/// What something was done to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    /// What it is, such as `conversation`.
    pub kind: &'static str,
    /// Its id.
    pub id: Arc<str>,
}

impl Object {
    /// A user or a visitor.
    pub fn person(owner: &Owner) -> Option<Self> {
        let kind = match owner.kind() {
            kind @ (Kind::User | Kind::Visitor) => kind.as_str(),
            Kind::Local | Kind::Service => return None,
        };
        owner.person_id().map(|id| Self { kind, id: id.into() })
    }
}

macro_rules! objects {
    ($($id:ident $kind:literal),*) => {
        $(impl From<&$id> for Object {
            fn from(id: &$id) -> Self {
                Self { kind: $kind, id: id.as_str().into() }
            }
        })*

        impl Object {
            /// The object of an id as this program makes them. Anything else is a client's own text, and names none.
            pub fn of(id: &str) -> Option<Self> {
                $(if $id::from(id).uuid().is_some() {
                    return Some(Self { kind: $kind, id: id.into() });
                })*
                None
            }
        }
    };
}

objects! { ConversationId "conversation", TurnId "turn", MessageId "message", KeyId "key" }

/// What somebody did, as a row of the log has it. Its result is told where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// The row's id.
    pub id: AuditId,
    /// The application whose log it is in.
    pub application: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What.
    pub action: Action,
    /// To what.
    pub object: Option<Object>,
    /// From where.
    pub whence: Whence,
    /// The person who did it, or for whom; `None` where that is nobody.
    pub acting: Option<Acting>,
}

impl Deed {
    /// What an actor of an application does at that time.
    pub fn new(application: Arc<str>, actor: Actor, action: Action, object: Option<Object>, at: Timestamp) -> Self {
        let (id, whence) = (AuditId::new(at), Whence::default());
        Self { id, application, at, actor, action, object, whence, acting: None }
    }

    /// What the gateway does of its own accord.
    pub fn of_system(application: &Arc<str>, action: Action, object: Option<Object>, at: Timestamp) -> Self {
        Self::new(application.clone(), Actor::nameless(ActorKind::System), action, object, at)
    }

    /// What somebody does on the machine.
    pub fn of_cli(application: &str, action: Action, object: Option<Object>, at: Timestamp) -> Self {
        Self::new(application.into(), Actor::nameless(ActorKind::Cli), action, object, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_of_ours_are_objects() {
        let id = TurnId::new(Timestamp::from_micros(1_700_000_000_000_000));
        assert_eq!(Object::of(id.as_str()), Some(Object::from(&id)));
        for text in ["", "turn_x", "my secret", "vis_0190b2c0a5f07bd39b7a1f6a0b0c0d0e", "anna"] {
            assert_eq!(Object::of(text), None, "{text}");
        }
    }

    #[test]
    fn every_name_is_one_action() {
        for action in Action::ALL {
            assert_eq!(Action::parse(action.as_str()), Some(*action));
        }
        assert_eq!(Action::parse("conversation.ask"), None);
    }
}
