//! `tidegate completions`

use clap::CommandFactory;
use clap_complete::Shell;

use super::print::print;
use super::{Cli, Failure};

pub(super) fn run(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), env!("CARGO_PKG_NAME"), &mut script);
    print(&script)
}
