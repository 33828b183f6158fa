//! The parts of a helper VM: its kernel, the kernel's modules, and the programs of the work.

use std::path::{Path, PathBuf};

use super::elf;
use super::modules::Modules;
use super::options::Options;
use crate::error::{Error, Kind, Result};

/// What the work of a machine needs, with the packages that have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    /// The module without which the kernel is of no use.
    pub(crate) module: &'static str,
    /// Other modules.
    pub(crate) modules: &'static [&'static str],
    /// Programs.
    pub(crate) programs: &'static [&'static str],
    /// Folders with data of the programs, from the one above theirs.
    pub(crate) data: &'static [&'static str],
    pub(crate) modules_from: &'static str,
    pub(crate) programs_from: &'static str,
}

/// The packages with a kernel.
const KERNEL_FROM: &str =
    "packages have it: linux-image-cloud-amd64 of Debian, linux of nixpkgs (config.system.build.kernel)";

/// Folders with programs, below the root of a system or a store path. A system of NixOS has its programs below `sw`.
const PROGRAMS: [&str; 6] = ["", "bin", "sbin", "usr/sbin", "usr/bin", "sw/bin"];
/// Folders of modules, one for each kernel, from the same places. `kernel-modules` is that of a system of NixOS.
const MODULES: [&str; 4] = ["lib/modules", "usr/lib/modules", "kernel-modules/lib/modules", ""];
/// Kernels, from the same places: of NixOS, of a store path of nixpkgs.
const KERNELS: [&str; 3] = ["kernel", "bzImage", "Image"];

/// The parts of a machine.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) kernel: PathBuf,
    pub(super) modules: Modules,
    /// The programs, in the order of the need.
    pub(super) programs: Vec<PathBuf>,
    /// The root of the system that the programs are of.
    pub(super) root: PathBuf,
    /// Folders with data of the programs.
    pub(super) data: Vec<PathBuf>,
}

/// What is missing.
fn missing(what: String, key: &'static str, looked: &[PathBuf], hint: &str) -> Error {
    let error = Error::new(Kind::Source, what).about(key).hint(hint);
    let looked: Vec<String> = looked.iter().map(crate::text::printable_path).collect();
    match looked.is_empty() {
        true => error,
        false => error.found(format!("none in {}", looked.join(", "))),
    }
}

impl Parts {
    /// Finds all parts: those that are given, or else those of the contents, or else those of this machine.
    ///
    /// # Errors
    /// [`Kind::Source`] for the first that is missing, with the package that has it.
    pub(super) fn find(options: &Options, need: &Need) -> Result<Self> {
        let mut places = options.contents.clone();
        places.push(PathBuf::from("/"));
        let given = |path: &Option<String>| path.as_ref().map(|path| vec![PathBuf::from(path)]);
        let (modules, module_places) = match given(&options.modules) {
            Some(own) => (modules(&own, need.module), own),
            None => (modules(&places, need.module), places.clone()),
        };
        let modules = modules.ok_or_else(|| {
            let what = format!("a helper VM needs modules of a kernel, {} among them", need.module);
            missing(what, "vm_modules", &module_places, need.modules_from)
        })?;
        let release = modules.release();
        let kernel = match given(&options.kernel) {
            Some(own) => own.into_iter().find(|path| path.is_file()),
            None => kernel(&places, &module_places, &release),
        };
        let kernel = kernel.ok_or_else(|| {
            let what = format!("a helper VM needs the kernel of its modules, {release}");
            let looked = given(&options.kernel).unwrap_or_else(|| places.clone());
            missing(what, "vm_kernel", &looked, KERNEL_FROM)
        })?;
        if let Some(other) = version(&kernel).filter(|other| *other != release) {
            return Err(Error::new(Kind::Source, "the kernel of the helper VM is not that of its modules")
                .at(&kernel)
                .about("vm_kernel")
                .expected(release)
                .found(other));
        }
        let looked = given(&options.tools);
        let in_path = || {
            let path = std::env::var_os("PATH").filter(|_| looked.is_none());
            path.map(|path| std::env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default()
        };
        let folders: Vec<PathBuf> = looked.clone().unwrap_or_else(|| places.clone());
        let tools =
            folders.iter().cloned().chain(in_path()).find_map(|place| programs(&place, need.programs));
        let (root, programs) = tools.ok_or_else(|| {
            let what = format!("a helper VM needs the programs {}", need.programs.join(" and "));
            missing(what, "vm_tools", &folders, need.programs_from)
        })?;
        let data = need.data.iter().map(|data| root.join(data)).filter(|data| data.is_dir()).collect();
        Ok(Self { kernel, modules, programs, root, data })
    }

    /// A program of the work, with all that it loads.
    pub(super) fn load(&self, program: &Path) -> Result<elf::Loaded> {
        elf::load(program, &self.root)
    }
}

/// The modules in one of some places that have `module`; of several the one with the last name.
fn modules(places: &[PathBuf], module: &str) -> Option<Modules> {
    places.iter().find_map(|place| {
        let own = Modules::open(place).into_iter();
        let below = MODULES.iter().flat_map(|folder| {
            let mut names: Vec<PathBuf> = std::fs::read_dir(place.join(folder))
                .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
                .unwrap_or_default();
            names.sort();
            names.into_iter().rev().filter_map(|folder| Modules::open(&folder))
        });
        own.chain(below).find(|modules| modules.has(module))
    })
}

/// The kernel of a release.
fn kernel(places: &[PathBuf], modules: &[PathBuf], release: &str) -> Option<PathBuf> {
    let named = format!("vmlinuz-{release}");
    let ours = |place: &PathBuf| {
        let exact = [format!("boot/{named}"), named.clone(), format!("lib/modules/{release}/vmlinuz")];
        let exact = exact.into_iter().map(|file| place.join(file)).find(|path| path.is_file());
        let other = || {
            let files = KERNELS.iter().map(|file| place.join(file));
            files
                .filter(|path| path.is_file())
                .find(|path| version(path).is_some_and(|found| found == release))
        };
        exact.or_else(other)
    };
    modules.iter().chain(places).find_map(ours)
}

/// The release that a kernel of x86 says it is (linux/Documentation/arch/x86/boot.rst, `kernel_version`); `None` of others.
fn version(kernel: &Path) -> Option<String> {
    use std::io::Read;
    // The head with the text is in the first sectors, which are no more than 64.
    let mut head = Vec::new();
    std::fs::File::open(kernel).ok()?.take(64 << 10).read_to_end(&mut head).ok()?;
    if head.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let offset = u16::from_le_bytes(head.get(0x20e..0x210)?.try_into().ok()?);
    let text = head.get(usize::from(offset) + 0x200..)?;
    let text = text.get(..text.iter().position(|byte| matches!(byte, 0 | b' '))?)?;
    String::from_utf8(text.to_vec()).ok()
}

/// The programs in a place, if one of its folders has all of them, with the root that the folder is below.
fn programs(place: &Path, names: &[&str]) -> Option<(PathBuf, Vec<PathBuf>)> {
    PROGRAMS.iter().find_map(|folder| {
        let folder = place.join(folder);
        let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
        let files: Vec<PathBuf> = files
            .into_iter()
            .filter(|file| file.is_file())
            .filter_map(|file| file.canonicalize().ok())
            .collect();
        if files.len() < names.len() {
            return None;
        }
        // What leads to a store path has its libraries and data there.
        let mut root = files.first()?.parent()?;
        while matches!(root.file_name()?.to_str()?, "bin" | "sbin" | "usr" | "sw") {
            root = root.parent()?;
            if root.file_name().is_none() {
                break;
            }
        }
        Some((root.to_owned(), files))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEED: Need = Need {
        module: "zfs",
        modules: &[],
        programs: &["zpool", "zfs"],
        data: &["usr/share/zfs"],
        modules_from: "zfs-dkms",
        programs_from: "zfsutils-linux",
    };

    /// A kernel that says its release, as those of x86 do.
    fn kernel_of(release: &str) -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        bytes[0x300..0x300 + release.len()].copy_from_slice(release.as_bytes());
        bytes[0x300 + release.len()] = b' ';
        bytes
    }

    #[test]
    fn what_is_missing_is_told_with_its_package_and_what_is_there_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let text = |path: PathBuf| Some(path.to_string_lossy().into_owned());
        let mut options = Options {
            modules: text(root.clone()),
            kernel: text(root.join("boot/vmlinuz-6.1")),
            tools: text(root.clone()),
            ..Options::default()
        };
        let said = |options: &Options| Parts::find(options, &NEED).unwrap_err().to_string();
        assert!(said(&options).contains("zfs-dkms"), "{}", said(&options));
        let modules = root.join("lib/modules/6.1");
        std::fs::create_dir_all(&modules).unwrap();
        std::fs::write(modules.join("modules.dep"), "extra/zfs.ko:\n").unwrap();
        assert!(said(&options).contains("linux-image-cloud-amd64 of Debian"), "{}", said(&options));
        std::fs::create_dir_all(root.join("boot")).unwrap();
        std::fs::write(root.join("boot/vmlinuz-6.1"), kernel_of("6.2")).unwrap();
        assert!(said(&options).contains("expected: 6.1\n  found: 6.2"), "{}", said(&options));
        std::fs::write(root.join("boot/vmlinuz-6.1"), kernel_of("6.1")).unwrap();
        assert!(said(&options).contains("zfsutils-linux"), "{}", said(&options));
        std::fs::create_dir_all(root.join("usr/sbin")).unwrap();
        std::fs::create_dir_all(root.join("usr/share/zfs")).unwrap();
        for name in ["zpool", "zfs"] {
            std::fs::write(root.join("usr/sbin").join(name), "").unwrap();
        }
        let parts = Parts::find(&options, &NEED).unwrap();
        assert_eq!((parts.root, parts.data), (root.clone(), vec![root.join("usr/share/zfs")]));
        // The contents have all of it too.
        options = Options { contents: vec![root.clone()], ..Options::default() };
        let parts = Parts::find(&options, &NEED).unwrap();
        assert_eq!(
            (parts.kernel, parts.modules.release()),
            (root.join("boot/vmlinuz-6.1"), "6.1".to_owned())
        );
    }
}
