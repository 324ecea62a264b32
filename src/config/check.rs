//! Settings that can be read and cannot be meant.

use std::collections::HashSet;

use globset::GlobBuilder;
use http::{HeaderName, HeaderValue};
use url::Url;

use super::{AuthMode, Config, ConfigError, Tls, known};
use crate::cluster::Cluster;
use crate::domain::owner::Owner;
use crate::domain::price::{DEAREST, Price};
use crate::domain::quota::Scope;
use crate::domain::window::Window;
use crate::http::address::network;
use crate::identity::settings::Application;
use crate::upstream::settings::{Kind, Settings};

/// The longest name of an application and key of a widget.
const NAME: usize = 64;

/// Refuses what cannot be meant; types and bounds are already known to hold.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    auth(config)?;
    if let Some(url) = &config.public_url {
        web_address("public_url", url)?;
    }
    tls(&config.tls)?;
    database(&config.database.url)?;
    if let Some(url) = &config.cluster.redis_url {
        redis(url)?;
    }
    if let Some(endpoint) = &config.otel.endpoint {
        web_address("otel.endpoint", endpoint)?;
    }
    origins("cors.allowed_origins", &config.cors.allowed_origins)?;
    proxies(&config.http.trusted_proxies)?;
    applications(&config.applications)?;
    metrics(config)?;
    limits(config)?;
    upstreams(&config.upstreams)?;
    prices(&config.prices)?;
    known::Known::read().map_err(ConfigError::new)?;
    window(&config.window)?;
    default_model(config)
}

fn auth(config: &Config) -> Result<(), ConfigError> {
    match config.auth.mode {
        AuthMode::Required => Ok(()),
        AuthMode::Off if config.listen.ip().to_canonical().is_loopback() || config.auth.allow_public_off => Ok(()),
        AuthMode::Off => Err(ConfigError::at(
            "listen",
            format_args!(
                "is {}, which others can reach, while auth is off: listen on 127.0.0.1, \
                 or set auth.allow_public_off = true",
                config.listen
            ),
        )),
    }
}

fn tls(tls: &Tls) -> Result<(), ConfigError> {
    match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => Err(ConfigError::at("tls.key_file", "is missing: `tls.cert_file` is not enough for TLS")),
        (None, Some(_)) => Err(ConfigError::at("tls.cert_file", "is missing: `tls.key_file` is not enough for TLS")),
        (Some(_), Some(_)) | (None, None) => Ok(()),
    }
}

fn database(url: &str) -> Result<(), ConfigError> {
    // The address may hold a password: it is not shown.
    let rest = ["sqlite:", "postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    if rest.is_some_and(|rest| !rest.trim_start_matches('/').is_empty()) {
        return Ok(());
    }
    Err(ConfigError::at("database.url", "must be sqlite://FILE or postgres://user@host/db"))
}

fn redis(url: &str) -> Result<(), ConfigError> {
    // Not shown either, nor what is wrong with it in its own words.
    let known = ["redis://", "rediss://"].iter().any(|scheme| url.starts_with(scheme));
    if known && Cluster::new(url).is_ok() {
        return Ok(());
    }
    Err(ConfigError::at("cluster.redis_url", "must be redis://host:port/db, or rediss:// for TLS"))
}

fn applications(applications: &[Application]) -> Result<(), ConfigError> {
    let (mut names, mut keys) = (HashSet::new(), HashSet::new());
    for (index, application) in applications.iter().enumerate() {
        let at = |key: &str| format!("applications.{index}.{key}");
        let name = application.name.as_str();
        if name.is_empty() || name.len() > NAME || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::at(at("name"), format_args!("must be 1 to {NAME} visible ASCII characters")));
        }
        if !names.insert(name) {
            return Err(ConfigError::at(at("name"), format_args!("`{name}` is taken by another application")));
        }
        if let Some(url) = &application.jwks_url {
            web_address(&at("jwks_url"), url)?;
        }
        for (number, widget) in application.widgets.iter().enumerate() {
            let at = |key: &str| at(&format!("widgets.{number}.{key}"));
            let word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if widget.key.len() > NAME || !widget.key.strip_prefix("wk_").is_some_and(word) {
                return Err(ConfigError::at(at("key"), "must be `wk_` and letters or digits"));
            }
            if !keys.insert(widget.key.as_str()) {
                return Err(ConfigError::at(at("key"), format_args!("`{}` is taken by another widget", widget.key)));
            }
            origins(&at("origins"), &widget.origins)?;
            globs(&at("models"), &widget.models)?;
        }
    }
    Ok(())
}

fn metrics(config: &Config) -> Result<(), ConfigError> {
    match &config.metrics.application {
        Some(name) if !config.applications.iter().any(|application| application.name == *name) => {
            Err(ConfigError::at("metrics.application", format_args!("is `{name}`, which is no application")))
        }
        Some(_) | None => Ok(()),
    }
}

/// Limits are for whom there is: with auth off that is one application in which nobody is known.
fn limits(config: &Config) -> Result<(), ConfigError> {
    let off = config.auth.mode == AuthMode::Off;
    for (index, application) in config.applications.iter().enumerate() {
        let at = |key: &str| format!("applications.{index}.limits.{key}");
        let quotas = &application.limits;
        if quotas.budget_soft_percent > 100 {
            return Err(ConfigError::at(at("budget_soft_percent"), "must be at most 100"));
        }
        let is_here = *application.name == *Owner::local().application_id;
        let set = quotas.set().into_iter().find(|(scope, _)| {
            let is_there = is_here && matches!(scope, Scope::Application | Scope::Address);
            off && !is_there
        });
        if let Some((_, key)) = set {
            let why = if is_here {
                "has no effect while auth is off: nobody is known then".to_owned()
            } else {
                format!(
                    "has no effect while auth is off: the one application is then `{}`",
                    Owner::local().application_id
                )
            };
            return Err(ConfigError::at(at(&key), why));
        }
    }
    Ok(())
}

fn globs(path: &str, globs: &[String]) -> Result<(), ConfigError> {
    for (number, glob) in globs.iter().enumerate() {
        if GlobBuilder::new(glob).build().is_err() || glob.is_empty() {
            return Err(ConfigError::at(format_args!("{path}.{number}"), format_args!("`{glob}` is no glob")));
        }
    }
    Ok(())
}

fn origins(path: &str, origins: &[String]) -> Result<(), ConfigError> {
    for (index, origin) in origins.iter().enumerate() {
        let exact = Url::parse(origin).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let exact = exact.map(|url| url.origin().ascii_serialization());
        let problem = match exact {
            Some(exact) if exact == *origin => continue,
            Some(exact) => format!("must be an exact origin: `{exact}`"),
            None => "must be an exact origin, such as https://shop.example".to_owned(),
        };
        return Err(ConfigError::at(format_args!("{path}.{index}"), problem));
    }
    Ok(())
}

fn proxies(proxies: &[String]) -> Result<(), ConfigError> {
    match proxies.iter().position(|proxy| network(proxy).is_none()) {
        None => Ok(()),
        Some(index) => Err(ConfigError::at(
            format_args!("http.trusted_proxies.{index}"),
            "must be an address or a network, such as 10.0.0.0/8",
        )),
    }
}

fn upstreams(upstreams: &[Settings]) -> Result<(), ConfigError> {
    let mut names = HashSet::new();
    for (index, upstream) in upstreams.iter().enumerate() {
        let at = |key: &str| format!("upstreams.{index}.{key}");
        if upstream.name.is_empty() || !upstream.name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::at(at("name"), "must be visible ASCII"));
        }
        if !names.insert(upstream.name.as_str()) {
            return Err(ConfigError::at(at("name"), format_args!("`{}` is taken by another upstream", upstream.name)));
        }
        match (upstream.kind, &upstream.base_url) {
            (Kind::Openai, None) => {
                return Err(ConfigError::at(at("base_url"), "is missing: an upstream of kind openai needs one"));
            }
            (Kind::Openai, Some(url)) => web_address(&at("base_url"), url)?,
            (Kind::Demo, None) => {}
            (Kind::Demo, Some(_)) => {
                return Err(ConfigError::at(at("base_url"), "has no meaning for an upstream of kind demo"));
            }
        }
        if let Some(proxy) = &upstream.proxy
            && !Url::parse(proxy.reveal()).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        {
            return Err(ConfigError::at(at("proxy"), "must be an http:// or https:// address"));
        }
        if upstream.models.is_empty() {
            return Err(ConfigError::at(at("models"), "is empty: it would never be asked"));
        }
        globs(&at("models"), &upstream.models)?;
        for (name, value) in &upstream.headers {
            if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value.reveal()).is_err() {
                return Err(ConfigError::at(at(&format!("headers.{name}")), "is no header"));
            }
        }
    }
    Ok(())
}

fn window(window: &Window) -> Result<(), ConfigError> {
    for (pattern, tokens) in &window.models {
        let at = || format!("window.models.{pattern}");
        if GlobBuilder::new(pattern).build().is_err() || pattern.is_empty() {
            return Err(ConfigError::at("window.models", format_args!("has `{pattern}`, which is no glob")));
        }
        if *tokens == 0 {
            return Err(ConfigError::at(at(), "must be at least 1"));
        }
    }
    Ok(())
}

fn prices(prices: &[Price]) -> Result<(), ConfigError> {
    let mut held = HashSet::new();
    for (index, price) in prices.iter().enumerate() {
        let at = |key: &str| format!("prices.{index}.{key}");
        if GlobBuilder::new(&price.model).build().is_err() || price.model.is_empty() {
            return Err(ConfigError::at(at("model"), format_args!("`{}` is no glob", price.model)));
        }
        if !held.insert((price.model.as_str(), price.valid_from)) {
            return Err(ConfigError::at(at("valid_from"), format_args!("has `{}` a second time", price.model)));
        }
        for (key, nano) in [
            ("prompt", Some(price.prompt_nano_usd_per_mtok)),
            ("completion", Some(price.completion_nano_usd_per_mtok)),
            ("cached", price.cached_nano_usd_per_mtok),
            ("cache_write", price.cache_write_nano_usd_per_mtok),
            ("reasoning", price.reasoning_nano_usd_per_mtok),
        ] {
            if nano.is_some_and(|nano| nano > DEAREST) {
                let key = format!("{key}_nano_usd_per_mtok");
                return Err(ConfigError::at(at(&key), format_args!("must be at most {DEAREST}")));
            }
        }
    }
    Ok(())
}

/// An address of the web that paths can be put behind. It is not shown: it may hold a password.
fn web_address(path: &str, text: &str) -> Result<(), ConfigError> {
    let Ok(url) = Url::parse(text) else {
        return Err(ConfigError::at(path, "must be an address, such as https://api.example/v1"));
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ConfigError::at(path, "must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ConfigError::at(path, "must not hold a user or a password: addresses end up in logs"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(ConfigError::at(path, "must end before any `?` or `#`"));
    }
    Ok(())
}

fn default_model(config: &Config) -> Result<(), ConfigError> {
    served(config, "default_model", &config.default_model)?;
    config.window.summary_model.as_ref().map_or(Ok(()), |model| served(config, "window.summary_model", model))
}

/// Refuses a model that no upstream serves.
fn served(config: &Config, setting: &str, model: &str) -> Result<(), ConfigError> {
    let serves =
        |glob: &String| GlobBuilder::new(glob).build().is_ok_and(|glob| glob.compile_matcher().is_match(model));
    let renamed = config.upstreams.iter().any(|upstream| upstream.rename.contains_key(model));
    if renamed || config.upstreams.iter().flat_map(|upstream| &upstream.models).any(serves) {
        return Ok(());
    }
    let served: Vec<&str> =
        config.upstreams.iter().flat_map(|upstream| &upstream.models).map(String::as_str).take(5).collect();
    Err(ConfigError::at(
        setting,
        format_args!(
            "is `{model}`, which no upstream serves: set it to one of the models in `upstreams` ({})",
            served.join(", ")
        ),
    ))
}
