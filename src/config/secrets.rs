//! Secrets that are kept elsewhere: `…_env` and `…_file`.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;

use super::{Config, ConfigError};
use crate::upstream::secret::Secret;

/// Fetches every upstream's API key, so that nobody else reads the environment or the file; an empty one is none.
pub fn fetch(config: &mut Config, environment: &HashMap<OsString, OsString>) -> Result<(), ConfigError> {
    for (index, upstream) in config.upstreams.iter_mut().enumerate() {
        let at = |key: &str| format!("upstreams.{index}.{key}");
        let variable = upstream.api_key_env.take();
        let file = upstream.api_key_file.take();
        let inline = upstream.api_key.is_some();
        if usize::from(inline) + usize::from(variable.is_some()) + usize::from(file.is_some()) > 1 {
            return Err(ConfigError::at(
                at("api_key"),
                "is given more than once: keep one of `api_key`, `api_key_env`, `api_key_file`",
            ));
        }
        if let Some(name) = variable {
            let value = environment
                .get(OsStr::new(&name))
                .ok_or_else(|| ConfigError::at(at("api_key_env"), format_args!("names `{name}`, which is not set")))?;
            let value = value.to_str().ok_or_else(|| ConfigError::at(at("api_key_env"), "names what is not UTF-8"))?;
            upstream.api_key = Some(value.into());
        } else if let Some(path) = file {
            let text = fs::read_to_string(&path).map_err(|error| {
                ConfigError::at(at("api_key_file"), format_args!("cannot be read ({}): {error}", path.display()))
            })?;
            upstream.api_key = Some(text.into());
        }
        let key = upstream.api_key.take().map(|key| key.reveal().trim().to_owned());
        if key.as_ref().is_some_and(|key| !key.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(ConfigError::at(at("api_key"), "must be visible ASCII: it travels in a header"));
        }
        upstream.api_key = key.filter(|key| !key.is_empty()).map(Secret::from);
    }
    Ok(())
}
