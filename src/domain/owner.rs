//! Whose a row is. Every function of the store takes one; an id alone opens nothing.

use std::sync::Arc;

/// An application and, within it, the one the object belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The application (tenant).
    pub application_id: Arc<str>,
    /// The user or visitor within it, or who else: see [`Kind`].
    pub owner_id: Arc<str>,
}

/// What an owner is. Its id is this word, and for people a colon and their own id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The one owner there is while auth is off.
    Local,
    /// The application itself, through a service key that acts for nobody.
    Service,
    /// A signed-in user, by the id the application knows them by.
    User,
    /// Somebody who came through a widget.
    Visitor,
}

impl Kind {
    /// Its name, as in an owner's id.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Service => "service",
            Self::User => "user",
            Self::Visitor => "visitor",
        }
    }
}

impl Owner {
    /// The one owner there is while auth is off.
    pub fn local() -> Self {
        Self { application_id: "default".into(), owner_id: Kind::Local.as_str().into() }
    }

    /// The application itself.
    pub fn service(application: &Arc<str>) -> Self {
        Self { application_id: application.clone(), owner_id: Kind::Service.as_str().into() }
    }

    /// A user or a visitor of an application.
    pub fn person(application: &Arc<str>, kind: Kind, id: &str) -> Self {
        Self { application_id: application.clone(), owner_id: format!("{}:{id}", kind.as_str()).into() }
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.owner_id.split_once(':') {
            Some(("user", _)) => Kind::User,
            Some(("visitor", _)) => Kind::Visitor,
            Some(_) | None if &*self.owner_id == Kind::Service.as_str() => Kind::Service,
            Some(_) | None => Kind::Local,
        }
    }

    /// A person's own id; `None` for what is nobody.
    pub fn person_id(&self) -> Option<&str> {
        match self.kind() {
            Kind::User | Kind::Visitor => self.owner_id.split_once(':').map(|(_, id)| id),
            Kind::Local | Kind::Service => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_what_it_was_made_as() {
        let shop = Arc::from("shop");
        let user = Owner::person(&shop, Kind::User, "visitor:é");
        assert_eq!((user.kind(), user.person_id()), (Kind::User, Some("visitor:é")));
        let visitor = Owner::person(&shop, Kind::Visitor, "vis_1");
        assert_eq!((visitor.kind(), visitor.person_id()), (Kind::Visitor, Some("vis_1")));
        assert_eq!((Owner::service(&shop).kind(), Owner::service(&shop).person_id()), (Kind::Service, None));
        assert_eq!(Owner::local().kind(), Kind::Local);
    }
}
