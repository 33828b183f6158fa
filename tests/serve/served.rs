//! A server that runs while a test reads from it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::support::program::{diskwright, project};
use crate::tools::{Said, attend, scratch};

/// The longest that anything here takes, with a wide margin: protection against a test that hangs.
pub const LIMIT: Duration = Duration::from_secs(240);

/// `diskwright serve`, whose socket lies in a folder of the test.
pub struct Served {
    child: Option<Child>,
    out: Option<BufReader<ChildStdout>>,
    pub uri: String,
    pub socket: PathBuf,
}

impl Served {
    /// Serves what `arguments` say on a socket in `folder`.
    pub fn start<S: AsRef<OsStr>>(folder: &Path, arguments: &[S]) -> Self {
        let socket = folder.join("socket");
        let mut command = diskwright();
        command.arg("serve").arg("--socket").arg(&socket).args(arguments);
        Self::of(command, socket)
    }

    /// Runs a command that serves, and waits for the line that says so.
    pub fn of(mut command: Command, socket: PathBuf) -> Self {
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
    pub fn export(&self, name: &str) -> String {
        self.uri.replace("///?", &format!("///{name}?"))
    }

    /// Its number among the processes.
    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Waits for its end.
    pub fn said(mut self) -> Said {
        drop(self.out.take());
        attend(self.child.take().unwrap(), LIMIT, |_| {})
    }

    /// Ends it by a signal, and returns what it said.
    pub fn end(self) -> Said {
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
pub fn signal(id: u32, name: &str) {
    crate::tools::must(crate::tools::command("kill").arg(format!("-{name}")).arg(id.to_string()));
}

/// A folder with the manifests of [`project`], the second of them built as `disk.img`, and the first as well.
pub fn fixture() -> (tempfile::TempDir, [PathBuf; 2]) {
    let folder = scratch();
    let manifests = project(folder.path());
    (folder, manifests)
}
