//! The systems under test, built once by Nix and kept, and the program that images them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::program::diskwright;
use crate::tools::{build_folder, must};
use crate::{judges, nix as of_nix};

/// What the systems are made of.
const PACKAGES: [&str; 30] = [
    "busybox-static",
    "coreutils",
    "util-linux",
    "fdisk",
    "e2fsprogs",
    "grub-common",
    "grub-pc-bin",
    "grub-efi-amd64-bin",
    "systemd-boot-efi",
    "libc6",
    "libacl1",
    "libattr1",
    "libgmp10",
    "libselinux1",
    "libpcre2-8-0",
    "libfdisk1",
    "libsmartcols1",
    "libblkid1",
    "libuuid1",
    "libmount1",
    "libcap2",
    "libtinfo6",
    "libreadline8",
    "libext2fs2",
    "libcom-err2",
    "liblzma5",
    "libdevmapper1.02.1",
    "libudev1",
    "libcap-ng0",
    "libcrypt1",
];

/// The folder of Debian's GRUB (packages grub-pc-bin and grub-efi-amd64-bin) with its program (grub-common).
/// A system's own GRUB only runs if its store is the host's, as in the test in the sandbox.
pub fn grub() -> &'static str {
    for platform in ["i386-pc/boot.img", "x86_64-efi/moddep.lst"] {
        judges::file(&format!("/usr/lib/grub/{platform}"));
    }
    text(judges::file("/usr/lib/grub"))
}

/// GRUB's program that makes its core.
pub fn grub_mkimage() -> &'static str {
    text(judges::find("grub-mkimage"))
}

/// systemd-boot as Debian has it, and its option.
pub fn systemd_boot() -> [&'static str; 2] {
    ["--systemd-boot", text(judges::file("/usr/lib/systemd/boot/efi/systemd-bootx64.efi"))]
}

/// A path for a command line. It is kept until the tests end.
fn text(path: PathBuf) -> &'static str {
    path.into_os_string().into_string().unwrap().leak()
}

/// A folder that later runs use again: packages and Nix's builds of them do not change.
fn cache(name: &str) -> PathBuf {
    let folder = build_folder().join("tmp/nixos").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The folder below which the systems' `/nix/store` lies.
pub fn store_root() -> PathBuf {
    cache("root")
}

/// A command of Nix on the store of the systems.
pub fn nix(name: &str) -> Command {
    nix_at(name, &store_root())
}

/// A command of Nix on the store below `root`.
pub fn nix_at(name: &str, root: &Path) -> Command {
    of_nix::nix(name, root, &cache("home"))
}

/// The evaluation of `what` with `config`, the configuration of a system with the file `module` of nix/ and these modules.
pub fn evaluation(module: &str, modules: &str, what: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let expression = format!(
        "let config = (import {} {{ configuration.imports = [ {} {modules} ]; }}).config; in {what}",
        root.join("nix/tests/nixpkgs/nixos").display(),
        root.join("nix").join(module).display()
    );
    let mut eval = nix("nix-instantiate");
    eval.args(["--eval", "--strict", "--json", "-E", &expression]);
    eval
}

/// The results of Nix builds.
#[derive(Debug)]
pub struct Systems {
    /// The system that boots, with a specialisation.
    pub system: String,
    /// An earlier one.
    pub earlier: String,
    /// A channel.
    pub channel: String,
}

/// The expression and its arguments, for `nix-build`.
pub fn build(attribute: &str, link: &str, more: &[(&str, &Path)], text: &[(&str, &str)]) -> PathBuf {
    let debs = cache("debs");
    of_nix::packages(&debs, &PACKAGES);
    let tools = cache("tools");
    if !tools.join("busybox").exists() {
        of_nix::keep(&judges::binary("busybox").0, &tools.join("busybox"));
    }
    let expression = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../nix/tests/system.nix");
    let mut build = nix("nix-build");
    build.arg(expression).args(["-A", attribute]).current_dir(cache("roots"));
    match link {
        "" => build.arg("--no-out-link"),
        "--check" => build.args(["--no-out-link", "--check"]),
        link => build.args(["-o", link]),
    };
    for (name, value) in [("debs", debs.as_path()), ("tools", tools.as_path())].iter().chain(more) {
        build.args(["--argstr", name]).arg(value);
    }
    for (name, value) in text {
        build.args(["--argstr", name, value]);
    }
    PathBuf::from(must(&mut build).text().trim())
}

/// The systems; Nix builds them if they do not exist yet. Tests of one run build once; those of other
/// processes wait for Nix's own locks.
pub fn systems() -> &'static Systems {
    static SYSTEMS: OnceLock<Systems> = OnceLock::new();
    SYSTEMS.get_or_init(|| {
        let all = build("all", "all", &[], &[]);
        let link = |name: &str| {
            let link = host(all.to_str().unwrap()).join(name);
            std::fs::read_link(link).unwrap().to_str().unwrap().to_owned()
        };
        Systems { system: link("system"), earlier: link("earlier"), channel: link("channel") }
    })
}

/// Where a path of the store lies on this host.
pub fn host(path: &str) -> PathBuf {
    store_root().join(path.trim_start_matches('/'))
}

/// The output of `nix-store --dump-db` for everything that `roots` need, in a file of `folder`.
pub fn registration(folder: &Path, roots: &[&str]) -> PathBuf {
    let list = must(nix("nix-store").arg("-qR").args(roots)).text();
    let dump = must(nix("nix-store").arg("--dump-db").args(list.lines())).out;
    let file = folder.join("registration");
    std::fs::write(&file, dump).unwrap();
    file
}

/// All layouts.
pub const LAYOUTS: [&str; 7] =
    ["legacy", "legacy+boot", "legacy+gpt", "efi", "efixbootldr", "hybrid", "none"];

/// `diskwright nixos` for the main system and the earlier one; the size of the disk is the caller's.
pub fn nixos(closure: &Path, layout: &str, out: &Path) -> Command {
    let mut command = bare(closure, layout, out);
    if ["legacy", "legacy+boot", "legacy+gpt", "hybrid"].contains(&layout) {
        command.args(["--grub", grub(), "--grub-mkimage", grub_mkimage()]);
    }
    command
}

/// The same without a boot loader of its own.
pub fn bare(closure: &Path, layout: &str, out: &Path) -> Command {
    let systems = systems();
    let mut command = diskwright();
    command.args(["nixos", "--system", &systems.system, "--generations", &systems.earlier]);
    command.arg("--store-root").arg(store_root()).arg("--closure").arg(closure);
    command.args(["--layout", layout, "--jobs", "2"]).arg("-o").arg(out);
    command
}

/// A small disk for the kernels and initrds of all generations: they share one of each, 20 MiB together.
pub fn small(layout: &str) -> &'static [&'static str] {
    match layout {
        "efixbootldr" => &["--additional-space", "48MiB", "--boot-size", "160MiB"],
        "legacy+boot" | "efi" | "hybrid" => &["--additional-space", "48MiB", "--boot-size", "64MiB"],
        _ => &["--additional-space", "48MiB"],
    }
}
