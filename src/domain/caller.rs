//! Who asks, and what they may reach.

use std::sync::Arc;

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use super::acting::Acting;
use super::audit::{Action, Actor, ActorKind, Deed, Object, Whence};
use super::clock::Timestamp;
use super::ids::{ConversationId, KeyId, TurnId};
use super::owner::{Kind, Owner};
use super::quota::{Bounds, Scope};

/// What an API key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Every GET of its application.
    Read,
    /// All of its application, or all that one user may.
    Service,
    /// That, and keys, users and the audit log.
    Admin,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Service, Self::Admin];

    /// Its name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Service => "service",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// What was shown to say who asks. What is revoked is one of these.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// An API key.
    Key(KeyId),
    /// A person's token, by whom it speaks for.
    Person(Owner),
    /// That there is the application a key is of.
    Application(Arc<str>),
    /// The widget a visitor came through.
    Widget {
        /// The application it is of.
        application: Arc<str>,
        /// Its key.
        key: Arc<str>,
    },
}

/// The models somebody may name, as globs; all of them where there are none.
#[derive(Clone, Debug, Default)]
pub struct Models(Option<Arc<Globs>>);

/// Globs, and what they were made of.
#[derive(Debug)]
struct Globs {
    set: GlobSet,
    texts: Vec<String>,
}

impl Models {
    /// Those that one of these globs fits. What is no glob fits nothing.
    pub fn only(globs: &[String]) -> Self {
        let mut set = GlobSetBuilder::new();
        for glob in globs.iter().filter_map(|glob| Glob::new(glob).ok()) {
            set.add(glob);
        }
        Self(Some(Arc::new(Globs { set: set.build().unwrap_or_default(), texts: globs.to_vec() })))
    }

    /// Whether a model is one of them.
    pub fn has(&self, model: &str) -> bool {
        self.0.as_ref().is_none_or(|globs| globs.set.is_match(model))
    }
}

impl PartialEq for Models {
    fn eq(&self, other: &Self) -> bool {
        let texts = |models: &Self| models.0.as_ref().map(|globs| globs.texts.clone());
        texts(self) == texts(other)
    }
}

impl Eq for Models {}

/// What a ticket opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The events of a turn.
    Turn(TurnId),
    /// The feed of a conversation.
    Conversation(ConversationId),
}

/// As whom somebody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Anybody, while auth is off.
    Local,
    /// A key that acts for nobody: it reaches all of its application.
    Key(Role),
    /// A key that acts for one user.
    KeyFor(Role),
    /// A person.
    Person,
    /// Whoever holds a ticket: reads one object, and nothing else.
    Ticket(Opened),
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whose what they make is, and what they see where they see only their own.
    pub owner: Owner,
    /// As whom.
    pub standing: Standing,
    /// What they are let in by: each of them may be revoked, or go with the settings.
    pub credentials: Vec<Credential>,
    /// The models they may name.
    pub models: Models,
    /// The person they are, or whom they act for or hold a ticket of; `None` where that is nobody.
    pub acting: Option<Acting>,
    /// From where they ask.
    pub whence: Whence,
    /// What bounds them. Where they ask from is part of it, so it is known only once they are let in.
    pub bounds: Bounds,
}

/// What a caller is to an object that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is theirs to use.
    Theirs,
    /// It is another user's of their application: they may know that it is there, and no more.
    Forbidden,
    /// To them it is not there.
    Absent,
}

impl Caller {
    /// The one who asks while auth is off.
    pub fn local() -> Self {
        let (owner, standing) = (Owner::local(), Standing::Local);
        let (credentials, models) = (Vec::new(), Models::default());
        let (bounds, whence) = (Bounds::default(), Whence::default());
        Self { owner, standing, credentials, models, acting: None, bounds, whence }
    }

    /// What they do at that time, for the audit log.
    pub fn deed(&self, action: Action, object: Option<Object>, at: Timestamp) -> Deed {
        let deed = Deed::new(self.owner.application_id.clone(), self.actor(), action, object, at);
        Deed { whence: self.whence.clone(), acting: self.acting.clone(), ..deed }
    }

    fn actor(&self) -> Actor {
        let key = || self.key_id().map(|id| id.as_str().into());
        match &self.standing {
            Standing::Local => Actor::nameless(ActorKind::Local),
            Standing::Key(_) => Actor { kind: ActorKind::Key, id: key(), acting_for: None },
            Standing::KeyFor(_) => {
                Actor { kind: ActorKind::Key, id: key(), acting_for: Some(self.owner.owner_id.clone()) }
            }
            Standing::Ticket(_) => {
                Actor { kind: ActorKind::Ticket, id: None, acting_for: Some(self.owner.owner_id.clone()) }
            }
            Standing::Person => {
                let kind = match self.owner.kind() {
                    Kind::Visitor => ActorKind::Visitor,
                    Kind::User | Kind::Local | Kind::Service => ActorKind::User,
                };
                Actor { kind, id: self.owner.person_id().map(Into::into), acting_for: None }
            }
        }
    }

    /// The API key they ask with.
    pub fn key_id(&self) -> Option<&KeyId> {
        self.credentials.iter().find_map(|credential| match credential {
            Credential::Key(id) => Some(id),
            Credential::Person(_) | Credential::Application(_) | Credential::Widget { .. } => None,
        })
    }

    /// The key of the widget they came through.
    pub fn widget(&self) -> Option<&Arc<str>> {
        self.credentials.iter().find_map(|credential| match credential {
            Credential::Widget { key, .. } => Some(key),
            Credential::Key(_) | Credential::Person(_) | Credential::Application(_) => None,
        })
    }

    /// All that they are which may be bounded, but for where they ask from. Whoever holds a ticket is its owner.
    pub fn scopes(&self) -> Vec<(Scope, Arc<str>)> {
        let mut scopes = vec![(Scope::Application, "".into())];
        scopes.extend(self.key_id().map(|id| (Scope::Key, id.as_str().into())));
        let person = match self.owner.kind() {
            Kind::User => Some(Scope::User),
            Kind::Visitor => Some(Scope::Visitor),
            Kind::Local | Kind::Service => None,
        };
        scopes.extend(person.zip(self.owner.person_id()).map(|(scope, id)| (scope, id.into())));
        scopes
    }

    /// Whether this caller changes anything at all.
    pub fn may_change(&self) -> bool {
        !matches!(self.standing, Standing::Key(Role::Read) | Standing::KeyFor(Role::Read) | Standing::Ticket(_))
    }

    /// Whether this caller looks after keys, users and the audit log.
    pub fn is_admin(&self) -> bool {
        self.standing == Standing::Key(Role::Admin)
    }

    /// Whether this caller writes and reads what models are told beforehand.
    pub fn instructs(&self) -> bool {
        match self.standing {
            Standing::Local | Standing::Key(Role::Service | Role::Admin) => true,
            Standing::Key(Role::Read) | Standing::KeyFor(_) | Standing::Person | Standing::Ticket(_) => false,
        }
    }

    /// Whether this caller sees all of its application.
    pub fn sees_all(&self) -> bool {
        matches!(self.standing, Standing::Key(_))
    }

    /// What an object of `owner`'s is to this caller.
    pub fn reach(&self, owner: &Owner) -> Reach {
        if self.owner == *owner {
            return Reach::Theirs;
        }
        if self.owner.application_id != owner.application_id {
            return Reach::Absent;
        }
        match &self.standing {
            Standing::Key(_) => Reach::Theirs,
            Standing::Person | Standing::KeyFor(_) if self.owner.kind() == Kind::User && owner.kind() == Kind::User => {
                Reach::Forbidden
            }
            Standing::Person | Standing::KeyFor(_) | Standing::Local | Standing::Ticket(_) => Reach::Absent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(application: &str, kind: Kind, id: &str) -> Caller {
        let owner = Owner::person(&application.into(), kind, id);
        let credentials = vec![Credential::Person(owner.clone())];
        Caller { credentials, owner, standing: Standing::Person, ..Caller::local() }
    }

    fn key(application: &str, role: Role) -> Caller {
        let owner = Owner::service(&application.into());
        let credentials = vec![Credential::Key("key_1".into())];
        Caller { owner, standing: Standing::Key(role), credentials, ..Caller::local() }
    }

    #[test]
    fn a_strangers_object_is_not_there_and_a_fellow_users_is_forbidden() {
        let (anna, bert) = (person("shop", Kind::User, "anna"), person("shop", Kind::User, "bert"));
        let (guest, other) = (person("shop", Kind::Visitor, "vis_1"), person("shop", Kind::Visitor, "vis_2"));
        let abroad = person("bank", Kind::User, "anna");
        assert_eq!(anna.reach(&anna.owner), Reach::Theirs);
        assert_eq!(anna.reach(&bert.owner), Reach::Forbidden);
        for (caller, owner) in [(&anna, &abroad), (&anna, &guest), (&guest, &anna), (&guest, &other)] {
            assert_eq!(caller.reach(&owner.owner), Reach::Absent, "{caller:?} {owner:?}");
        }
        assert_eq!(anna.reach(&Owner::service(&"shop".into())), Reach::Absent);
    }

    #[test]
    fn a_deed_says_who_did_it_and_for_whom() {
        let at = Timestamp::from_micros(1);
        let actor = |caller: &Caller| caller.deed(Action::TurnStop, None, at).actor;
        let anna = person("shop", Kind::User, "anna");
        let named = |kind, id: &str| Actor { kind, id: Some(id.into()), acting_for: None };
        assert_eq!(actor(&anna), named(ActorKind::User, "anna"));
        assert_eq!(actor(&person("shop", Kind::Visitor, "vis_1")), named(ActorKind::Visitor, "vis_1"));
        let key = key("shop", Role::Service);
        assert_eq!(actor(&key), named(ActorKind::Key, "key_1"));
        let for_anna = Caller { owner: anna.owner.clone(), standing: Standing::KeyFor(Role::Service), ..key };
        let acting_for = Some("user:anna".into());
        assert_eq!(actor(&for_anna), Actor { acting_for: acting_for.clone(), ..named(ActorKind::Key, "key_1") });
        let ticket = Caller { standing: Standing::Ticket(Opened::Turn("turn_1".into())), ..anna };
        assert_eq!(actor(&ticket), Actor { kind: ActorKind::Ticket, id: None, acting_for });
        assert_eq!(actor(&Caller::local()), Actor::nameless(ActorKind::Local));
    }

    #[test]
    fn a_model_may_be_named_where_a_glob_fits() {
        let some = Models::only(&["demo".to_owned(), "gpt-4o*".to_owned()]);
        assert!(some.has("demo") && some.has("gpt-4o-mini") && !some.has("demo2") && !some.has("gpt-4"));
        assert!(Models::default().has("anything"));
    }

    #[test]
    fn a_key_reaches_its_application_and_one_for_a_user_what_the_user_does() {
        let anna = person("shop", Kind::User, "anna");
        for role in Role::ALL {
            assert_eq!(key("shop", role).reach(&anna.owner), Reach::Theirs);
            assert_eq!(key("bank", role).reach(&anna.owner), Reach::Absent);
        }
        let bert = Owner::person(&"shop".into(), Kind::User, "bert");
        let for_bert = Caller { owner: bert, standing: Standing::KeyFor(Role::Admin), ..key("shop", Role::Admin) };
        assert_eq!(for_bert.reach(&anna.owner), Reach::Forbidden);
        assert!(!for_bert.is_admin());
        assert!(!key("shop", Role::Read).may_change() && key("shop", Role::Service).may_change());
    }
}
