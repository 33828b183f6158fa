//! extlinux.conf, which U-Boot and syslinux read: the files of nixpkgs' generic-extlinux-compatible.
//!
//! Sources: nixpkgs' `nixos/modules/system/boot/loader/generic-extlinux-compatible`; U-Boot, "Generic Distro Configuration
//! Concept" (doc/develop/distro.rst).

use std::fmt::Write as _;

use super::bootspec::System;
use super::entry;
use super::files::Files;
use super::generations::{Generation, Generations};
use super::source::Source;
use super::timeout::Timeout;
use crate::error::{Error, Kind, Result};
use crate::nix::Store;
use crate::text::printable;

/// The device tree of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceTree {
    /// The loader chooses one from the system's directory, if there is one.
    #[default]
    Directory,
    /// This one, by its path in the system's directory: `vendor/board.dtb`.
    Named(String),
    /// No device tree of the system: the firmware uses its own.
    None,
}

/// The menu, and where kernels lie. [`Options::new`] has nixpkgs' defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// The time until the default boots.
    pub timeout: Timeout,
    /// How many generations of the system profile follow the default. Other profiles get no entries.
    pub limit: usize,
    /// Whether kernels, initrds and device trees are copied. They must be if the boot directory has a
    /// filesystem of its own.
    pub copy: bool,
    /// Which device tree is handed over.
    pub device_tree: DeviceTree,
}

impl Options {
    /// nixpkgs' defaults: 5 seconds, 20 generations, copies.
    #[must_use]
    pub const fn new() -> Self {
        Self { timeout: Timeout::Seconds(5), limit: 20, copy: true, device_tree: DeviceTree::Directory }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// The files below the boot directory, which is `/boot` or the root of a filesystem of its own.
///
/// # Errors
/// [`Kind::Source`] where the device tree that is named does not exist, [`Kind::Manifest`] for text that would break a
/// line.
pub fn build(store: &Store, generations: &Generations, options: &Options) -> Result<Files> {
    let timeout = tenths(options.timeout);
    let mut writer = Writer { store, options, files: Files::new(), text: String::new() };
    let _ = write!(
        writer.text,
        "# Written by diskwright; nixos-rebuild writes it anew.\n\n\
         # nixos-N boots generation N, once it is DEFAULT.\n\
         DEFAULT nixos-default\n\n\
         MENU TITLE {}\n\
         TIMEOUT {timeout}\n",
        "-".repeat(60)
    );
    writer.entry(generations.default_system(), None)?;
    for generation in generations.system_profile(Some(options.limit)) {
        writer.entry(&generation.system, Some(generation))?;
    }
    let Writer { mut files, text, .. } = writer;
    files.bytes("/extlinux/extlinux.conf", text)?;
    Ok(files)
}

/// U-Boot takes 0 for "wait forever" and a negative number for "do not wait"; the unit is a tenth of a second.
fn tenths(timeout: Timeout) -> i64 {
    match timeout {
        Timeout::Forever => 0,
        Timeout::Seconds(0) => -10,
        Timeout::Seconds(seconds) => i64::from(seconds) * 10,
    }
}

/// The text of extlinux.conf for systems of any kind. The first one boots if nobody chooses.
///
/// # Errors
/// [`Kind::Manifest`] for a menu without entries and for text that would break a line.
pub fn menu(title: &str, entries: &[entry::Entry], timeout: Timeout) -> Result<String> {
    entry::some(entries)?;
    let first = entries.first().map(|entry| entry.id.as_str()).unwrap_or_default();
    // U-Boot 2023.01 rounds a negative number to 0 and waits forever, so the shortest time is a tenth of a second.
    let tenths = if timeout == Timeout::Seconds(0) { 1 } else { tenths(timeout) };
    let mut text = format!("DEFAULT {first}\nMENU TITLE {title}\nTIMEOUT {tenths}\n");
    for entry in entries {
        let label = if entries.len() > 1 { entry.title_with_version() } else { entry.title.clone() };
        let mut lines = vec![
            format!("LABEL {}", entry.id),
            format!("  MENU LABEL {label}"),
            format!("  LINUX {}", entry.kernel),
        ];
        // One line for all: a second one would take the place of the first.
        lines.extend((!entry.initrds.is_empty()).then(|| format!("  INITRD {}", entry.initrds.join(","))));
        lines.push(format!("  APPEND {}", entry.parameters));
        match (&entry.devicetree, &entry.devicetrees) {
            (Some(file), _) => lines.push(format!("  FDT {file}")),
            (None, Some(folder)) => lines.push(format!("  FDTDIR {folder}")),
            (None, None) => {}
        }
        text.push('\n');
        lines.iter().for_each(|line| {
            let _ = writeln!(text, "{line}");
        });
    }
    Ok(text)
}

struct Writer<'a> {
    store: &'a Store,
    options: &'a Options,
    files: Files,
    text: String,
}

impl Writer<'_> {
    /// Writes an entry: of a generation, or the default one.
    fn entry(&mut self, system: &System, generation: Option<&Generation>) -> Result<()> {
        let (label, title) = match generation {
            None => ("default".to_owned(), "Default".to_owned()),
            Some(generation) => {
                let (number, minute) = (generation.number, generation.minute());
                (number.to_string(), format!("Configuration {number} ({minute} - {})", system.version))
            }
        };
        let mut lines = vec![
            format!("LABEL nixos-{label}"),
            format!("  MENU LABEL NixOS - {title}"),
            format!("  LINUX {}", self.file(&system.kernel)?),
        ];
        if let Some(initrd) = &system.initrd {
            lines.push(format!("  INITRD {}", self.file(initrd)?));
        }
        lines.push(format!("  APPEND {}", system.command_line()));
        lines.extend(self.device_tree(system)?);
        if let Some(line) = lines.iter().find(|line| line.chars().any(char::is_control)) {
            return Err(Error::new(Kind::Manifest, "a line of extlinux.conf holds a control character")
                .found(printable(line.as_bytes())));
        }
        self.text.push('\n');
        for line in lines {
            self.text.push_str(&line);
            self.text.push('\n');
        }
        Ok(())
    }

    /// The line with the device tree.
    fn device_tree(&mut self, system: &System) -> Result<Option<String>> {
        let named = match &self.options.device_tree {
            DeviceTree::None => return Ok(None),
            DeviceTree::Directory => None,
            DeviceTree::Named(name) => Some(name),
        };
        let Some(dtbs) = &system.dtbs else {
            return match named {
                None => Ok(None),
                Some(name) => Err(Error::new(Kind::Source, "the system has no device trees")
                    .at(self.store.host_of(system.toplevel.as_ref()).join("dtbs"))
                    .expected(format!("a directory that holds {}", printable(name.as_bytes())))),
            };
        };
        if let Some(name) = named
            && dtbs.below(self.store, name)?.is_none_or(|file| !file.host.is_file())
        {
            return Err(Error::new(Kind::Source, "the device tree does not exist").at(dtbs.host.join(name)));
        }
        let path = if self.options.copy {
            let folder = format!("nixos/{}", dtbs.dashed());
            self.files.tree(self.store, &format!("/{folder}"), dtbs)?;
            format!("../{folder}")
        } else {
            dtbs.path.clone()
        };
        Ok(Some(match named {
            None => format!("  FDTDIR {path}"),
            Some(name) => format!("  FDT {path}/{name}"),
        }))
    }

    /// The path of a file as the loader sees it; copies the file if it has to be copied.
    fn file(&mut self, source: &Source) -> Result<String> {
        if !self.options.copy {
            return Ok(source.path.clone());
        }
        let name = source.dashed();
        self.files.host(format!("/nixos/{name}"), &source.host)?;
        // Relative to the folder of extlinux.conf.
        Ok(format!("../nixos/{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::Content;
    use super::super::testing::{source, system};
    use super::*;
    use std::path::Path;

    fn generations() -> Generations {
        let of =
            |number, name| Generation { profile: None, number, date: 1_717_171_500, system: system(name) };
        Generations::new(system("new"), vec![of(1, "old"), of(2, "new")]).unwrap()
    }

    fn conf(files: &Files) -> String {
        match &files.get("/extlinux/extlinux.conf").unwrap().content {
            Content::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    const KERNEL: &str = "11111111111111111111111111111111-linux-6.6.30-bzImage";
    const INITRD: &str = "22222222222222222222222222222222-initrd-linux-6.6.30-initrd";

    #[test]
    fn the_file_has_the_default_and_then_the_newest_first() {
        let files = build(&Store::new("/"), &generations(), &Options::new()).unwrap();
        let entry = |label: &str, title: &str, name: &str| {
            format!(
                "\nLABEL nixos-{label}\n  MENU LABEL NixOS - {title}\n  LINUX ../nixos/{KERNEL}\n  INITRD \
                 ../nixos/{INITRD}\n  APPEND \
                 init=/nix/store/00000000000000000000000000000000-nixos-system-{name}-24.05/init loglevel=4 quiet\n"
            )
        };
        let text = conf(&files);
        let (head, entries) = text.split_once("\n\nLABEL").unwrap();
        assert_eq!(
            head.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>(),
            ["", "DEFAULT nixos-default", "", &format!("MENU TITLE {}", "-".repeat(60)), "TIMEOUT 50"]
        );
        assert_eq!(
            format!("\nLABEL{entries}"),
            entry("default", "Default", "new")
                + &entry("2", "Configuration 2 (2024-05-31 16:05 - 24.05)", "new")
                + &entry("1", "Configuration 1 (2024-05-31 16:05 - 24.05)", "old")
        );
        let paths: Vec<_> = files.iter().map(|(path, _)| path).collect();
        assert_eq!(
            paths,
            ["/extlinux/extlinux.conf", &format!("/nixos/{KERNEL}"), &format!("/nixos/{INITRD}")]
        );
    }

    #[test]
    fn timeouts_and_limits_are_those_of_u_boot() {
        for (timeout, expected) in
            [(None, "0"), (Some(0), "-10"), (Some(7), "70"), (Some(u32::MAX), "42949672950")]
        {
            let timeout = timeout.map_or(Timeout::Forever, Timeout::Seconds);
            let options = Options { timeout, limit: 1, copy: false, ..Options::new() };
            let files = build(&Store::new("/"), &generations(), &options).unwrap();
            let text = conf(&files);
            assert!(text.contains(&format!("\nTIMEOUT {expected}\n")), "{text}");
            assert!(text.contains("\nLABEL nixos-2\n") && !text.contains("\nLABEL nixos-1\n"), "{text}");
            // Nothing is copied: the loader reads the store itself.
            assert!(
                text.contains("\n  LINUX /nix/store/11111111111111111111111111111111-linux-6.6.30/bzImage\n"),
                "{text}"
            );
            assert_eq!(files.len(), 1);
        }
    }

    /// A store with a directory of device trees.
    fn trees() -> (tempfile::TempDir, Store, Source) {
        let root = tempfile::tempdir().unwrap();
        let path = "/nix/store/44444444444444444444444444444444-device-trees";
        let folder = root.path().join(&path[1..]).join("vendor");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("board.dtb"), "dtb").unwrap();
        let store = Store::new(root.path());
        let source = Source::find(&store, Path::new(path)).unwrap();
        (root, store, source)
    }

    #[test]
    fn device_trees_are_copied_whole_or_named() {
        let (_root, store, dtbs) = trees();
        let mut top = system("a");
        top.dtbs = Some(dtbs);
        let all = Generations::single(top, 0);
        let name = "44444444444444444444444444444444-device-trees";
        for (device_tree, line) in [
            (DeviceTree::Directory, format!("  FDTDIR ../nixos/{name}\n")),
            (
                DeviceTree::Named("vendor/board.dtb".to_owned()),
                format!("  FDT ../nixos/{name}/vendor/board.dtb\n"),
            ),
        ] {
            let files = build(&store, &all, &Options { device_tree, ..Options::new() }).unwrap();
            assert_eq!(conf(&files).matches(&line).count(), 2);
            assert!(files.get(&format!("/nixos/{name}/vendor/board.dtb")).is_some());
        }
        let files =
            build(&store, &all, &Options { device_tree: DeviceTree::None, ..Options::new() }).unwrap();
        assert!(!conf(&files).contains("FDT") && files.len() == 3);

        let refused = |all: &Generations, name: &str| {
            let options = Options { device_tree: DeviceTree::Named(name.to_owned()), ..Options::new() };
            build(&store, all, &options).unwrap_err().what().to_owned()
        };
        for name in ["vendor", "vendor/other.dtb", "../x", ""] {
            assert_eq!(refused(&all, name), "the device tree does not exist", "{name}");
        }
        let bare = Generations::single(system("a"), 0);
        assert_eq!(refused(&bare, "vendor/board.dtb"), "the system has no device trees");
    }

    #[test]
    fn a_menu_for_any_system_names_its_files() {
        let entry = entry::Entry {
            id: "x-1".to_owned(),
            title: "X".to_owned(),
            kernel: "/boot/vmlinuz-1".to_owned(),
            initrds: vec!["/boot/initrd".to_owned()],
            devicetrees: Some("/boot/dtbs/1".to_owned()),
            parameters: "root=/dev/x".to_owned(),
            ..entry::Entry::default()
        };
        let lines = "LABEL x-1\n  MENU LABEL X\n  LINUX /boot/vmlinuz-1\n  INITRD /boot/initrd\n  APPEND root=/dev/x\n";
        for (timeout, tenths) in [(Timeout::Seconds(0), 1), (Timeout::Seconds(5), 50), (Timeout::Forever, 0)]
        {
            assert_eq!(
                menu("T", std::slice::from_ref(&entry), timeout).unwrap(),
                format!("DEFAULT x-1\nMENU TITLE T\nTIMEOUT {tenths}\n\n{lines}  FDTDIR /boot/dtbs/1\n")
            );
        }
        let versions =
            ["6.1", "6.12"].map(|version| entry::Entry { version: version.to_owned(), ..entry.clone() });
        let text = menu("T", &versions, Timeout::Forever).unwrap();
        assert!(text.contains("MENU LABEL X, with Linux 6.1\n") && text.contains("Linux 6.12\n"), "{text}");
        let named = entry::Entry { devicetree: Some("/a.dtb".to_owned()), ..entry.clone() };
        assert!(menu("T", &[named], Timeout::Forever).unwrap().ends_with("  FDT /a.dtb\n"));
        assert_eq!(menu("T", &[], Timeout::Forever).unwrap_err().what(), "there is nothing to boot");
        let evil = entry::Entry { title: "X\nLABEL evil".to_owned(), ..entry };
        assert!(menu("T", &[evil], Timeout::Forever).is_err());
    }

    #[test]
    fn a_line_stays_one_line() {
        let mut top = system("a");
        top.kernel_params = vec!["a\nLABEL evil".to_owned()];
        let error = build(&Store::new("/"), &Generations::single(top, 0), &Options::new()).unwrap_err();
        assert_eq!(error.what(), "a line of extlinux.conf holds a control character");
        // A system whose kernel is a store object itself.
        let mut top = system("a");
        (top.kernel, top.initrd) = (source("33333333333333333333333333333333-kernel"), None);
        let files = build(&Store::new("/"), &Generations::single(top, 0), &Options::new()).unwrap();
        assert!(
            conf(&files).contains("  LINUX ../nixos/33333333333333333333333333333333-kernel\n  APPEND init=")
        );
    }
}
