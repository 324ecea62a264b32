//! `tidegate serve`

use tokio::net::TcpListener;

use super::reload::{Reload, Sources};
use super::{Failure, ServeArgs, first_lines, logs};
use crate::config::Flags;
use crate::lifecycle::Lifecycle;
use crate::{Parts, serve};

pub(super) async fn run(args: ServeArgs) -> Result<(), Failure> {
    let flags = Flags { listen: args.listen, database_url: args.database_url };
    let sources = Sources { file: args.config, flags };
    let life = Lifecycle::new();
    // From the first on: a signal that nobody listens to ends the process.
    let server = Box::pin(start(sources, life.clone()));
    life.under_signals(server).await.map_err(Failure::new)?
}

async fn start(sources: Sources, life: Lifecycle) -> Result<(), Failure> {
    let loaded = sources.read()?;
    let config = loaded.config.clone();
    logs::install(config.log.format);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    // Before the listener: who cannot have the database must not take connections, and is told so rather than
    // that the port is taken.
    let parts = Parts::open(&config, &life).await?;
    let cannot = |error| Failure::new(format_args!("cannot listen on {}: {error}", config.listen));
    let listener = TcpListener::bind(config.listen).await.map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    first_lines::print(address, parts.certificate.is_some(), config.public_url.as_deref());
    life.spawn("reload", Reload::new(sources, loaded, &parts).run(life.clone()));
    Ok(serve(config, parts, listener, life).await?)
}
