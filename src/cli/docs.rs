//! Completions and manual pages, from the same declaration as the arguments.

use std::path::PathBuf;

use clap::builder::Resettable;
use clap_complete::Shell;

use crate::error::{Error, Kind, Result};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell: bash, elvish, fish, powershell or zsh
    #[arg(hide_possible_values = true)]
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Write one file per command into this directory, which is made [default: all pages to standard output]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the completions of `command`.
pub(super) fn completions(args: &Completions, command: &mut clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "diskwright", &mut script);
    super::print(&script)
}

/// Prints the manual pages of `command` and its subcommands, or writes them into a directory.
pub(super) fn man(args: &Man, mut command: clap::Command) -> Result<()> {
    if let Some(folder) = &args.dir {
        std::fs::create_dir_all(folder).map_err(|error| {
            Error::io(Kind::Output, "cannot make the folder of the manual pages", folder, error)
        })?;
    }
    // Full names such as `diskwright-mkfs-ext4`.
    command.build();
    let mut all = Vec::new();
    let mut emit = |name: &str, page: &[u8]| {
        match &args.dir {
            None => all.extend_from_slice(page),
            Some(folder) => {
                let path = folder.join(name);
                std::fs::write(&path, page)
                    .map_err(|error| Error::io(Kind::Output, "cannot write the manual page", path, error))?;
            }
        }
        Ok(())
    };
    pages(&command, &mut emit)?;
    emit("diskwright.toml.5", in_ascii(&super::manual::page()).as_bytes())?;
    super::print(&all)
}

/// The date in the footer of the pages; it belongs to the version that they describe.
pub(super) const DATE: &str = "2026-11-24";

fn pages(command: &clap::Command, emit: &mut dyn FnMut(&str, &[u8]) -> Result<()>) -> Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    emit(&format!("{name}.1"), page(command)?.as_bytes())?;
    command.get_subcommands().try_for_each(|below| pages(below, emit))
}

/// The manual page of one command, in ASCII.
fn page(command: &clap::Command) -> Result<String> {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let man = clap_mangen::Man::new(command.clone().after_help(Resettable::Reset))
        .date(DATE)
        .source(concat!("diskwright ", env!("CARGO_PKG_VERSION")))
        .manual("diskwright manual");
    let mut bytes = Vec::new();
    man.render(&mut bytes)
        .map_err(|error| Error::new(Kind::Output, "cannot render a manual page").because(error))?;
    Ok(in_ascii(&(String::from_utf8_lossy(&bytes).into_owned() + &notes(&after))))
}

/// A page in ASCII; other characters are written by their names in roff.
fn in_ascii(text: &str) -> String {
    let ascii = |c: char| match u32::from(c) {
        code if code < 128 => c.to_string(),
        code => format!("\\[u{code:04X}]"),
    };
    text.chars().map(ascii).collect()
}

/// The text after the options in the help, as sections: examples line by line, everything else as paragraphs.
fn notes(text: &str) -> String {
    let mut sections = String::new();
    for part in text.split("\n\n").filter(|part| !part.is_empty()) {
        match part.split_once(":\n") {
            Some(("Example" | "Examples", lines)) => {
                sections += ".SH EXAMPLES\n.nf\n";
                lines.lines().for_each(|line| sections += &format!("{}\n", escaped(line.trim_start())));
                sections += ".fi\n";
            }
            _ => sections += &format!(".SH NOTES\n{}\n", escaped(&part.replace('\n', " "))),
        }
    }
    sections
}

/// A line of text that troff shows unchanged (groff_char(7)).
pub(super) fn escaped(line: &str) -> String {
    let text = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}
