//! systemd-boot: the trees of the ESP and, where there is one, of the XBOOTLDR partition, as `bootctl install` and the
//! installer of nixpkgs leave them.
//!
//! Sources: Boot Loader Specification (UAPI group), loader.conf(5), bootctl(1), nixpkgs'
//! `nixos/modules/system/boot/loader/systemd-boot`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::architecture::Architecture;
use super::bootspec::System;
use super::files::{Content, Files};
use super::generations::{Generation, Generations};
use super::pe;
use super::store::Source;
use crate::error::{Error, Kind, Result, Warning};
use crate::text::printable;

/// The folder of kernels and initrds, which nixpkgs has to itself.
const NIXOS: &str = "/EFI/nixos";
/// The folder of entries.
const ENTRIES: &str = "/loader/entries";
/// The longest name of an entry (Boot Loader Specification, "Type #1").
const LONGEST_NAME: usize = 255;

/// How entries are named, and with that how their lines are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// `nixos-SHA256.conf`: by what is in it, as the installer does since 2026.
    #[default]
    Hash,
    /// `nixos-generation-N.conf`: by generation, as it did before.
    Generation,
}

/// How long the menu is shown (loader.conf(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// So many seconds; 0 shows none unless a key is held.
    Seconds(u32),
    /// Until somebody chooses.
    Force,
    /// Not at all, unless a key is held.
    Hidden,
    /// Never.
    Disabled,
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => write!(f, "{seconds}"),
            Self::Force => f.write_str("menu-force"),
            Self::Hidden => f.write_str("menu-hidden"),
            Self::Disabled => f.write_str("menu-disabled"),
        }
    }
}

/// The resolution of the menu (loader.conf(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsoleMode {
    /// What the firmware left.
    #[default]
    Keep,
    /// What systemd-boot thinks fit.
    Auto,
    /// The last mode there is.
    Max,
    /// The mode of this number: 0 is 80 by 25, 1 is 80 by 50, 2 the first of the firmware's own.
    Number(u8),
}

impl fmt::Display for ConsoleMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("keep"),
            Self::Auto => f.write_str("auto"),
            Self::Max => f.write_str("max"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// What is installed and how the menu behaves. [`Options::new`] has nixpkgs' defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// The processor of the machine.
    pub architecture: Architecture,
    /// systemd-boot's EFI file on the host; see [`loader`].
    pub loader: PathBuf,
    /// What titles begin with.
    pub distro: String,
    /// How entries are named.
    pub naming: Naming,
    /// The most generations of a profile that get entries: at least 1; `None` for all.
    pub limit: Option<usize>,
    /// How long the menu is shown.
    pub timeout: Timeout,
    /// Whether the menu lets one edit the kernel's parameters.
    pub editor: bool,
    /// The resolution of the menu.
    pub console_mode: ConsoleMode,
    /// Whether Windows under BitLocker is started by a reboot.
    pub reboot_for_bitlocker: bool,
    /// How often an entry may fail to boot before it counts as bad; `None` does not count. Needs systemd-boot 260.
    pub tries: Option<u32>,
    /// Further files on the boot partition, by absolute path: `boot.loader.systemd-boot.extraFiles`.
    pub extra_files: BTreeMap<String, Content>,
}

impl Options {
    /// nixpkgs' defaults: a menu of 5 seconds with its editor, all generations, the console as the firmware left it.
    #[must_use]
    pub fn new(architecture: Architecture, loader: impl Into<PathBuf>) -> Self {
        Self {
            architecture,
            loader: loader.into(),
            distro: "NixOS".to_owned(),
            naming: Naming::default(),
            limit: None,
            timeout: Timeout::Seconds(5),
            editor: true,
            console_mode: ConsoleMode::default(),
            reboot_for_bitlocker: false,
            tries: None,
            extra_files: BTreeMap::new(),
        }
    }
}

/// The files of systemd-boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trees {
    /// What goes on the EFI system partition.
    pub esp: Files,
    /// What goes on the XBOOTLDR partition, where there is one: kernels and entries.
    pub xbootldr: Option<Files>,
    /// What was asked for and could not be kept.
    pub warnings: Vec<Warning>,
}

/// The EFI file of systemd-boot for `architecture` in `folder`, which is `lib/systemd/boot/efi` of systemd: the signed
/// one where there is one, as bootctl prefers it.
///
/// # Errors
/// [`Kind::Source`] where there is none, with the package that has it.
pub fn loader(folder: &Path, architecture: Architecture) -> Result<PathBuf> {
    let name = format!("systemd-boot{}.efi", architecture.efi());
    let candidates = [folder.join(format!("{name}.signed")), folder.join(&name)];
    candidates.into_iter().find(|file| file.is_file()).ok_or_else(|| {
        Error::new(Kind::Source, "systemd-boot is not there")
            .at(folder.join(&name))
            .hint("it is in nixpkgs' systemd (lib/systemd/boot/efi) and in Debian's systemd-boot-efi")
    })
}

/// The files of systemd-boot for a menu of `generations`: kernels and entries on the ESP, or, with `xbootldr`, on the
/// XBOOTLDR partition.
///
/// # Errors
/// [`Kind::Source`] for a loader that is no EFI program for the processor, [`Kind::Manifest`] for a menu without entries,
/// a limit of 0, and names or lines that the Boot Loader Specification forbids.
pub fn build(generations: &Generations, options: &Options, xbootldr: bool) -> Result<Trees> {
    pe::check_program(&options.loader, options.architecture)?;
    let mut writer = Writer { generations, options, boot: Files::new(), default: None, warnings: Vec::new() };
    for folder in ["/EFI", "/EFI/Linux", NIXOS, "/EFI/nixos/.extra-files", "/loader", ENTRIES] {
        writer.boot.directory(folder)?;
    }
    // What kinds of entries are found here: those of the Boot Loader Specification.
    writer.boot.bytes("/loader/entries.srel", "type1\n")?;
    writer.entries()?;
    let loader_conf = writer.loader_conf();
    let Writer { mut boot, warnings, .. } = writer;
    for (path, content) in &options.extra_files {
        boot.add(path, content.clone(), 0o644)?;
        // The installer finds here what it has to remove when it is no longer asked for.
        boot.bytes(format!("{NIXOS}/.extra-files{path}"), "")?;
    }

    let mut esp = Files::new();
    for folder in ["/EFI", "/EFI/BOOT", "/EFI/systemd", "/loader"] {
        esp.directory(folder)?;
    }
    esp.host(format!("/EFI/systemd/systemd-boot{}.efi", options.architecture.efi()), &options.loader)?;
    esp.host(format!("/EFI/BOOT/{}", options.architecture.removable()), &options.loader)?;
    esp.bytes("/loader/loader.conf", loader_conf)?;
    if xbootldr {
        return Ok(Trees { esp, xbootldr: Some(boot), warnings });
    }
    esp.merge("", boot)?;
    Ok(Trees { esp, xbootldr: None, warnings })
}

/// The files of the boot partition while they are written.
struct Writer<'a> {
    generations: &'a Generations,
    options: &'a Options,
    boot: Files,
    /// The id of the entry that boots by default.
    default: Option<String>,
    warnings: Vec<Warning>,
}

/// An entry of the menu.
struct Entry<'a> {
    generation: &'a Generation,
    specialisation: Option<&'a str>,
    system: &'a System,
}

impl Writer<'_> {
    /// Writes the entries of all generations and their specialisations.
    fn entries(&mut self) -> Result<()> {
        let generations = self.generations;
        if self.options.limit == Some(0) {
            return Err(Error::new(Kind::Manifest, "a menu of no generations cannot boot")
                .expected("a limit of at least 1, or none"));
        }
        for (_, shown) in generations.profiles(self.options.limit) {
            for generation in shown {
                let system = &generation.system;
                self.entry(&Entry { generation, specialisation: None, system })?;
                for (name, system) in &system.specialisations {
                    self.entry(&Entry { generation, specialisation: Some(name), system })?;
                }
            }
        }
        if self.default.is_none() {
            if generations.profiles(None).next().is_none() {
                return Err(Error::new(Kind::Manifest, "there is no generation to boot"));
            }
            self.warnings.push(Warning(format!(
                "{} is no generation in the menu; the newest one boots",
                printable(generations.default_system().toplevel.as_bytes())
            )));
        }
        Ok(())
    }

    /// Writes one entry and what it boots.
    fn entry(&mut self, entry: &Entry<'_>) -> Result<()> {
        let system = entry.system;
        if system.xen.is_some() {
            self.warnings.push(Warning(format!(
                "generation {} has Xen, which this menu does not start: its entry starts Linux alone",
                entry.generation.number
            )));
        }
        let kernel = self.copy(&system.kernel)?;
        let mut initrds = Vec::new();
        if let Some(initrd) = &system.initrd {
            initrds.push(self.copy(initrd)?);
        }
        initrds.extend(system.extra_initrds.iter().map(|path| format!("/{path}")));
        let devicetree = match &system.devicetree {
            Some(devicetree) => Some(self.copy(devicetree)?),
            None => None,
        };
        let lines = self.lines(entry, &kernel, &initrds, devicetree.as_deref());
        if let Some(line) = lines.iter().find(|line| line.chars().any(char::is_control)) {
            return Err(Error::new(Kind::Manifest, "a line of a boot entry holds a control character")
                .found(printable(line.as_bytes())));
        }
        let (id, contents) = match self.options.naming {
            Naming::Hash => {
                let contents = lines.join("\n");
                let hash: [u8; 32] = Sha256::digest(&contents).into();
                let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                (format!("nixos-{hash}"), contents)
            }
            Naming::Generation => {
                let profile = entry.generation.profile.as_ref().map(|name| format!("-{name}"));
                let specialisation = entry.specialisation.map(|name| format!("-specialisation-{name}"));
                let id = format!(
                    "nixos{}-generation-{}{}",
                    profile.unwrap_or_default(),
                    entry.generation.number,
                    specialisation.unwrap_or_default()
                );
                (id, lines.iter().map(|line| format!("{line}\n")).collect())
            }
        };
        let tries = self.options.tries.map(|tries| format!("+{tries}")).unwrap_or_default();
        let name = format!("{id}{tries}.conf");
        check_name(&name)?;
        self.boot.bytes(format!("{ENTRIES}/{name}"), contents)?;
        if self.default.is_none() && self.generations.is_default(system) {
            self.default = Some(format!("{id}.conf"));
        }
        Ok(())
    }

    /// The lines of an entry, in the order that goes with how it is named.
    fn lines(
        &self,
        entry: &Entry<'_>,
        kernel: &str,
        initrds: &[String],
        devicetree: Option<&str>,
    ) -> Vec<String> {
        let Entry { generation, system, .. } = entry;
        let mut title = format!("title {}", self.options.distro);
        if let Some(profile) = &generation.profile {
            title.push_str(&format!(" [{profile}]"));
        }
        if let Some(name) = entry.specialisation {
            title.push_str(&format!(" ({name})"));
        }
        let version = format!(
            "version Generation {} {}, built on {}",
            generation.number,
            system.label,
            generation.day()
        );
        let sort_key = format!("sort-key {}", system.sort_key);
        let mut boots = vec![format!("linux {kernel}")];
        boots.extend(initrds.iter().map(|initrd| format!("initrd {initrd}")));
        boots.push(format!("options {}", system.command_line()));
        boots.extend(devicetree.map(|devicetree| format!("devicetree {devicetree}")));
        match self.options.naming {
            Naming::Hash => [vec![title, version], boots, vec![sort_key]].concat(),
            Naming::Generation => [vec![title, sort_key, version], boots].concat(),
        }
    }

    /// Puts a file of the store where the firmware can read it, and returns its path there. Files that are the store
    /// object itself are named once, others by their object and their own name.
    fn copy(&mut self, source: &Source) -> Result<String> {
        let (object, name) = source.object_and_name();
        let name = if object == name { name.to_owned() } else { format!("{object}-{name}") };
        let path = format!("{NIXOS}/{name}.efi");
        self.boot.host(&path, &source.host)?;
        Ok(path)
    }

    fn loader_conf(&self) -> String {
        let options = self.options;
        let mut lines = vec![format!("timeout {}", options.timeout)];
        match &self.default {
            // The pattern finds the entry that the Boot Loader Specification sorts first: the newest that is not bad.
            None => lines.push("default nixos-*".to_owned()),
            Some(id) if options.tries.is_some() => {
                lines.extend([format!("preferred {id}"), "default nixos-*".to_owned()]);
            }
            Some(id) => lines.push(format!("default {id}")),
        }
        if !options.editor {
            lines.push("editor 0".to_owned());
        }
        if options.reboot_for_bitlocker {
            lines.push("reboot-for-bitlocker yes".to_owned());
        }
        lines.push(format!("console-mode {}", options.console_mode));
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Refuses a name that no entry may have.
fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-_.".contains(&byte);
    if name.bytes().all(plain) && name.len() <= LONGEST_NAME {
        return Ok(());
    }
    Err(Error::new(Kind::Manifest, "a boot entry cannot have this name")
        .expected(format!("at most {LONGEST_NAME} letters, digits, `+`, `-`, `_` and `.`"))
        .found(printable(name.as_bytes()))
        .why("Boot Loader Specification, \"Type #1\"")
        .hint("entries that are named by their hash take every specialisation"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{source, system};
    use super::*;

    /// A folder with a loader in it, and the options that go with it.
    fn options() -> (tempfile::TempDir, Options) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("systemd-bootx64.efi");
        std::fs::write(&file, pe::sample(0x8664, &[".text"])).unwrap();
        let options = Options::new(Architecture::X64, file);
        (folder, options)
    }

    /// Two generations of which the newer one has a variant. All share a kernel and an initrd.
    fn generations() -> Generations {
        let mut new = system("new");
        new.specialisations.insert("gaming".to_owned(), system("gaming"));
        let of = |number, system: &System| Generation {
            profile: None,
            number,
            // 2024-05-31.
            date: 1_717_113_600,
            system: system.clone(),
        };
        Generations::new(new.clone(), vec![of(7, &system("old")), of(8, &new)]).unwrap()
    }

    fn paths(files: &Files) -> Vec<&str> {
        files.iter().map(|(path, _)| path).collect()
    }

    fn text(files: &Files, path: &str) -> String {
        match &files.get(path).unwrap_or_else(|| panic!("no {path}")).content {
            Content::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            other => panic!("{path} is {other:?}"),
        }
    }

    const KERNEL: &str = "/EFI/nixos/11111111111111111111111111111111-linux-6.6.30-bzImage.efi";
    const INITRD: &str = "/EFI/nixos/22222222222222222222222222222222-initrd-linux-6.6.30-initrd.efi";
    /// `printf 'title NixOS\nversion …' | sha256sum` of the three entries.
    const NEW: &str = "a029607042823bb2a3793126b88649a3d91f7005ef7124f4b034f009e35c56ed";
    const GAMING: &str = "a91c86e478b2f99c85d0a1f09645ac27fc7dfec1a99577f83a66f4d3d1264878";
    const OLD: &str = "5a6e97976dc608fc9a8c4d7364912e24353fbe85f7edf4b3cea0d8c55fd849be";

    #[test]
    fn the_tree_is_that_of_bootctl_and_the_installer() {
        let (_folder, options) = options();
        let trees = build(&generations(), &options, false).unwrap();
        assert_eq!((trees.xbootldr, trees.warnings), (None, vec![]));
        let entry = |hash: &str| format!("/loader/entries/nixos-{hash}.conf");
        let mut entries = [NEW, GAMING, OLD].map(entry);
        entries.sort();
        let [first, second, third] = entries.each_ref().map(String::as_str);
        assert_eq!(
            paths(&trees.esp),
            [
                "/EFI",
                "/EFI/BOOT",
                "/EFI/BOOT/BOOTX64.EFI",
                "/EFI/Linux",
                "/EFI/nixos",
                "/EFI/nixos/.extra-files",
                KERNEL,
                INITRD,
                "/EFI/systemd",
                "/EFI/systemd/systemd-bootx64.efi",
                "/loader",
                "/loader/entries",
                "/loader/entries.srel",
                first,
                second,
                third,
                "/loader/loader.conf",
            ]
        );
        assert_eq!(
            text(&trees.esp, &entry(NEW)),
            format!(
                "title NixOS\nversion Generation 8 NixOS 24.05 (Linux 6.6.30), built on 2024-05-31\nlinux {KERNEL}\n\
                 initrd {INITRD}\noptions init=/nix/store/00000000000000000000000000000000-nixos-system-new-24.05/init \
                 loglevel=4 quiet\nsort-key nixos"
            )
        );
        assert!(text(&trees.esp, &entry(GAMING)).starts_with("title NixOS (gaming)\nversion Generation 8 "));
        assert!(text(&trees.esp, &entry(OLD)).starts_with("title NixOS\nversion Generation 7 "));
        assert_eq!(text(&trees.esp, "/loader/entries.srel"), "type1\n");
        let conf = format!("timeout 5\ndefault nixos-{NEW}.conf\nconsole-mode keep\n");
        assert_eq!(text(&trees.esp, "/loader/loader.conf"), conf);
    }

    #[test]
    fn an_xbootldr_partition_has_all_but_the_loader_and_its_configuration() {
        let (_folder, mut options) = options();
        options.naming = Naming::Generation;
        let trees = build(&generations(), &options, true).unwrap();
        assert_eq!(
            paths(&trees.esp),
            [
                "/EFI",
                "/EFI/BOOT",
                "/EFI/BOOT/BOOTX64.EFI",
                "/EFI/systemd",
                "/EFI/systemd/systemd-bootx64.efi",
                "/loader",
                "/loader/loader.conf",
            ]
        );
        let boot = trees.xbootldr.unwrap();
        let entries = paths(&boot).into_iter().filter(|path| path.ends_with(".conf")).collect::<Vec<_>>();
        assert_eq!(
            entries,
            [
                "/loader/entries/nixos-generation-7.conf",
                "/loader/entries/nixos-generation-8-specialisation-gaming.conf",
                "/loader/entries/nixos-generation-8.conf",
            ]
        );
        assert!(boot.get(KERNEL).is_some() && boot.get("/loader/entries.srel").is_some());
        assert_eq!(
            text(&trees.esp, "/loader/loader.conf"),
            "timeout 5\ndefault nixos-generation-8.conf\nconsole-mode keep\n"
        );
        assert_eq!(
            text(&boot, "/loader/entries/nixos-generation-8-specialisation-gaming.conf"),
            format!(
                "title NixOS (gaming)\nsort-key nixos\nversion Generation 8 NixOS 24.05 (Linux 6.6.30), built on \
                 2024-05-31\nlinux {KERNEL}\ninitrd {INITRD}\noptions \
                 init=/nix/store/00000000000000000000000000000000-nixos-system-gaming-24.05/init loglevel=4 quiet\n"
            )
        );
    }

    #[test]
    fn an_entry_has_what_its_system_asks_for() {
        let (_folder, mut options) = options();
        options.naming = Naming::Generation;
        options.extra_files =
            BTreeMap::from([("/EFI/memtest/x.efi".to_owned(), Content::Bytes(b"x".to_vec()))]);
        let mut odd = system("odd");
        odd.initrd = None;
        odd.kernel = source("33333333333333333333333333333333-kernel");
        odd.extra_initrds = vec!["secrets.cpio".to_owned()];
        odd.devicetree = Some(source("44444444444444444444444444444444-dtb/board.dtb"));
        odd.sort_key = "zz".to_owned();
        odd.xen = Some(super::super::bootspec::Xen { kernel: source("5-xen"), params: String::new() });
        let generation = Generation { profile: Some("test".to_owned()), number: 1, date: 0, system: odd };
        let all = Generations::new(system("elsewhere"), vec![generation]).unwrap();
        let trees = build(&all, &options, false).unwrap();
        assert_eq!(
            text(&trees.esp, "/loader/entries/nixos-test-generation-1.conf"),
            "title NixOS [test]\nsort-key zz\nversion Generation 1 NixOS 24.05 (Linux 6.6.30), built on 1970-01-01\n\
             linux /EFI/nixos/33333333333333333333333333333333-kernel.efi\ninitrd /secrets.cpio\noptions \
             init=/nix/store/00000000000000000000000000000000-nixos-system-odd-24.05/init loglevel=4 quiet\n\
             devicetree /EFI/nixos/44444444444444444444444444444444-dtb-board.dtb.efi\n"
        );
        assert_eq!(text(&trees.esp, "/EFI/nixos/.extra-files/EFI/memtest/x.efi"), "");
        assert_eq!(text(&trees.esp, "/EFI/memtest/x.efi"), "x");
        // The default is in no menu: the pattern finds the newest.
        assert_eq!(
            text(&trees.esp, "/loader/loader.conf"),
            "timeout 5\ndefault nixos-*\nconsole-mode keep\n"
        );
        let warnings: Vec<&str> = trees.warnings.iter().map(|warning| warning.0.as_str()).collect();
        assert!(
            warnings.len() == 2 && warnings[0].contains("Xen") && warnings[1].contains("is no generation"),
            "{warnings:?}"
        );
    }

    #[test]
    fn loader_conf_says_what_is_asked_for() {
        let (_folder, mut options) = options();
        options.naming = Naming::Generation;
        options.editor = false;
        options.reboot_for_bitlocker = true;
        options.tries = Some(3);
        options.limit = Some(1);
        for (timeout, console_mode, expected) in [
            (Timeout::Seconds(0), ConsoleMode::Auto, ("0", "auto")),
            (Timeout::Force, ConsoleMode::Max, ("menu-force", "max")),
            (Timeout::Hidden, ConsoleMode::Number(2), ("menu-hidden", "2")),
            (Timeout::Disabled, ConsoleMode::Keep, ("menu-disabled", "keep")),
        ] {
            (options.timeout, options.console_mode) = (timeout, console_mode);
            let trees = build(&generations(), &options, false).unwrap();
            assert_eq!(
                text(&trees.esp, "/loader/loader.conf"),
                format!(
                    "timeout {}\npreferred nixos-generation-8.conf\ndefault nixos-*\neditor 0\nreboot-for-bitlocker \
                     yes\nconsole-mode {}\n",
                    expected.0, expected.1
                )
            );
            let entries = paths(&trees.esp).into_iter().filter(|path| path.contains("generation-"));
            assert_eq!(
                entries.collect::<Vec<_>>(),
                [
                    "/loader/entries/nixos-generation-8+3.conf",
                    "/loader/entries/nixos-generation-8-specialisation-gaming+3.conf",
                ]
            );
        }
    }

    #[test]
    fn what_no_menu_can_show_is_refused() {
        let (folder, mut options) = options();
        options.naming = Naming::Generation;
        let refused = |generations: &Generations, options: &Options| {
            let error = build(generations, options, false).unwrap_err();
            error.what().to_owned()
        };
        let named = |name: &str| {
            let mut top = system("a");
            top.specialisations.insert(name.to_owned(), system("b"));
            Generations::single(top, 0)
        };
        for name in ["a b", "ä", "a/b", &"n".repeat(217)] {
            assert_eq!(refused(&named(name), &options), "a boot entry cannot have this name", "{name}");
        }
        build(&named(&"n".repeat(216)), &options, false).unwrap();
        // By their hash, all names can be.
        build(&named("ä b"), &Options { naming: Naming::Hash, ..options.clone() }, false).unwrap();
        let mut top = system("a");
        top.kernel_params.push("x\ny".to_owned());
        assert_eq!(
            refused(&Generations::single(top, 0), &options),
            "a line of a boot entry holds a control character"
        );
        let none = Options { limit: Some(0), ..options.clone() };
        assert_eq!(refused(&generations(), &none), "a menu of no generations cannot boot");
        let empty = Generations::new(system("a"), Vec::new()).unwrap();
        assert_eq!(refused(&empty, &options), "there is no generation to boot");
        let arm = Options { architecture: Architecture::Aa64, ..options.clone() };
        assert_eq!(refused(&generations(), &arm), "the EFI program is for another processor");

        let unsigned = loader(folder.path(), Architecture::X64).unwrap();
        assert_eq!(unsigned, folder.path().join("systemd-bootx64.efi"));
        let signed = folder.path().join("systemd-bootx64.efi.signed");
        std::fs::write(&signed, "").unwrap();
        assert_eq!(loader(folder.path(), Architecture::X64).unwrap(), signed);
        let error = loader(folder.path(), Architecture::Aa64).unwrap_err().to_string();
        assert!(error.contains("systemd-bootaa64.efi") && error.contains("systemd-boot-efi"), "{error}");
    }
}
