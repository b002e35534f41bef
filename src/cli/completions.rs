//! `completions`: for the shell.

use clap::{Args, Command, value_parser};
use clap_complete::{Shell, generate};

use super::failure::Failure;
use super::session::Session;

/// Print a completion script for a shell
///
/// Put it where your shell looks for completions, for bash for example into
/// ~/.local/share/bash-completion/completions/ascribe.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe completions bash > ascribe.bash")]
pub(super) struct CompletionsArguments {
    /// The shell
    #[arg(value_name = "SHELL", value_parser = value_parser!(Shell))]
    shell: Shell,
}

impl CompletionsArguments {
    /// `command` is the whole program.
    pub(super) fn run(self, command: Command, session: &mut Session<'_>) -> Result<(), Failure> {
        let name = command.get_name().to_owned();
        let mut command = without_hidden_verbs(&command);
        let mut script = Vec::new();
        generate(self.shell, &mut command, name, &mut script);
        session.out.write_all(&script).map_err(Failure::Output)
    }
}

/// The program as users see it: generators list hidden verbs too.
fn without_hidden_verbs(command: &Command) -> Command {
    let visible = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    Command::new(env!("CARGO_PKG_NAME")).version(env!("CARGO_PKG_VERSION")).subcommands(visible.cloned())
}
