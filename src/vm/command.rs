//! The command that runs QEMU, as data.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::device::Options;
use super::machine::Interface;
use crate::error::{Error, Kind, Result};

/// A program with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl Command {
    /// A program without arguments.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), arguments: Vec::new() }
    }

    /// Adds an argument.
    pub fn push(&mut self, argument: impl Into<OsString>) {
        self.arguments.push(argument.into());
    }

    /// Adds an option and its value.
    pub fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.push(name);
        self.push(value);
    }
}

/// A command for a shell: an option and its value on each line.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quoted(&self.program.to_string_lossy()))?;
        for argument in &self.arguments {
            let text = argument.to_string_lossy();
            let break_before = if text.starts_with('-') { " \\\n  " } else { " " };
            write!(f, "{break_before}{}", quoted(&text))?;
        }
        writeln!(f)
    }
}

/// A word of a shell (POSIX, 2.2.2).
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A path that QEMU takes for no protocol, from wherever it runs: what has a colon before its first slash begins with the name of
/// one (QEMU, block.c, path_has_protocol).
///
/// # Errors
/// [`Kind::Source`] where there is no current directory.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| Error::io(Kind::Source, "the path has no absolute form", path, error))
}

/// Whether QEMU takes `file` for a protocol, such as nbd:…: no file has this name, and a colon is before the first slash.
pub(super) fn is_protocol(file: &Path) -> bool {
    let bytes = file.as_os_str().as_encoded_bytes();
    bytes.iter().find(|byte| b":/".contains(byte)) == Some(&b':') && !file.exists()
}

/// `key=value,key=value` of QEMU, in which a comma of a value is two commas.
#[derive(Clone, Debug)]
pub(super) struct Keys(String);

impl Keys {
    /// The first part: a driver, or a key with its value.
    pub(super) fn new(first: &str) -> Self {
        Self(first.to_owned())
    }

    /// The first key with its value, in which a comma is two commas.
    pub(super) fn first(key: &str, value: &str) -> Self {
        Self(format!("{key}={}", value.replace(',', ",,")))
    }

    pub(super) fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        let value = value.to_string().replace(',', ",,");
        self.0.push_str(&format!(",{key}={value}"));
        self
    }

    /// The same with a path, which must be UTF-8: QEMU's option parser is for text.
    pub(super) fn path(self, key: &str, path: &Path) -> Result<Self> {
        match path.to_str() {
            Some(path) => Ok(self.with(key, path)),
            None => Err(Error::new(Kind::Usage, "QEMU takes no path that is not UTF-8").at(path)),
        }
    }

    pub(super) fn all(self, options: &Options) -> Self {
        options.iter().fold(self, |keys, (key, value)| keys.with(key, value))
    }

    pub(super) fn text(self) -> String {
        self.0
    }
}

/// The disks of a machine, in the order in which it boots from them.
#[derive(Debug)]
pub(super) struct Drives {
    interface: Interface,
    count: u32,
    /// Names of drives and nodes, which QEMU has in one space (block.c, bdrv_assign_node_name).
    names: BTreeSet<String>,
    arguments: Vec<OsString>,
    /// What QEMU would do in silence.
    pub(super) warnings: Vec<String>,
}

/// The most disks of the machine `pc`'s IDE controller: two on each of its two channels (QEMU, hw/ide/piix.c).
const IDE_DISKS: u32 = 4;
/// The bytes of a serial that virtio-blk (VIRTIO_BLK_ID_BYTES, linux/virtio_blk.h) and IDE have.
const LONGEST_SERIAL: usize = 20;
/// Those that a disk of SCSI has (QEMU, hw/scsi/scsi-disk.c, the page 0x80 of INQUIRY).
const LONGEST_SCSI_SERIAL: usize = 36;

impl Drives {
    pub(super) fn new(interface: Interface) -> Self {
        let mut arguments: Vec<OsString> = Vec::new();
        if interface == Interface::Scsi {
            arguments.extend(["-device", "virtio-scsi-pci,id=scsi"].map(OsString::from));
        }
        Self { interface, count: 0, names: BTreeSet::new(), arguments, warnings: Vec::new() }
    }

    fn option(&mut self, name: &str, value: String) {
        self.arguments.extend([OsString::from(name), OsString::from(value)]);
    }

    /// A node of QEMU's graph of blocks.
    pub(super) fn node(&mut self, node: &serde_json::Value) {
        self.names.extend(node["node-name"].as_str().map(str::to_owned));
        self.option("-blockdev", node.to_string());
    }

    /// A disk whose blocks are the node or drive `name`.
    pub(super) fn device(&mut self, name: &str, options: Options) {
        self.count += 1;
        let driver = match self.interface {
            Interface::Virtio => "virtio-blk-pci",
            Interface::Scsi => "scsi-hd,bus=scsi.0",
            Interface::Ide => "ide-hd",
        };
        let mut options = options;
        let longest = if self.interface == Interface::Scsi { LONGEST_SCSI_SERIAL } else { LONGEST_SERIAL };
        if let Some(serial) = options.get("serial").filter(|serial| serial.len() > longest) {
            self.warnings.push(format!(
                "the machine sees the first {longest} bytes of the serial `{}` of the disk `{name}`",
                crate::values::shown(serial)
            ));
        }
        options.entry("bootindex".to_owned()).or_insert_with(|| self.count.to_string());
        let keys = Keys::new(driver).with("drive", name).all(&options);
        self.option("-device", keys.text());
    }

    /// Takes a name, which has to be free and one that QEMU takes (QEMU, util/id.c, id_wellformed).
    fn claim(&mut self, name: &str) -> Result<()> {
        let refused =
            |what: &str| Error::new(Kind::Usage, format!("{what}: `{}`", crate::values::shown(name)));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(is_plain) {
            return Err(
                refused("this is no name of a disk").expected("a letter, and then letters, digits and `-._`")
            );
        }
        if !self.names.insert(name.to_owned()) {
            return Err(refused("another disk of the machine has this name").hint("give it another `name`"));
        }
        Ok(())
    }

    /// A disk in a file; `format` where it is known.
    pub(super) fn file(
        &mut self,
        (name, file): (&str, &Path),
        format: Option<&str>,
        drive: &Options,
        device: &Options,
    ) -> Result<()> {
        self.claim(name)?;
        let mut keys = Keys::new("if=none").with("id", name).path("file", file)?;
        if let Some(format) = format.filter(|_| !drive.contains_key("format")) {
            keys = keys.with("format", format);
        }
        if !drive.contains_key("werror") {
            keys = keys.with("werror", "report");
        }
        self.option("-drive", keys.all(drive).text());
        self.device(name, device.clone());
        Ok(())
    }

    /// The arguments.
    ///
    /// # Errors
    /// [`Kind::Usage`] for more disks than IDE has.
    pub(super) fn finish(self) -> Result<Vec<OsString>> {
        if self.interface == Interface::Ide && self.count > IDE_DISKS {
            return Err(Error::new(Kind::Usage, "the machine has more disks than its IDE controller")
                .about("disk_interface")
                .expected(format!("at most {IDE_DISKS}"))
                .found(self.count));
        }
        Ok(self.arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_of_a_shell() {
        let mut command = Command::new("/bin/q emu");
        command.option("-m", "1");
        command.option("-append", "a 'b' $c");
        command.push("-S");
        assert_eq!(
            command.to_string(),
            "'/bin/q emu' \\\n  -m 1 \\\n  -append 'a '\\''b'\\'' $c' \\\n  -S\n"
        );
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn disks_are_on_the_bus_that_was_asked_for() {
        let of = |interface, count: u32| {
            let mut drives = Drives::new(interface);
            for number in 0..count {
                let name = format!("d{number}");
                let options = [("serial".to_owned(), "a,b".to_owned())].into_iter().collect();
                drives.file((&name, Path::new("/a,b")), Some("qcow2"), &Options::new(), &options).unwrap();
            }
            drives.finish().map(|arguments| {
                arguments.iter().map(|argument| argument.to_str().unwrap().to_owned()).collect::<Vec<_>>()
            })
        };
        assert_eq!(
            of(Interface::Virtio, 1).unwrap(),
            [
                "-drive",
                "if=none,id=d0,file=/a,,b,format=qcow2,werror=report",
                "-device",
                "virtio-blk-pci,drive=d0,bootindex=1,serial=a,,b"
            ]
        );
        assert!(of(Interface::Scsi, 1).unwrap().contains(&"virtio-scsi-pci,id=scsi".to_owned()));
        assert!(
            of(Interface::Ide, 4).unwrap().contains(&"ide-hd,drive=d3,bootindex=4,serial=a,,b".to_owned())
        );
        let mut drives = Drives::new(Interface::Virtio);
        drives.node(&serde_json::json!({ "node-name": "served" }));
        for (name, words) in [
            ("served", "another disk of the machine has this name: `served`"),
            ("a b", "this is no name of a disk: `a b`"),
            ("1", "this is no name of a disk"),
            ("", "this is no name of a disk"),
            ("ä", "this is no name of a disk"),
        ] {
            let file = (name, Path::new("/a"));
            let error = drives.file(file, None, &Options::new(), &Options::new()).unwrap_err().to_string();
            assert!(error.contains(words), "{name}: {error}");
        }
        for (interface, most) in [(Interface::Virtio, 20), (Interface::Ide, 20), (Interface::Scsi, 36)] {
            for (length, count) in [(most, 0), (most + 1, 1)] {
                let mut drives = Drives::new(interface);
                drives.device("d", [("serial".to_owned(), "s".repeat(length))].into_iter().collect());
                assert_eq!(drives.warnings.len(), count, "{interface}: {length}");
            }
        }
        assert!(of(Interface::Ide, 5).unwrap_err().to_string().contains("at most 4"));
    }
}
