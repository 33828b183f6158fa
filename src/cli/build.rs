//! `diskwright build`: the main job.

use std::path::{Path, PathBuf};

use super::job::{Common, Target};
use crate::container::same_file;
use crate::disk::Work;
use crate::error::{Error, Kind, Result};
use crate::front::Description;
use crate::front::manifest::Manifest;

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
#[command(after_help = concat!(
    "Examples:
  diskwright build disk.toml                     writes disk.img here
  diskwright build disk.toml -o /srv/vm.qcow2    writes it there
  diskwright build disk.toml --dry-run           shows what would be built
  diskwright build disk.toml --dry-run --map     shows where every byte would go
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
    /// Where the image goes; `-` is standard output [default: the manifest's name with the suffix of the format, in the
    /// current directory]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    #[command(flatten)]
    verify: super::job::Verify,
    #[command(flatten)]
    common: Common,
}

/// The manifest at `path`; `-` is standard input.
pub(super) fn load(path: &Path) -> Result<Manifest> {
    if path.as_os_str() == "-" {
        Manifest::read(std::io::stdin().lock(), Path::new("<stdin>"), Path::new("."))
    } else {
        super::check_path(path)?;
        Manifest::load(path)
    }
}

/// The disk that the arguments describe.
pub(super) fn described(args: &Args, work: &Work) -> Result<Description> {
    load(&args.manifest)?.describe(super::job::epoch()?, work)
}

/// Runs `build`.
pub(super) fn run(args: Args) -> Result<()> {
    let mut work = args.common.work();
    let stdin = args.manifest.as_os_str() == "-";
    let target = args.output.map(Target::of);
    args.common.check(target.as_ref())?;
    let manifest = load(&args.manifest)?;
    let folder = manifest.folder().to_owned();
    // What has to be built to find sizes lies beside the output.
    if let Some(Target::File(path)) = &target {
        work.spool = path.parent().filter(|folder| folder.is_dir()).map(Path::to_owned);
    }
    let description = manifest.describe(super::job::epoch()?, &work)?;
    work.verify = args.verify.expected(&description)?;
    let target = match target {
        Some(target) => Some(target),
        None if args.common.dry_run => None,
        None if stdin => {
            return Err(Error::new(Kind::Usage, "the output has no name").hint("add -o OUT"));
        }
        None => {
            let format = args.common.container.format(None, description.settings.format)?;
            let name = Path::new(args.manifest.file_name().unwrap_or_default());
            Some(Target::File(name.with_extension(format.suffix())))
        }
    };
    if let Some(Target::File(path)) = &target
        && same_file(path, &args.manifest)
    {
        return Err(Error::new(Kind::Usage, "the output would replace the manifest").at(path));
    }
    args.common.run(&description, Some(&folder), target.as_ref(), &work)
}
