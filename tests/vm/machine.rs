//! Systems that are small enough to boot often, and the command that runs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::guest::{Guest, turn};
use crate::support::judges;
use crate::support::program::diskwright;
use crate::support::tools::{Said, command, must, wait};
use crate::tiny::Tiny;

/// How long a machine may run: a guard against one that hangs.
const LIMIT: Duration = Duration::from_secs(600);

/// A system in a store of its own, and a folder to run it in.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) tiny: Tiny,
    pub(crate) system: String,
}

impl Bench {
    /// A system that nothing boots.
    pub(crate) fn new() -> Self {
        Self::of(Tiny::new())
    }

    /// A system whose initrd runs `script` with busybox and these modules.
    pub(crate) fn booting(script: &str, modules: &[&'static str]) -> Self {
        Self::booting_with(script, modules, &[])
    }

    /// The same with more programs of this host.
    pub(crate) fn booting_with(script: &str, modules: &[&'static str], programs: &[&'static str]) -> Self {
        let (kernel, _) = judges::kernel();
        let guest = modules.iter().fold(Guest::new(), |guest, module| guest.module(module));
        let guest = programs.iter().fold(guest, |guest, program| guest.program(program));
        Self::of(Tiny::with(&std::fs::read(kernel).unwrap(), &guest.initrd(script)))
    }

    pub(crate) fn of(mut tiny: Tiny) -> Self {
        let system = tiny.system_with("1", |place| {
            // On a busy host the timer of an emulated machine may not tick while the kernel checks it.
            let parameters = "console=ttyS0 panic=-1 quiet loglevel=4 no_timer_check\n";
            std::fs::write(place.join("kernel-params"), parameters).unwrap();
        });
        let bench = Self { tiny, system };
        std::fs::write(bench.closure(), bench.tiny.registration()).unwrap();
        bench
    }

    /// The folder that machines run in.
    pub(crate) fn folder(&self) -> &Path {
        self.tiny.path()
    }

    pub(crate) fn closure(&self) -> PathBuf {
        self.folder().join("registration")
    }

    /// The flags that describe the system.
    pub(crate) fn flags(&self) -> Vec<String> {
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        let flags = [
            ("--system", self.system.clone()),
            ("--store-root", path(self.tiny.root())),
            ("--closure", path(self.closure())),
        ];
        flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }

    /// `diskwright vm` for the system, in the folder.
    pub(crate) fn vm(&self) -> Command {
        let mut command = diskwright();
        command.current_dir(self.folder()).env("TMPDIR", self.folder()).arg("vm").args(self.flags());
        command
    }

    /// The same with a program in place of QEMU, which runs this script of a shell. Bash knows descriptors above 9.
    pub(crate) fn with_qemu(&self, script: &str) -> Command {
        let path = self.folder().join("qemu");
        // Another process writes it: a program that this process wrote is busy as long as a child that another test just
        // started has its descriptor.
        let mut shell = command("sh");
        shell.args(["-c", r#"printf '#!/bin/bash\n%s\n' "$1" > "$2" && chmod 755 "$2""#, "sh", script]);
        must(shell.arg(&path));
        let mut command = self.vm();
        command.arg("--qemu").arg(path);
        command
    }
}

/// Runs a machine to its end under TCG, when fewer than two others run.
pub(crate) fn boot(command: &mut Command) -> Said {
    let _turn = turn();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait(child, LIMIT)
}

/// What a machine printed on its console; it must have ended well.
pub(crate) fn console(command: &mut Command) -> String {
    // A kernel that gives up ends the machine.
    let said = boot(command.args(["--qemu-options", "-no-reboot"]));
    let text = said.text().replace('\r', "");
    assert!(
        said.code == 0 && text.contains("guest: done"),
        "exit code {}\n{text}\n{}",
        said.code,
        said.error()
    );
    text
}
