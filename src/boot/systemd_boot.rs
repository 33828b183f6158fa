//! systemd-boot: the trees of the ESP and of the XBOOTLDR partition, if there is one, as `bootctl install`
//! and the installer of nixpkgs leave them.
//!
//! Sources: Boot Loader Specification (UAPI group), loader.conf(5), bootctl(1), nixpkgs'
//! `nixos/modules/system/boot/loader/systemd-boot`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::architecture::Firmware;
use super::bootspec::System;
use super::entry;
use super::files::{Content, Files};
use super::generations::{Generation, Generations};
use super::pe;
use super::source::Source;
use super::timeout::Timeout;
use crate::encoding::to_hex;
use crate::error::{Error, Kind, Result, Warning};
use crate::text::printable;

/// The folder of kernels and initrds; only nixpkgs uses it.
const NIXOS: &str = "/EFI/nixos";
/// The folder of entries.
const ENTRIES: &str = "/loader/entries";
/// The longest name of an entry (Boot Loader Specification, "Type #1").
const LONGEST_NAME: usize = 255;

/// How entries are named; this also decides the order of their lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// `nixos-SHA256.conf`: by the content, as the installer does since 2026.
    #[default]
    Hash,
    /// `nixos-generation-N.conf`: by the generation, as it did before.
    Generation,
}

/// The resolution of the menu (loader.conf(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsoleMode {
    /// The mode that the firmware set.
    #[default]
    Keep,
    /// systemd-boot chooses.
    Auto,
    /// The last available mode.
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

/// The installed files and the behaviour of the menu. [`Options::new`] has nixpkgs' defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// The firmware of the machine.
    pub firmware: Firmware,
    /// systemd-boot's EFI file on the host; see [`loader`].
    pub loader: PathBuf,
    /// The beginning of titles.
    pub distro: String,
    /// How entries are named.
    pub naming: Naming,
    /// The largest number of generations of a profile that get entries: at least 1; `None` for all.
    pub limit: Option<usize>,
    /// How long the menu is shown. With 0 it is only shown while a key is held.
    pub timeout: Timeout,
    /// Whether the menu allows editing the kernel's parameters.
    pub editor: bool,
    /// The resolution of the menu.
    pub console_mode: ConsoleMode,
    /// Whether Windows under BitLocker is started by a reboot.
    pub reboot_for_bitlocker: bool,
    /// How often an entry may fail to boot before it counts as bad; `None` does not count. It needs
    /// systemd-boot 260.
    pub tries: Option<u32>,
    /// Further files on the boot partition, by absolute path: `boot.loader.systemd-boot.extraFiles`.
    pub extra_files: BTreeMap<String, Content>,
}

impl Options {
    /// nixpkgs' defaults: a menu of 5 seconds with its editor, all generations, the console mode of the
    /// firmware.
    #[must_use]
    pub fn new(firmware: Firmware, loader: impl Into<PathBuf>) -> Self {
        Self {
            firmware,
            loader: loader.into(),
            distro: "NixOS".to_owned(),
            naming: Naming::default(),
            limit: None,
            timeout: Timeout::default(),
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
    /// The files for the EFI system partition.
    pub esp: Files,
    /// The files for the XBOOTLDR partition, if there is one: kernels and entries.
    pub xbootldr: Option<Files>,
    /// What was asked for and could not be kept.
    pub warnings: Vec<Warning>,
}

/// The EFI file of systemd-boot for `firmware` in `folder`, which is `lib/systemd/boot/efi` of systemd. It is
/// the signed one if there is one, as with bootctl.
///
/// # Errors
/// [`Kind::Source`] where there is none, with the package that has it.
pub fn loader(folder: &Path, firmware: Firmware) -> Result<PathBuf> {
    let name = format!("systemd-boot{}.efi", firmware.efi());
    let candidates = [folder.join(format!("{name}.signed")), folder.join(&name)];
    candidates.into_iter().find(|file| file.is_file()).ok_or_else(|| {
        Error::new(Kind::Source, "systemd-boot is not there")
            .at(folder.join(&name))
            .hint("it is in nixpkgs' systemd (lib/systemd/boot/efi) and in Debian's systemd-boot-efi")
    })
}

/// The files of systemd-boot for a menu of `generations`. Kernels and entries go to the ESP, or with
/// `xbootldr` to the XBOOTLDR partition.
///
/// # Errors
/// [`Kind::Source`] for a loader that is not an EFI program for the processor, [`Kind::Manifest`] for a menu
/// without entries, a limit of 0, and names or lines that the Boot Loader Specification forbids.
pub fn build(generations: &Generations, options: &Options, xbootldr: bool) -> Result<Trees> {
    pe::check_program(&options.loader, options.firmware)?;
    let mut writer = Writer { generations, options, boot: Files::new(), default: None, warnings: Vec::new() };
    for folder in ["/EFI", "/EFI/Linux", NIXOS, "/EFI/nixos/.extra-files", "/loader", ENTRIES] {
        writer.boot.directory(folder)?;
    }
    // The kind of entries on this partition: those of the Boot Loader Specification.
    writer.boot.bytes("/loader/entries.srel", "type1\n")?;
    writer.entries()?;
    let loader_conf = writer.loader_conf();
    let Writer { mut boot, warnings, .. } = writer;
    for (path, content) in &options.extra_files {
        boot.add(path, content.clone(), 0o644)?;
        // The installer reads this list to remove files that are no longer wanted.
        boot.bytes(format!("{NIXOS}/.extra-files{path}"), "")?;
    }

    let mut esp = Files::new();
    for folder in ["/EFI", "/EFI/BOOT", "/EFI/systemd", "/loader"] {
        esp.directory(folder)?;
    }
    for program in programs(options.firmware) {
        esp.host(program, &options.loader)?;
    }
    esp.bytes("/loader/loader.conf", loader_conf)?;
    if xbootldr {
        return Ok(Trees { esp, xbootldr: Some(boot), warnings });
    }
    esp.merge("", boot)?;
    Ok(Trees { esp, xbootldr: None, warnings })
}

/// Where systemd-boot lies on the ESP: under its own name, and under the one that firmware starts from a disk it does not
/// know.
#[must_use]
pub fn programs(firmware: Firmware) -> [String; 2] {
    [
        format!("/EFI/systemd/systemd-boot{}.efi", firmware.efi()),
        format!("/EFI/BOOT/{}", firmware.removable()),
    ]
}

/// The files of a menu with these entries, for systems of any kind: what is in the folder `loader` of the boot partition. The
/// pattern `default` says which of them boots if nobody chooses.
///
/// # Errors
/// [`Kind::Manifest`] for a menu without entries, and for names and lines that the Boot Loader Specification forbids.
pub fn menu(entries: &[entry::Entry], timeout: Timeout, default: &str) -> Result<Files> {
    entry::some(entries)?;
    let mut files = Files::new();
    files.bytes("/loader/entries.srel", "type1\n")?;
    for entry in entries {
        let mut lines = vec![format!("title {}", entry.title)];
        for (key, value) in [("version", &entry.version), ("sort-key", &entry.sort_key)] {
            lines.extend((!value.is_empty()).then(|| format!("{key} {value}")));
        }
        lines.extend(boots(&entry.kernel, &entry.initrds, &entry.parameters, entry.devicetree.as_deref()));
        let name = format!("{}.conf", uncounted(&entry.id));
        check_name(&name)?;
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        files.bytes(format!("{ENTRIES}/{name}"), text)?;
    }
    files.bytes("/loader/loader.conf", conf(timeout, default))?;
    Ok(files)
}

/// A name that does not end with tries that are left: `+3` or `+3-1` would be some (Boot Loader Specification, "Boot counting"),
/// and a kernel may have such a release.
#[must_use]
pub fn uncounted(name: &str) -> String {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match name.rsplit_once('+') {
        Some((before, count))
            if count
                .split_once('-')
                .map_or(is_number(count), |(left, done)| is_number(left) && is_number(done)) =>
        {
            format!("{before}_{count}")
        }
        _ => name.to_owned(),
    }
}

/// A loader.conf for a menu of these entries.
#[must_use]
pub fn conf(timeout: Timeout, default: &str) -> String {
    format!("{}\ndefault {default}\n", timeout_line(timeout))
}

/// What an entry starts, in the lines of the Boot Loader Specification.
fn boots(kernel: &str, initrds: &[String], parameters: &str, devicetree: Option<&str>) -> Vec<String> {
    let mut lines = vec![format!("linux {kernel}")];
    lines.extend(initrds.iter().map(|initrd| format!("initrd {initrd}")));
    lines.push(format!("options {parameters}"));
    lines.extend(devicetree.map(|devicetree| format!("devicetree {devicetree}")));
    lines
}

fn timeout_line(timeout: Timeout) -> String {
    match timeout {
        Timeout::Seconds(seconds) => format!("timeout {seconds}"),
        Timeout::Forever => "timeout menu-force".to_owned(),
    }
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
                (format!("nixos-{}", to_hex(&Sha256::digest(&contents))), contents)
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

    /// The lines of an entry, in the order that belongs to its naming.
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
        let boots = boots(kernel, initrds, &system.command_line(), devicetree);
        match self.options.naming {
            Naming::Hash => [vec![title, version], boots, vec![sort_key]].concat(),
            Naming::Generation => [vec![title, sort_key, version], boots].concat(),
        }
    }

    /// Copies a file of the store to where the firmware can read it, and returns its path there. A file that
    /// is a store object itself gets the name of the object; others get the name of their object and their
    /// own name.
    fn copy(&mut self, source: &Source) -> Result<String> {
        let (object, name) = source.object_and_name();
        let name = if object == name { name.to_owned() } else { format!("{object}-{name}") };
        let path = format!("{NIXOS}/{name}.efi");
        self.boot.host(&path, &source.host)?;
        Ok(path)
    }

    fn loader_conf(&self) -> String {
        let options = self.options;
        let mut lines = vec![timeout_line(options.timeout)];
        match &self.default {
            // The pattern matches the entry that the Boot Loader Specification sorts first: the newest that
            // is not bad.
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

/// Refuses a name that an entry may not have.
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
#[path = "systemd_boot_tests.rs"]
mod tests;
