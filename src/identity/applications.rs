//! The applications of the settings, made ready.

use std::collections::HashMap;
use std::sync::Arc;

use super::jwks::{Set, Source};
use super::jwt::{Refusal, Verifier};
use super::settings::{Application as Settings, Widget as WidgetSettings};
use crate::domain::caller::{Credential, Models};
use crate::domain::clock::Timestamp;
use crate::domain::owner::Kind;
use crate::domain::quota::Quotas;

/// All applications there are.
#[derive(Debug, Default)]
pub struct Applications {
    all: Vec<Application>,
    /// By widget key: which application, and which of its widgets.
    widgets: HashMap<String, (usize, usize)>,
}

/// An application, made ready.
#[derive(Debug)]
pub struct Application {
    /// Its name.
    pub name: Arc<str>,
    /// Whether visitors may use it.
    pub visitors: bool,
    /// For how many days a conversation is kept in which nothing happens; 0: for ever.
    pub retention_days: u64,
    /// What of it may be used; `None` where nothing is limited.
    pub quotas: Option<Quotas>,
    users: Option<Verifier>,
    widgets: Vec<Widget>,
}

/// A widget, made ready.
#[derive(Debug)]
pub struct Widget {
    /// Its key.
    pub key: String,
    /// Exact origins of the pages it may be used from.
    pub origins: Vec<String>,
    /// The models its visitors may name.
    pub models: Models,
}

impl Widget {
    fn new(settings: &WidgetSettings) -> Self {
        let all = settings.models.is_empty() || settings.models.iter().any(|glob| glob == "*");
        let models = if all { Models::default() } else { Models::only(&settings.models) };
        Self { key: settings.key.clone(), origins: settings.origins.clone(), models }
    }
}

impl Applications {
    /// Makes them ready; nothing is fetched yet.
    ///
    /// # Errors
    /// A line that names the setting at fault.
    pub fn new(settings: &[Settings]) -> Result<Self, String> {
        let (mut all, mut widgets) = (Vec::new(), HashMap::new());
        for (index, settings) in settings.iter().enumerate() {
            let source = match (&settings.jwt_secret, &settings.jwks_url) {
                (Some(secret), _) => Some(Source::secret(secret)),
                (None, Some(url)) => {
                    let set = Set::new(url).map_err(|error| format!("`applications.{index}.jwks_url`: {error}"))?;
                    Some(Source::Set(set))
                }
                (None, None) => None,
            };
            let (issuer, audience) = (settings.jwt_issuer.clone(), settings.jwt_audience.clone());
            let users = source.map(|source| Verifier::new(source, issuer, audience));
            widgets.extend(settings.widgets.iter().enumerate().map(|(at, widget)| (widget.key.clone(), (index, at))));
            let ready = settings.widgets.iter().map(Widget::new).collect();
            let name = settings.name.as_str().into();
            let quotas = Some(settings.limits.clone()).filter(|quotas| !quotas.set().is_empty());
            let (visitors, retention_days) = (settings.visitors, settings.retention_days);
            all.push(Application { name, visitors, retention_days, quotas, users, widgets: ready });
        }
        Ok(Self { all, widgets })
    }

    /// All of them.
    pub fn all(&self) -> &[Application] {
        &self.all
    }

    /// The application of that name.
    pub fn get(&self, name: &str) -> Option<&Application> {
        self.all.iter().find(|application| &*application.name == name)
    }

    /// How many requests a minute an address may make that show nothing good: as many as the strictest application lets it
    /// make that do. `None` where none says.
    pub fn strangers(&self) -> Option<u64> {
        let quotas = self.all.iter().filter_map(|application| application.quotas.as_ref());
        let each = quotas.map(|quotas| quotas.per_address.requests_per_minute);
        each.filter(|most| *most > 0).min()
    }

    /// The widget of that key, and the application it is of.
    pub fn widget(&self, key: &str) -> Option<(&Application, &Widget)> {
        let (application, widget) = self.widgets.get(key)?;
        let application = self.all.get(*application)?;
        Some((application, application.widgets.get(*widget)?))
    }

    /// Whether a credential is good as far as these settings know: what they say nothing of, the record knows.
    pub fn let_in(&self, credential: &Credential) -> bool {
        match credential {
            // Whoever asks by a key is let in by its application as well.
            Credential::Key(_) => true,
            Credential::Application(name) => self.get(name).is_some(),
            Credential::Person(owner) => self
                .get(&owner.application_id)
                .is_some_and(|application| application.visitors || owner.kind() != Kind::Visitor),
            Credential::Widget { application, key } => self.widget(key).is_some_and(|(of, _)| of.name == *application),
        }
    }

    /// Whether a page of this origin may hold a widget of any application.
    pub fn has_origin(&self, origin: &str) -> bool {
        let widgets = self.all.iter().flat_map(|application| &application.widgets);
        widgets.flat_map(|widget| &widget.origins).any(|one| one == origin)
    }

    /// The application whose user a token speaks for, and which user.
    ///
    /// # Errors
    /// What is wrong with it, as the last application that has users found.
    pub async fn user(&self, token: &str, now: Timestamp) -> Result<(Arc<str>, Arc<str>), &'static str> {
        let mut refusal = Refusal::NO_USERS;
        for application in &self.all {
            let Some(users) = &application.users else { continue };
            match users.user(token, now).await {
                Ok(user) => return Ok((application.name.clone(), user)),
                Err(other) => refusal = refusal.max(other),
            }
        }
        Err(refusal.why)
    }
}
