//! `diskwright init`: a commented manifest to start from.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::job::Target;
use crate::error::{Error, Kind, Result};

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  diskwright init nixos                          writes disk.toml here
  diskwright init esp+root -o image.toml         writes it there
  diskwright init data -o -                      prints it")]
pub(super) struct Args {
    /// What the disk is for: nixos, esp+root, bios or data
    #[arg(value_name = "KIND", hide_possible_values = true, default_value = "esp+root")]
    kind: Starter,
    /// Where the manifest goes; `-` is standard output. A file that is there already is not replaced
    #[arg(short, long, value_name = "OUT", default_value = "disk.toml")]
    output: PathBuf,
}

/// A manifest to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Starter {
    Nixos,
    #[value(name = "esp+root")]
    EspRoot,
    Bios,
    Data,
}

impl Starter {
    const fn text(self) -> &'static str {
        match self {
            Self::Nixos => include_str!("starters/nixos.toml"),
            Self::EspRoot => include_str!("starters/esp+root.toml"),
            Self::Bios => include_str!("starters/bios.toml"),
            Self::Data => include_str!("starters/data.toml"),
        }
    }
}

/// Runs `init`.
pub(super) fn run(args: Args) -> Result<()> {
    let text = args.kind.text().as_bytes();
    let path = match Target::of(args.output) {
        Target::Stdout => return super::print(text),
        // `init > disk.toml`: the shell has made the file, and the manifest is to be in it.
        Target::File(path) if is_standard_output(&path) => return super::print(text),
        Target::File(path) => path,
    };
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::new(Kind::Output, "there is a file of this name already")
            .at(&path)
            .hint("give another name by -o, or remove it"),
        _ => Error::io(Kind::Output, "cannot write the manifest", &path, error),
    };
    let mut file = std::fs::File::create_new(&path).map_err(failed)?;
    file.write_all(text).map_err(failed)?;
    let shown = crate::text::printable_path(&path);
    super::print(format!("{shown}: change what it names, then run diskwright build {shown}\n").as_bytes())
}

/// Whether standard output goes to the file that has this name.
fn is_standard_output(path: &Path) -> bool {
    let (Ok(there), Ok(standard)) = (path.metadata(), rustix::fs::fstat(std::io::stdout())) else {
        return false;
    };
    (there.dev(), there.ino(), there.len()) == (standard.st_dev, standard.st_ino, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::manifest::Manifest;
    use clap::ValueEnum;

    #[test]
    fn every_starter_is_a_manifest() {
        for starter in Starter::value_variants() {
            let name = std::path::Path::new("disk.toml");
            let parsed = Manifest::parse(starter.text().to_owned(), name, std::path::Path::new("."));
            assert!(parsed.is_ok(), "{starter:?}: {}", parsed.unwrap_err());
        }
    }
}
