//! Secrets that are kept elsewhere: `…_env` and `…_file`.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;

use super::{Config, ConfigError};
use crate::domain::secret::Secret;
use crate::identity::settings::Application;

/// HS256 takes a key of as many bytes as its hash has, or more (RFC 7518, section 3.2).
const HS256_BYTES: usize = 32;

/// Fetches every secret, so that nobody else reads the environment or the files; an empty one is none.
pub fn fetch(config: &mut Config, environment: &HashMap<OsString, OsString>) -> Result<(), ConfigError> {
    for (index, upstream) in config.upstreams.iter_mut().enumerate() {
        let place = Place { section: format!("upstreams.{index}"), key: "api_key", environment };
        let (variable, file) = (upstream.api_key_env.take(), upstream.api_key_file.take());
        upstream.api_key = place.fetch(upstream.api_key.take(), variable, file)?;
        if upstream.api_key.as_ref().is_some_and(|key| !key.reveal().bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(ConfigError::at(place.at(""), "must be visible ASCII: it travels in a header"));
        }
    }
    for (index, application) in config.applications.iter_mut().enumerate() {
        let place = Place { section: format!("applications.{index}"), key: "jwt_secret", environment };
        let (variable, file) = (application.jwt_secret_env.take(), application.jwt_secret_file.take());
        let suffix = match (&variable, &file) {
            (Some(_), _) => "_env",
            (None, Some(_)) => "_file",
            (None, None) => "",
        };
        application.jwt_secret = place.fetch(application.jwt_secret.take(), variable, file)?;
        if application.jwt_secret.is_some() && application.jwks_url.is_some() {
            return Err(ConfigError::at(place.at(""), "is given beside `jwks_url`: keep one of them"));
        }
        if application.jwt_secret.as_ref().is_some_and(|secret| secret.reveal().len() < HS256_BYTES) {
            let problem = format!("gives a secret of fewer than {HS256_BYTES} bytes: others could guess it");
            return Err(ConfigError::at(place.at(suffix), problem));
        }
    }
    for (index, one) in config.applications.iter().enumerate() {
        let signer = |application: &Application| (application.jwt_secret.clone(), application.jwks_url.clone());
        let named = |application: &Application| (application.jwt_issuer.clone(), application.jwt_audience.clone());
        let has_users = signer(one) != (None, None);
        let same = |other: &&Application| signer(other) == signer(one) && named(other) == named(one);
        if let Some(other) = config.applications[..index].iter().filter(|_| has_users).find(same) {
            let problem = format!("is that of `{}`, which has the same signer: whose users are they?", other.name);
            return Err(ConfigError::at(format_args!("applications.{index}.jwt_audience"), problem));
        }
    }
    Ok(())
}

/// Where a secret may stand: under `key`, `key_env` and `key_file` of a section.
struct Place<'a> {
    section: String,
    key: &'static str,
    environment: &'a HashMap<OsString, OsString>,
}

impl Place<'_> {
    fn at(&self, suffix: &str) -> String {
        format!("{}.{}{suffix}", self.section, self.key)
    }

    fn fetch(
        &self,
        inline: Option<Secret>,
        variable: Option<String>,
        file: Option<PathBuf>,
    ) -> Result<Option<Secret>, ConfigError> {
        let key = self.key;
        if usize::from(inline.is_some()) + usize::from(variable.is_some()) + usize::from(file.is_some()) > 1 {
            let problem = format!("is given more than once: keep one of `{key}`, `{key}_env`, `{key}_file`");
            return Err(ConfigError::at(self.at(""), problem));
        }
        let secret = if let Some(name) = variable {
            let at = self.at("_env");
            let value = self.environment.get(OsStr::new(&name));
            let value = value.ok_or_else(|| ConfigError::at(&at, format_args!("names `{name}`, which is not set")))?;
            Some(value.to_str().ok_or_else(|| ConfigError::at(&at, "names what is not UTF-8"))?.into())
        } else if let Some(path) = file {
            let text = fs::read_to_string(&path).map_err(|error| {
                let problem = format!("cannot be read ({}): {error}", path.display());
                ConfigError::at(self.at("_file"), problem)
            })?;
            Some(text.into())
        } else {
            inline
        };
        let secret = secret.map(|secret: Secret| secret.reveal().trim().to_owned());
        Ok(secret.filter(|secret| !secret.is_empty()).map(Secret::from))
    }
}
