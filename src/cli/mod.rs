//! The commands of the program.
//!
//! To add a command: 1. a variant of `Command`; 2. a file here with its function; 3. its line in [`run`].

mod chat;
mod completions;
mod config;
mod failure;
mod first_lines;
mod keys;
mod logs;
mod migrate;
mod print;
mod reload;
mod serve;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub use self::failure::Failure;

/// A streaming chat gateway: every token at once, and a true record of the answer.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway (what happens without a command, too)
    Serve(ServeArgs),
    /// Asks a gateway from a terminal or a pipe
    Chat(chat::ChatArgs),
    /// Looks into settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Makes, lists and revokes API keys, also beside a gateway that runs
    Keys(keys::KeysArgs),
    /// Applies the database's migrations and exits
    Migrate(MigrateArgs),
    /// Prints what a shell needs to complete this program's command line
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// The settings, as TOML; see `tidegate config example`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to listen on
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where the record is kept
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Says whether `serve --config FILE` would start with these settings, here and now
    Check {
        /// The settings, as TOML
        file: PathBuf,
    },
    /// Prints every setting with its default
    Example,
}

#[derive(Debug, Args)]
struct MigrateArgs {
    /// The settings, as TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Does what the command line says.
pub async fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::run(args).await,
        Command::Chat(args) => chat::run(args).await,
        Command::Config(ConfigCommand::Check { file }) => config::check(&file),
        Command::Config(ConfigCommand::Example) => config::example(),
        Command::Keys(args) => keys::run(args).await,
        Command::Migrate(args) => migrate::run(args).await,
        Command::Completions { shell } => completions::run(shell),
    }
}
