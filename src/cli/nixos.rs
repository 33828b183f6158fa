//! `diskwright nixos`: a NixOS system from flags. Each flag is a key of the `[nixos]` section of a manifest.

use std::path::PathBuf;

use super::job::{Common, Container, Target};
use crate::container::Settings;
use crate::disk::Form;
use crate::error::{Error, Kind, Result, Subject};
use crate::front::nixos::{Context, Section, describe};
use crate::front::{Dates, Description, Locator, seed};
use crate::identity::Seed;
use crate::key::KeyPath;
use crate::option::Spelling;
use crate::progress::Progress;
use crate::values::{DiskId, Guid};

/// Arguments of `nixos`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  diskwright nixos --system ./result --layout efi -o nixos.qcow2
  diskwright nixos --system /nix/store/…-nixos-system-… \\
      --closure ./closure-info --layout legacy -o nixos.img
  diskwright nixos --system ./result --layout hybrid -o nixos.img \\
      --contents source=./ssh,target=/etc/ssh,mode=0600

Every flag is a key of the [nixos] section of a manifest, with dashes for underscores.")]
pub(super) struct Args {
    #[command(flatten)]
    section: Section,
    /// Seed of all UUIDs and serial numbers that no other option gives; itself a UUID; default derived from the other
    /// options
    #[arg(long, value_name = "UUID")]
    seed: Option<Guid>,
    /// GUID of the disk, or of an MBR its signature; default that of nixpkgs, or derived from the seed
    #[arg(long, value_name = "ID")]
    guid: Option<DiskId>,
    /// Time of everything that the writer makes, in seconds since 1970; default SOURCE_DATE_EPOCH, or else 0
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
    /// Where the image goes; `-` is standard output
    #[arg(short, long, value_name = "OUT", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    #[command(flatten)]
    verify: super::job::Verify,
    #[command(flatten)]
    common: Common,
}

impl Args {
    /// The flags as the manifest with the same meaning would say it.
    fn said(&self) -> serde_json::Value {
        let mut disk = serde_json::Map::new();
        for (key, value) in [
            ("seed", self.seed.map(|seed| seed.to_string().into())),
            ("guid", self.guid.map(|guid| guid.to_string().into())),
            ("time", self.time.map(serde_json::Value::from)),
        ] {
            disk.extend(value.map(|value| (key.to_owned(), value)));
        }
        serde_json::json!({ "version": 1, "disk": disk, "nixos": self.section })
    }

    fn describe(&self, progress: &Progress) -> Result<Description> {
        let context = Context {
            seed: self.seed.map_or_else(|| seed::derived(&self.said()), |seed| Seed::new(seed.0)),
            id: self.guid,
            dates: Dates::new(self.time, super::job::epoch()?),
            folder: PathBuf::from("."),
            settings: Settings::default(),
            progress: progress.clone(),
        };
        let mut description = describe(&self.section, &context).map_err(in_flags)?;
        let in_flags = |description: Description| {
            let locator = Box::new(InFlags(description.locator));
            Description { locator, ..description }
        };
        description.boot = description.boot.take().map(|boot| Box::new(in_flags(*boot)));
        Ok(in_flags(description))
    }
}

/// Turns keys into the flags that stand for them.
pub(super) fn in_flags(error: Error) -> Error {
    let found = error.find_keys(|error, key| match key.flag() {
        Some(flag) => error.at_flag(flag),
        None => error,
    });
    found.spelled(spell)
}

fn spell(key: &str) -> Option<Spelling> {
    super::spelling("nixos", key)
}

/// Turns the keys that another locator finds into flags.
#[derive(Debug)]
struct InFlags(Box<dyn Locator>);

impl Locator for InFlags {
    fn locate(&self, error: Error) -> Error {
        in_flags(self.0.locate(error))
    }

    fn describe(&self, subject: Subject) -> String {
        let flag = || self.0.key(subject).flag().unwrap_or_else(|| self.0.describe(subject));
        self.name(subject).unwrap_or_else(flag)
    }

    fn name(&self, subject: Subject) -> Option<String> {
        self.0.name(subject)
    }

    fn key(&self, subject: Subject) -> KeyPath {
        self.0.key(subject)
    }

    fn spell(&self, key: &str) -> Option<Spelling> {
        spell(key)
    }
}

/// The disk that the arguments describe.
fn described(args: &Args, progress: &Progress) -> Result<Description> {
    if args.section.system.is_empty() {
        return Err(Error::new(Kind::Usage, "there is no system").hint("add --system TOPLEVEL"));
    }
    args.describe(progress)
}

/// The disk that the arguments describe, and what a server shows of it.
pub(super) fn served(args: &Args, outer: &Container, progress: &Progress) -> Result<(Description, Form)> {
    let description = described(args, progress)?;
    let form = args.common.served(&description, args.output.as_slice(), outer)?;
    Ok((description, form))
}

/// Runs `nixos`.
pub(super) fn run(args: &Args) -> Result<()> {
    let mut work = args.common.work();
    let target = args.output.clone().map(Target::of);
    args.common.check(target.as_slice())?;
    let mut description = described(args, &work.progress)?;
    args.common.fit(&mut description, target.as_slice())?;
    work.verify = args.verify.expected(&description)?;
    args.common.run(&description, None, target.as_slice(), &work)
}
