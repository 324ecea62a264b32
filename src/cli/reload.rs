//! SIGHUP: the settings are read again, and what of them can change under way is put in place.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;

use crate::Parts;
use crate::config::load::File;
use crate::config::{Config, ConfigError, Flags, Loaded, check, load};
use crate::domain::price::Prices;
use crate::http::server::certificate::Certificate;
use crate::identity::applications::Applications;
use crate::latest::Latest;
use crate::lifecycle::Lifecycle;
use crate::upstream::Upstreams;

/// Where the settings come from.
#[derive(Debug)]
pub(super) struct Sources {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// The command line.
    pub flags: Flags,
}

impl Sources {
    /// Reads them, as they are now.
    pub(super) fn read(&self) -> Result<Loaded, ConfigError> {
        let file = self.file.as_deref().map(File::read).transpose()?;
        load(file.as_ref(), env::vars_os(), self.flags.clone())
    }
}

/// What a reload needs to know, and what it replaces.
#[derive(Debug)]
pub(super) struct Reload {
    sources: Sources,
    /// What the server was started with.
    started: Loaded,
    upstreams: Latest<Upstreams>,
    prices: Latest<Prices>,
    certificate: Option<Certificate>,
    applications: Latest<Applications>,
}

/// How a reload went that went well.
struct Done {
    /// What is in place.
    reloaded: String,
    /// What changed and is not in place.
    waiting: Vec<&'static str>,
}

impl Reload {
    /// Of a server with these parts.
    pub(super) fn new(sources: Sources, started: Loaded, parts: &Parts) -> Self {
        let (upstreams, prices) = (parts.upstreams.clone(), parts.prices.clone());
        let (certificate, applications) = (parts.certificate.clone(), parts.applications.clone());
        Self { sources, started, upstreams, prices, certificate, applications }
    }

    /// Reloads at each word, until nobody waits any more.
    pub(super) async fn run(self, life: Lifecycle) {
        let this = Arc::new(self);
        loop {
            tokio::select! {
                () = life.hard().cancelled() => return,
                () = life.told_to_reload() => {}
            }
            let that = this.clone();
            // Files are read, and trust is gathered: on a thread that may wait.
            match life.blocking(move || that.once()).await {
                Some(Ok(Done { reloaded, waiting })) => {
                    tracing::info!("SIGHUP: reloaded {reloaded}");
                    if !waiting.is_empty() {
                        tracing::warn!("SIGHUP: changed, and kept as it was until a restart: {}", waiting.join(", "));
                    }
                }
                Some(Err(line)) => tracing::warn!("SIGHUP: nothing is reloaded: {line}"),
                None => tracing::error!("SIGHUP: nothing is reloaded: it panicked"),
            }
        }
    }

    /// Puts everything in place, or nothing.
    fn once(&self) -> Result<Done, String> {
        // Its warnings are of the environment, which nobody changes from outside: they were said at the start.
        let Loaded { config, kept, warnings: _ } = self.sources.read().map_err(|error| error.to_string())?;
        let mut waiting = self.started.kept.changed(&kept);
        // Whatever else is new waits, so what is put in place must go with what there was.
        let Config { upstreams, prices, tls, applications, .. } = config;
        let next = Config { upstreams, prices, tls, applications, ..self.started.config.clone() };
        check::check(&next).map_err(|error| format!("{error}; a new default_model takes a restart"))?;
        let upstreams =
            crate::upstreams(&next, self.upstreams.get().ticks().clone()).map_err(|error| error.to_string())?;
        let prices = crate::prices(&next);
        let applications = crate::applications(&next).map_err(|error| error.to_string())?;
        let certificate = match &self.certificate {
            Some(old) if next.tls.files().is_some() => {
                crate::certificate(&next).map_err(|error| error.to_string())?.map(|new| (old, new))
            }
            None if next.tls.files().is_none() => None,
            // The port goes on as it began.
            Some(_) | None => {
                waiting.extend(["tls.cert_file", "tls.key_file"]);
                None
            }
        };
        let names: Vec<&str> = next.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
        let upstreams_named = format!("the upstreams ({})", names.join(", "));
        self.applications.replace(applications);
        self.upstreams.replace(upstreams);
        self.prices.replace(prices);
        let reloaded = if let Some((old, new)) = certificate {
            old.replace(&new);
            format!("{upstreams_named}, the prices, the applications and the certificate")
        } else {
            format!("{upstreams_named}, the prices and the applications")
        };
        Ok(Done { reloaded, waiting })
    }
}
