//! `tidegate serve`

use std::env;

use tokio::net::TcpListener;

use super::{Failure, ServeArgs, first_lines, logs};
use crate::config::load::File;
use crate::config::{Config, Flags, Loaded, load};
use crate::lifecycle::Lifecycle;
use crate::{Parts, serve};

pub(super) async fn run(args: ServeArgs) -> Result<(), Failure> {
    let file = args.config.as_deref().map(File::read).transpose()?;
    let flags = Flags { listen: args.listen, database_url: args.database_url };
    let Loaded { config, warnings } = load(file.as_ref(), env::vars_os(), flags)?;
    logs::install(config.log.format);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let life = Lifecycle::new();
    let server = Box::pin(start(config, life.clone()));
    life.under_signals(server).await.map_err(Failure::new)?
}

async fn start(config: Config, life: Lifecycle) -> Result<(), Failure> {
    // Before the listener: who cannot have the database must not take connections, and is told so rather than
    // that the port is taken.
    let parts = Parts::open(&config).await?;
    let cannot = |error| Failure::new(format_args!("cannot listen on {}: {error}", config.listen));
    let listener = TcpListener::bind(config.listen).await.map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    first_lines::print(address, config.public_url.as_deref());
    Ok(serve(config, parts, listener, life).await?)
}
