//! A server that runs while a test reads from it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::support::judges::{file, unpacked};
use crate::support::program::{diskwright, project};
use crate::tools::{Said, attend, quiet, scratch};

/// The longest that anything here takes, with a wide margin: protection against a test that hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(240);

/// `diskwright serve`, whose socket lies in a folder of the test.
pub(crate) struct Served {
    child: Option<Child>,
    out: Option<BufReader<ChildStdout>>,
    pub(crate) uri: String,
    pub(crate) socket: PathBuf,
}

impl Served {
    /// Serves what `arguments` say on a socket in `folder`.
    pub(crate) fn start<S: AsRef<OsStr>>(folder: &Path, arguments: &[S]) -> Self {
        let socket = folder.join("socket");
        let mut command = diskwright();
        command.arg("serve").arg("--socket").arg(&socket).args(arguments);
        Self::of(command, socket)
    }

    /// Runs a command that serves, and waits for the line that says so.
    pub(crate) fn of(mut command: Command, socket: PathBuf) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut uri = String::new();
        out.read_line(&mut uri).unwrap();
        let uri = uri.trim_end().to_owned();
        let served = Self { child: Some(child), out: Some(out), uri, socket };
        if served.uri.is_empty() {
            panic!("no server: {}", served.said().error());
        }
        served
    }

    /// The URI of an export.
    pub(crate) fn export(&self, name: &str) -> String {
        self.uri.replace("///?", &format!("///{name}?"))
    }

    /// Its number among the processes.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Waits for its end.
    pub(crate) fn said(mut self) -> Said {
        drop(self.out.take());
        attend(self.child.take().unwrap(), LIMIT, |_| {})
    }

    /// Ends it by a signal, and returns what it said.
    pub(crate) fn end(self) -> Said {
        signal(self.id(), "TERM");
        self.said()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(id: u32, name: &str) {
    crate::tools::must(crate::tools::command("kill").arg(format!("-{name}")).arg(id.to_string()));
}

/// libnbd's shell, which is Python, with `script` for the server at `uri`.
pub(crate) fn nbdsh(uri: &str, script: &str) -> Command {
    // Debian's own Python, to which its packages belong, even if PATH has another.
    let packages = file("/usr/lib/python3/dist-packages/nbdsh.py");
    let mut python = quiet(Command::new(file("/usr/bin/python3")));
    python.env("PYTHONPATH", packages.parent().unwrap()).env("LD_LIBRARY_PATH", unpacked().join("libraries"));
    python.args(["-m", "nbd", "-u", uri, "-c", script]);
    python
}

/// A folder with the manifests of [`project`].
pub(crate) fn fixture() -> (tempfile::TempDir, [PathBuf; 2]) {
    let folder = scratch();
    let manifests = project(folder.path());
    (folder, manifests)
}
