//! Folders that a machine shares with this host: by virtiofs, with a program virtiofsd for each, or by 9p in QEMU.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::command::{Command, Keys};
use super::device::Share;
use super::expansion;
use super::machine::{Machine, Mode, ShareBy};
use super::plan::Around;
use crate::error::{Error, Kind, Result};
use crate::helper::program;
use crate::nix::{STORE, Store};

/// The tag of the store (nixpkgs, `virtualisation.mountHostNixStore`).
const STORE_TAG: &str = "nix-store";
/// The longest path of a socket, without the final NUL (sockaddr_un, unix(7)).
const LONGEST_SOCKET: usize = 107;

/// A program that runs beside QEMU.
#[derive(Debug)]
pub(super) struct Helper {
    pub(super) command: Command,
    /// Where it listens once it is ready.
    pub(super) sockets: Vec<PathBuf>,
    /// What is run with it before QEMU starts.
    pub(super) prepare: Option<Prepare>,
}

/// A command that ends before QEMU starts.
#[derive(Debug)]
pub(super) struct Prepare {
    pub(super) command: Command,
    /// Variables that it has beside those of this process.
    pub(super) variables: Vec<(&'static str, String)>,
}

/// The path of a socket in the work folder.
///
/// # Errors
/// [`Kind::Usage`] for one that the kernel does not take.
pub(super) fn socket(work: &Path, name: &str) -> Result<PathBuf> {
    let socket = work.join(name);
    let length = socket.as_os_str().len();
    if length > LONGEST_SOCKET {
        return Err(Error::new(Kind::Usage, "the path of a socket is too long")
            .at(&socket)
            .expected(format!("at most {LONGEST_SOCKET} bytes"))
            .found(format!("{length} bytes"))
            .hint("set TMPDIR to a shorter path"));
    }
    Ok(socket)
}

/// What shared folders need.
#[derive(Debug)]
pub(super) struct Shares {
    /// How they are shared; 9p where there are none.
    pub(super) by: ShareBy,
    /// Arguments of QEMU.
    pub(super) arguments: Vec<OsString>,
    pub(super) helpers: Vec<Helper>,
}

/// What the shared folders of a machine need.
///
/// # Errors
/// [`Kind::Usage`] for a folder that is not there and for two of one tag, [`Kind::Source`] where virtiofsd is missing.
pub(super) fn plan(machine: &Machine, around: &Around<'_>, store: &Store) -> Result<Shares> {
    let mut all: Vec<(Share, PathBuf)> = Vec::new();
    if machine.mode() == Mode::RootAlone {
        let folder = store.host_of(Path::new(STORE));
        let share = Share { tag: STORE_TAG.to_owned(), source: String::new(), writable: false };
        all.push((share, folder));
    }
    for share in &machine.shares {
        let folder = expansion::path(&share.source, "shares", around.environment, around.work_folder)?;
        if all.iter().any(|(other, _)| other.tag == share.tag) {
            return Err(Error::new(Kind::Usage, format!("two shared folders have the tag `{}`", share.tag))
                .about("shares"));
        }
        // The folder for exchange is made with the work folder.
        if !folder.is_dir() && !folder.starts_with(around.work_folder) {
            return Err(Error::new(Kind::Usage, "the shared folder is not there")
                .at(&folder)
                .about("shares"));
        }
        all.push((share.clone(), folder));
    }
    let mut shares = Shares { by: ShareBy::NineP, arguments: Vec::new(), helpers: Vec::new() };
    if all.is_empty() {
        return Ok(shares);
    }
    let virtiofsd = virtiofsd(machine, around)?;
    shares.by = if virtiofsd.is_some() { ShareBy::Virtiofs } else { ShareBy::NineP };
    for (number, (share, folder)) in all.iter().enumerate() {
        match &virtiofsd {
            Some(program) => shares.virtiofs(program, (number, share, folder), around.work_folder)?,
            None => shares.nine_p(share, folder)?,
        }
    }
    Ok(shares)
}

/// The program virtiofsd, where folders are shared by it.
fn virtiofsd(machine: &Machine, around: &Around<'_>) -> Result<Option<PathBuf>> {
    let name = machine.virtiofsd.as_deref().unwrap_or("virtiofsd");
    let found = program::find(Path::new(name), around.environment.folders());
    match machine.share_by.unwrap_or_default() {
        ShareBy::NineP => Ok(None),
        ShareBy::Auto if machine.virtiofsd.is_none() => Ok(found),
        ShareBy::Auto | ShareBy::Virtiofs => match found {
            Some(found) => Ok(Some(found)),
            None => Err(Error::new(Kind::Source, "there is no virtiofsd to share folders")
                .at(name)
                .about("virtiofsd")
                .hint("the package virtiofsd has it; 9p needs no other program")),
        },
    }
}

impl Shares {
    fn nine_p(&mut self, share: &Share, folder: &Path) -> Result<()> {
        // Owners and modes that a machine sets are kept in attributes, which an ordinary user may write.
        let model = if share.writable { "mapped-xattr" } else { "none" };
        let keys = Keys::new("local")
            .path("path", folder)?
            .with("security_model", model)
            .with("mount_tag", &share.tag);
        let keys = if share.writable { keys } else { keys.with("readonly", "on") };
        self.arguments.extend(["-virtfs".into(), keys.text().into()]);
        Ok(())
    }

    fn virtiofs(
        &mut self,
        program: &Path,
        (number, share, folder): (usize, &Share, &Path),
        work: &Path,
    ) -> Result<()> {
        let socket = socket(work, &format!("virtiofs{number}"))?;
        let mut command = Command::new(program);
        for (name, path) in [("--socket-path", socket.as_path()), ("--shared-dir", folder)] {
            command.option(name, path.as_os_str());
        }
        // As nixpkgs starts it: an ordinary user may not make a sandbox everywhere, and the folder is meant to be seen.
        for argument in ["--sandbox=none", "--seccomp=none", "--cache=always", "--no-announce-submounts"] {
            command.push(argument);
        }
        command.push(if share.writable { "--writeback" } else { "--readonly" });
        self.helpers.push(Helper { command, sockets: vec![socket.clone()], prepare: None });
        let name = format!("virtiofs{number}");
        let backend = Keys::new("socket").with("id", &name).path("path", &socket)?;
        let device = Keys::new("vhost-user-fs-pci").with("chardev", &name).with("tag", &share.tag);
        self.arguments.extend([
            "-chardev".into(),
            backend.text().into(),
            "-device".into(),
            device.text().into(),
        ]);
        Ok(())
    }
}
