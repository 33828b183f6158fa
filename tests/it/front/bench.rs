//! A folder with a manifest, the program run in it, and judges.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::program::diskwright;
use crate::support::tools::must;

/// A folder of its own with a manifest, and the sources of its entries.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
}

/// Every id and time is given or derived from the seed, so nothing here depends on the machine.
pub(crate) const MANIFEST: &str = r#"
version = 1

[disk]
seed = "0867da16-f251-457d-a9e8-c31f9a3c220b"

[[partition]]
type = "esp"
label = "ESP"
size = "8MiB"
filesystem = { type = "vfat", label = "ESP", fat = 12 }
contents = [ { source = "esp", target = "/" } ]

[[partition]]
label = "root"
filesystem = { type = "ext4", label = "root", free = "1MiB" }
contents = [
  { source = "etc/*", target = "/etc" },
  { text = "hello\n", target = "/etc/motd", mode = "0600" },
]

[[partition]]
size = "1MiB"
filesystem = { type = "swap" }
"#;

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self { folder: TempDir::new().unwrap() };
        bench.write("disk.toml", MANIFEST);
        bench.write("esp/EFI/BOOT/BOOTX64.EFI", "loader");
        bench.write("etc/hosts", "127.0.0.1 localhost\n");
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// The program, to be run in the folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = diskwright();
        command.current_dir(self.folder.path()).args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed without a word on standard error; returns its standard output.
    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        assert_eq!(errors, "", "{arguments:?}");
        text(&output.stdout)
    }

    /// Runs a command that must fail with `code` and without standard output; returns the message.
    pub(crate) fn bad(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        refused(code, &output)
    }

    /// The names in a folder, sorted.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A manifest of 4 GiB: 64 names of one file of 64 MiB, so that there is time to interrupt the work.
    pub(crate) fn long_work(&self) {
        self.write("large", vec![0xd1; 64 << 20]);
        let entries: String =
            (0..64).map(|number| format!("{{ source = \"large\", target = \"/{number}\" }},\n")).collect();
        self.write(
            "long.toml",
            format!(
                "version = 1\n[disk]\ntable = \"none\"\n[[partition]]\nfilesystem = {{ type = \"ext4\" }}\n\
                 contents = [\n{entries}]\n"
            ),
        );
        fs::create_dir(self.path("out")).unwrap();
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The message of a run that failed as it should.
pub(crate) fn refused(code: i32, output: &Output) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    complaint(output)
}

/// The message of a run that cleaned up and ended by the signal that it got.
pub(crate) fn interrupted(signal: i32, output: &Output) -> String {
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(output.status.signal(), Some(signal), "{}", text(&output.stderr));
    complaint(output)
}

/// The one message of a run that failed.
fn complaint(output: &Output) -> String {
    let message = text(&output.stderr);
    assert_eq!(text(&output.stdout), "", "{message}");
    assert!(message.starts_with("diskwright: error: "), "{message}");
    assert!(!message.contains('\x1b'), "{message}");
    message
}

/// Runs a judge that has to be content; returns what it says.
pub(crate) fn judge(program: &str, arguments: &[&str]) -> String {
    let said = must(crate::support::tools::command(program).args(arguments));
    said.text() + &said.error()
}
