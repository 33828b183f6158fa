//! Completions and manual pages, from the same declaration as the arguments.

use std::path::PathBuf;

use clap_complete::Shell;

use crate::error::{Error, Kind, Result};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Write one file per command into this directory, which exists [default: all pages to standard output]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the completions of `command`.
pub(super) fn completions(args: &Completions, command: &mut clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "diskwright", &mut script);
    super::print(&script)
}

/// Prints, or writes into a directory, the manual pages of `command` and those below it.
pub(super) fn man(args: &Man, mut command: clap::Command) -> Result<()> {
    // Names in full, such as `diskwright-mkfs-ext4`.
    command.build();
    let mut all = Vec::new();
    pages(&command, &mut |name, page| {
        match &args.dir {
            None => all.extend_from_slice(page),
            Some(folder) => {
                let path = folder.join(format!("{name}.1"));
                std::fs::write(&path, page)
                    .map_err(|error| Error::io(Kind::Output, "cannot write the manual page", path, error))?;
            }
        }
        Ok(())
    })?;
    super::print(&all)
}

fn pages(command: &clap::Command, emit: &mut dyn FnMut(&str, &[u8]) -> Result<()>) -> Result<()> {
    let page = clap_mangen::Man::new(command.clone());
    let mut bytes = Vec::new();
    page.render(&mut bytes)
        .map_err(|error| Error::new(Kind::Output, "cannot render a manual page").because(error))?;
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    emit(name, &bytes)?;
    command.get_subcommands().try_for_each(|below| pages(below, emit))
}
