//! What of the routes is audited: the deed of a caller, and what a refusal of it is noted as.
//!
//! Questions are not here: a turn is the record of itself, and of the key it was asked with.

use http::Method;

use super::app::App;
use crate::access::Access;
use crate::domain::audit::{Action, Deed, Object};
use crate::domain::caller::Caller;

/// What a route is audited as, where a refusal of it is to be told. In a few the handler knows better what was done.
const ROUTES: &[(Method, &str, Action)] = &[
    (Method::GET, "/v1/keys", Action::AdminRead),
    (Method::POST, "/v1/keys", Action::KeyCreate),
    (Method::DELETE, "/v1/keys/{id}", Action::KeyRevoke),
    (Method::POST, "/v1/keys/{id}/rotate", Action::KeyRotate),
    (Method::GET, "/v1/users", Action::AdminRead),
    (Method::PATCH, "/v1/users/{id}", Action::UserUpdate),
    (Method::DELETE, "/v1/users/{id}", Action::UserForget),
    (Method::GET, "/v1/audit", Action::AdminRead),
    (Method::POST, "/v1/conversations", Action::ConversationCreate),
    (Method::PATCH, "/v1/conversations/{id}", Action::ConversationUpdate),
    (Method::DELETE, "/v1/conversations/{id}", Action::ConversationDelete),
    (Method::DELETE, "/v1/chat/{session_id}", Action::ConversationDelete),
    (Method::GET, "/v1/conversations/{id}/export", Action::ConversationExport),
    (Method::POST, "/v1/conversations/{id}/archive", Action::ConversationArchive),
    (Method::POST, "/v1/conversations/{id}/unarchive", Action::ConversationUnarchive),
    (Method::POST, "/v1/conversations/{id}/pause", Action::ConversationPause),
    (Method::POST, "/v1/conversations/{id}/resume", Action::ConversationResume),
    (Method::POST, "/v1/conversations/{id}/end", Action::ConversationEnd),
    (Method::PATCH, "/v1/conversations/{id}/context", Action::ContextUpdate),
    (Method::DELETE, "/v1/conversations/{id}/context", Action::ContextClear),
    (Method::POST, "/v1/messages/{id}/feedback", Action::MessageRate),
    (Method::POST, "/v1/messages/{id}/regenerate", Action::MessageRegenerate),
    (Method::POST, "/v1/turns/{id}/stop", Action::TurnStop),
    (Method::POST, "/v1/tickets", Action::TicketCreate),
];

/// What somebody is about to do, until it is known whether they are refused.
#[derive(Clone)]
pub struct Attempt {
    deed: Deed,
    access: Access,
}

impl Attempt {
    /// What a caller attempts by asking for a route, if that is audited. `path` is what stands in the URL.
    pub fn of(app: &App, caller: &Caller, method: &Method, route: &str, path: &str) -> Option<Self> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let (.., action) = ROUTES.iter().find(|(one, its, _)| its == &route && one == method)?;
        let segments = route.split('/').zip(path.split('/'));
        let id = segments.into_iter().find(|(name, _)| *name == "{id}").map(|(_, id)| id);
        let deed = app.deed(caller, *action, id.and_then(Object::of));
        Some(Self { deed, access: app.access.clone() })
    }

    /// They are refused with that code.
    pub fn refused(self, code: &'static str) {
        self.access.note_refusal(self.deed, code);
    }
}

impl App {
    /// What a caller does now.
    pub fn deed(&self, caller: &Caller, action: Action, object: Option<Object>) -> Deed {
        caller.deed(action, object, self.turns.now())
    }
}
