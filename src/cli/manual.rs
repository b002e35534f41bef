//! `man`: the manual page.

use std::io::Write;

use clap::Command;
use clap_mangen::Man;

use super::failure::Failure;

/// Writes the manual page of `command` in roff: the program, then each verb with its arguments and example.
pub(super) fn write_manual(mut command: Command, out: &mut dyn Write) -> Result<(), Failure> {
    // Gives every verb its full name and usage.
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    man.render_extra_section(&mut page)?;
    write_verbs(&command, "ASCRIBE", &mut page)?;
    let page = String::from_utf8_lossy(&page).replace(" EXTRA\n", " EXAMPLE\n");
    out.write_all(page.as_bytes()).map_err(Failure::Output)
}

/// Writes a section for each verb of `command`, and for those below it.
fn write_verbs(command: &Command, name: &str, page: &mut Vec<u8>) -> Result<(), Failure> {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        let mut section = Vec::new();
        let man = Man::new(verb.clone());
        man.render_synopsis_section(&mut section)?;
        man.render_description_section(&mut section)?;
        man.render_options_section(&mut section)?;
        man.render_extra_section(&mut section)?;
        let name = format!("{name} {}", verb.get_name().to_uppercase());
        page.extend_from_slice(format!(".SH \"{name}\"\n").as_bytes());
        // Sections of a verb's own page become parts of its section here.
        page.extend_from_slice(String::from_utf8_lossy(&section).replace(".SH ", ".SS ").as_bytes());
        write_verbs(verb, &name, page)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_section_with_its_arguments() {
        let command = Command::new("ascribe").version("1").subcommand(
            Command::new("query")
                .about("Ask")
                .after_help("Example:\n  ascribe query")
                .arg(clap::Arg::new("side").long("side").help("Which end"))
                .subcommand(Command::new("below").about("Further down")),
        );
        let mut page = Vec::new();
        write_manual(command, &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert!(page.contains(".TH ascribe"), "{page}");
        let verb = &page[page.find(".SH \"ASCRIBE QUERY\"").unwrap()..];
        assert!(
            verb.contains("side") && verb.contains(".SS EXAMPLE") && verb.contains("Which end"),
            "{verb}"
        );
        let below = verb.find("\n.SH \"ASCRIBE QUERY BELOW\"").unwrap();
        assert!(!verb[5..below].contains("\n.SH ") && verb[below..].contains("Further down"), "{verb}");
    }
}
