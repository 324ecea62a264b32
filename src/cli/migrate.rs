//! `tidegate migrate`

use std::env;

use super::{Failure, MigrateArgs, logs};
use crate::config::load::File;
use crate::config::{Flags, Loaded, load};

pub(super) async fn run(args: MigrateArgs) -> Result<(), Failure> {
    let file = args.config.as_deref().map(File::read).transpose()?;
    let Loaded { config, warnings, .. } = load(file.as_ref(), env::vars_os(), Flags::default())?;
    logs::install(config.log.format);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(crate::migrate(&config).await?)
}
