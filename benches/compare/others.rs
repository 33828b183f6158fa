//! The programs of the comparison that a machine does not have: the older version of this program, and the
//! newest versions of others.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::run::Case;

/// The default revision of the older program: before files were opened by name in open directories.
const REVISION: &str = "f300d994";

/// The older program: `DISKWRIGHT_BASELINE` is its path; without it, the git revision `DISKWRIGHT_REVISION`
/// is built once, like the program under test.
pub(crate) fn baseline(folder: &Path) -> PathBuf {
    if let Some(path) = std::env::var_os("DISKWRIGHT_BASELINE") {
        return PathBuf::from(path);
    }
    let revision = std::env::var("DISKWRIGHT_REVISION").unwrap_or_else(|_| REVISION.to_owned());
    let source = folder.join(format!("revision-{revision}"));
    let program = source.join("target/release/diskwright");
    if program.exists() {
        return program;
    }
    let _ = std::fs::remove_dir_all(&source);
    std::fs::create_dir_all(&source).expect("the folder of the revision can be made");
    let script = format!(
        "git -C '{}' archive '{revision}' | tar -x -C '{}'",
        env!("CARGO_MANIFEST_DIR"),
        source.display()
    );
    succeed(Command::new("sh").args(["-euc", &script]));
    println!("building revision {revision}");
    let manifest = source.join("Cargo.toml");
    succeed(
        Command::new(env!("CARGO"))
            .args(["build", "--release", "--locked", "--bin", "diskwright", "--manifest-path"])
            .arg(&manifest)
            .arg("--target-dir")
            .arg(source.join("target")),
    );
    program
}

fn succeed(command: &mut Command) {
    let status = command.stdin(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?} failed");
}

/// Programs of the newest Debian, from the folder `DISKWRIGHT_SID`. They run with the libraries of that
/// folder, so this needs no root.
#[derive(Clone)]
pub(crate) struct Newest {
    root: PathBuf,
}

impl Newest {
    /// `None`, with a message, if there is no such folder.
    pub(crate) fn find() -> Option<Self> {
        let root = std::env::var_os("DISKWRIGHT_SID").map(PathBuf::from);
        if root.is_none() {
            eprintln!(
                "\nSKIPPED: the newest of the other programs. Set DISKWRIGHT_SID to a folder made by\n    debootstrap \
                 --variant=minbase --include=e2fsprogs,qemu-utils,erofs-utils,squashfs-tools,systemd-repart sid FOLDER"
            );
        }
        let root = root?;
        let newest = Self { root };
        for program in
            ["sbin/mke2fs", "bin/qemu-img", "bin/mkfs.erofs", "bin/mksquashfs", "bin/systemd-repart"]
        {
            let path = newest.root.join("usr").join(program);
            assert!(path.exists(), "DISKWRIGHT_SID has no {}", path.display());
        }
        Some(newest)
    }

    /// The words by which a shell runs one of its programs.
    pub(crate) fn words(&self, program: &str) -> String {
        self.command(program).join(" ")
    }

    fn command(&self, program: &str) -> Vec<String> {
        let root = self.root.display();
        vec![
            "env".to_owned(),
            format!("MKE2FS_CONFIG={root}/etc/mke2fs.conf"),
            format!("{root}/lib64/ld-linux-x86-64.so.2"),
            "--library-path".to_owned(),
            format!("{root}/usr/lib/x86_64-linux-gnu:{root}/usr/lib/x86_64-linux-gnu/systemd"),
            format!("{root}/usr/{program}"),
        ]
    }

    /// A case that runs `program`, with its version in the name.
    pub(crate) fn case(&self, name: &str, program: &str) -> Case {
        let words = self.command(program);
        let version = if program.ends_with("mke2fs") { "-V" } else { "--version" };
        let said = Command::new("env").args(&words[1..]).arg(version).output().expect("it can be asked");
        let said = String::from_utf8_lossy(if said.stdout.is_empty() { &said.stderr } else { &said.stdout })
            .into_owned();
        let number =
            said.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        Case::new(&format!("{name} ({})", number.unwrap_or("of unknown version")), "env").args(&words[1..])
    }
}
