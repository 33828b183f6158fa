//! `diskwright build`: the main job.

use std::path::{Path, PathBuf};

use super::job::{Common, Container, Goal, Target};
use super::standard::standard_input;
use crate::container::same_file;
use crate::disk::{Form, Work};
use crate::error::{Error, Kind, Result};
use crate::front::Description;
use crate::front::manifest::Manifest;
use crate::front::output::Output;
use crate::progress::Progress;

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
#[command(after_help = concat!(
    "Examples:
  diskwright build disk.toml                     writes disk.img here
  diskwright build disk.toml -o /srv/vm.qcow2    writes it there
  diskwright build disk.toml --dry-run           shows what would be built
  diskwright build disk.toml --dry-run --map     shows where every byte would go
  diskwright build disk.toml -o vm.qcow2 -o vm.raw.zst   writes both
  diskwright build disk.toml -o - | ssh host 'cat > /dev/vdb'

A whole manifest:

",
    include_str!("starters/esp+root.toml"),
    "
Partition types: esp, xbootldr, linux, swap, home, srv, var, tmp, bios-boot, root and usr (with [disk] architecture, or \
as root-x86-64), a GUID, or the byte of an MBR as 0x83. Filesystems: swap, and those of `diskwright mkfs`. \
`diskwright init` writes a manifest to start from, `diskwright man` has the page diskwright.toml(5) with every key, and `diskwright schema` is for editors.

The image appears under its name when it is complete; until then, and after any failure, an older one stays as it is. \
SOURCE_DATE_EPOCH gives the time where the manifest has none, and no file gets a later one."
))]
pub(super) struct Args {
    /// The manifest, TOML or JSON; `-` reads it from standard input, and paths in it begin at the current directory
    #[arg(value_name = "MANIFEST")]
    manifest: PathBuf,
    /// Where the image goes; `-` is standard output. Given several times, all are made from one read and appear together. A
    /// folder is for the outputs that the manifest names [default: those, or else the manifest's name with the suffix of the
    /// format, in the current directory]
    #[arg(short, long, value_name = "OUT")]
    output: Vec<PathBuf>,
    #[command(flatten)]
    verify: super::job::Verify,
    #[command(flatten)]
    common: Common,
}

/// The manifest at `path`; `-` is standard input, until `progress` says to stop.
pub(super) fn load(path: &Path, progress: &Progress) -> Result<Manifest> {
    if path.as_os_str() == "-" {
        let read = Manifest::read(standard_input(progress)?, Path::new("<stdin>"), Path::new("."));
        // If a signal ended the read, the signal is the cause.
        progress.check().and(read)
    } else {
        super::check_path(path)?;
        Manifest::load(path)
    }
}

/// The disk that the arguments describe, and what a server shows of it.
pub(super) fn served(args: &Args, outer: &Container, work: &Work) -> Result<(Description, Form)> {
    let description = load(&args.manifest, &work.progress)?.describe(super::job::epoch()?, work)?;
    let form = args.common.served(&description, &args.output, outer)?;
    Ok((description, form))
}

/// Runs `build`.
pub(super) fn run(args: &Args) -> Result<()> {
    let mut work = args.common.work();
    let mut targets: Vec<Target> = args.output.iter().cloned().map(Target::of).collect();
    args.common.check(&targets)?;
    let manifest = load(&args.manifest, &work.progress)?;
    let folder = manifest.folder().to_owned();
    // What has to be built to find sizes lies beside the output.
    if let Some(Target::File(path)) = targets.first() {
        work.spool = path.parent().filter(|folder| folder.is_dir()).map(Path::to_owned);
    }
    let mut description = manifest.describe(super::job::epoch()?, &work)?;
    work.verify = args.verify.expected(&description)?;
    if let Some(outputs) = named(args, &description)? {
        args.common.leave_outputs()?;
        outputs.iter().try_for_each(|output| spare(&output.path, &args.manifest))?;
        return args.common.write(&description, Some(&folder), &outputs, Goal::Files, &work);
    }
    if targets.is_empty() && !args.common.dry_run {
        if args.manifest.as_os_str() == "-" {
            return Err(Error::new(Kind::Usage, "the output has no name").hint("add -o OUT"));
        }
        let format = args.common.container.format(None, description.settings.format)?;
        let name = Path::new(args.manifest.file_name().unwrap_or_default());
        targets.push(Target::File(name.with_extension(format.suffix())));
    }
    for target in &targets {
        if let Target::File(path) = target {
            spare(path, &args.manifest)?;
        }
    }
    args.common.fit(&mut description, &targets)?;
    args.common.run(&description, Some(&folder), &targets, &work)
}

/// The outputs that the manifest names, unless `-o` names others: it may name the folder that they go to.
fn named(args: &Args, description: &Description) -> Result<Option<Vec<Output>>> {
    let folder = match args.output.as_slice() {
        _ if description.outputs.is_empty() => return Ok(None),
        [] => PathBuf::new(),
        [folder] if folder.is_dir() => folder.clone(),
        [folder] if folder.as_os_str().as_encoded_bytes().ends_with(b"/") => {
            return Err(Error::new(Kind::Output, "there is no such folder").at(folder));
        }
        _ => return Ok(None),
    };
    let into = |output: &Output| Output { path: folder.join(&output.path), ..output.clone() };
    Ok(Some(description.outputs.iter().map(into).collect()))
}

/// Refuses an output that would replace the manifest.
fn spare(path: &Path, manifest: &Path) -> Result<()> {
    match same_file(path, manifest) {
        true => Err(Error::new(Kind::Usage, "the output would replace the manifest").at(path)),
        false => Ok(()),
    }
}
