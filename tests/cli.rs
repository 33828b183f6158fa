//! The program as a process: exit codes, what goes to which stream, and what is left behind.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A folder of its own with a manifest, and what its entries bring.
struct Bench {
    folder: TempDir,
}

/// Every id and time is given or derived from the seed, so that nothing here hangs on the machine.
const MANIFEST: &str = r#"
version = 1

[disk]
seed = "0867da16-f251-457d-a9e8-c31f9a3c220b"

[[partition]]
type = "esp"
label = "ESP"
size = "8MiB"
filesystem = { type = "vfat", label = "ESP" }
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
    fn new() -> Self {
        let bench = Self { folder: TempDir::new().unwrap() };
        bench.write("disk.toml", MANIFEST);
        bench.write("esp/EFI/BOOT/BOOTX64.EFI", "loader");
        bench.write("etc/hosts", "127.0.0.1 localhost\n");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// The program, to be run in the folder.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_diskwright"));
        command.current_dir(self.folder.path()).args(arguments).stdin(Stdio::null());
        command.env_remove("SOURCE_DATE_EPOCH").env_remove("NO_COLOR");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs what has to succeed without a word on standard error; returns its standard output.
    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        assert_eq!(errors, "", "{arguments:?}");
        text(&output.stdout)
    }

    /// Runs what has to fail with `code` and nothing on standard output; returns the message.
    fn bad(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        refused(code, &output)
    }

    /// The names in a folder, sorted.
    fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A manifest of 4 GiB: 64 names of one file of 64 MiB, so that there is time to interrupt the work.
    fn long_work(&self) {
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

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The message of a run that failed as it should.
fn refused(code: i32, output: &Output) -> String {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert_eq!(text(&output.stdout), "", "{message}");
    assert!(message.starts_with("diskwright: error: "), "{message}");
    assert!(!message.contains('\x1b'), "{message}");
    message
}

/// Runs a judge that has to be content; returns what it says.
fn judge(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("TZ", "UTC")
        .output()
        .unwrap_or_else(|error| panic!("{program} is not there: {error}"));
    let all = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {all}");
    all
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn help_and_version_are_results_and_no_arguments_are_bad_usage() {
    let bench = Bench::new();
    assert!(bench.good(&["--help"]).contains("build"));
    assert!(bench.good(&["--version"]).starts_with("diskwright "));
    for command in [&["build", "--help"][..], &["mkfs", "ext4", "--help"], &["mkfs", "vfat", "--help"]] {
        let help = bench.good(command);
        assert!(help.contains("Examples:") && help.contains("[default: "), "{help}");
    }
    for arguments in
        [&[][..], &["bild"], &["build"], &["build", "disk.toml", "--level", "3"], &["mkfs", "ext4"]]
    {
        let output = bench.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
    for (value, flag) in [("0", "--jobs"), ("many", "--jobs"), ("qcow2", "--format")] {
        assert_eq!(bench.run(&["build", "disk.toml", flag, value]).status.code(), Some(2), "{flag} {value}");
    }
    assert_eq!(bench.names("."), ["disk.toml", "esp", "etc"]);
}

#[test]
fn an_image_is_named_after_its_manifest_and_judged() {
    let bench = Bench::new();
    let summary = bench.good(&["build", "disk.toml"]);
    assert!(summary.starts_with("disk.img: raw, "), "{summary}");
    assert_eq!(summary.lines().count(), 5, "{summary}");
    assert_eq!(bench.names("."), ["disk.img", "disk.toml", "esp", "etc"]);
    let image = bench.path("disk.img");
    assert!(judge("sgdisk", &["-v", image.to_str().unwrap()]).contains("No problems found"));
    judge("sfdisk", &["--verify", image.to_str().unwrap()]);
    // As any new file: the umask takes its part.
    let mode = fs::metadata(&image).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & 0o111, 0);
    assert_eq!(mode, fs::metadata(bench.path("disk.toml")).unwrap().permissions().mode() & 0o777);
}

#[test]
fn the_bytes_hang_on_neither_jobs_nor_place_nor_output() {
    let bench = Bench::new();
    bench.good(&["build", "disk.toml"]);
    let expected = bench.read("disk.img");
    for jobs in ["1", "2", "7"] {
        bench.good(&["build", "disk.toml", "-o", "again.img", "--jobs", jobs]);
        assert!(bench.read("again.img") == expected, "jobs {jobs}");
    }
    let elsewhere = TempDir::new().unwrap();
    let manifest = bench.path("disk.toml");
    let output = bench
        .command(&["build", manifest.to_str().unwrap(), "-o", "-"])
        .current_dir(elsewhere.path())
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    assert!(output.stdout == expected, "the stream is another image");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    // A manifest from standard input has its paths here.
    let output =
        bench.command(&["build", "-", "-o", "-"]).stdin(fs::File::open(&manifest).unwrap()).output().unwrap();
    assert!(output.stdout == expected, "{}", text(&output.stderr));
    assert!(bench.bad(2, &["build", "-"]).contains("<stdin>:1"));
}

#[test]
fn a_manifest_in_json_is_the_same_disk() {
    let bench = Bench::new();
    let value: Value = toml::from_str(MANIFEST).unwrap();
    bench.write("disk.json", serde_json::to_string(&value).unwrap());
    bench.good(&["build", "disk.toml", "-o", "toml.img"]);
    bench.good(&["build", "disk.json", "-o", "json.img"]);
    assert!(bench.read("toml.img") == bench.read("json.img"));
    // Without a seed it derives from what is said, however it is said, and not from what the file is called.
    let unseeded = MANIFEST.replace("seed = ", "# seed = ");
    bench.write("a.toml", &unseeded);
    bench.write("b.toml", unseeded.replace("size = \"8MiB\"", "size = 8388608 # the same"));
    let value: Value = toml::from_str(&unseeded).unwrap();
    bench.write("c", serde_json::to_string_pretty(&value).unwrap());
    bench.write("d.toml", unseeded.replace("\"root\"\nfile", "\"Root\"\nfile"));
    for name in ["a.toml", "b.toml", "c", "d.toml"] {
        bench.good(&["build", name, "-o", &format!("{name}.img")]);
    }
    let [a, b, c, d] = ["a.toml.img", "b.toml.img", "c.img", "d.toml.img"].map(|name| bench.read(name));
    assert!(a == b && a == c);
    assert!(a[512..1024] != d[512..1024], "another label, another disk GUID");
    assert!(a != bench.read("toml.img"), "a seed of its own");
}

#[test]
fn the_report_says_what_the_judges_say() {
    let bench = Bench::new();
    let report: Value = serde_json::from_str(&bench.good(&["build", "disk.toml", "--json"])).unwrap();
    let image = bench.path("disk.img");
    let seen: Value = serde_json::from_str(&judge("sfdisk", &["--json", image.to_str().unwrap()])).unwrap();
    let seen = &seen["partitiontable"];
    assert_eq!(report["output"], "disk.img");
    assert_eq!(report["format"], "raw");
    assert_eq!(report["table"], "gpt");
    assert_eq!(report["sector_size"], 512);
    assert_eq!(report["size"], fs::metadata(&image).unwrap().len());
    assert_eq!(report["warnings"], Value::Array(Vec::new()));
    assert_eq!(report["guid"].as_str().unwrap().to_uppercase(), seen["id"].as_str().unwrap());
    let partitions = report["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 3);
    for (number, (ours, theirs)) in partitions.iter().zip(seen["partitions"].as_array().unwrap()).enumerate()
    {
        assert_eq!(ours["number"], number + 1);
        assert_eq!(ours["offset"].as_u64().unwrap(), theirs["start"].as_u64().unwrap() * 512);
        assert_eq!(ours["size"].as_u64().unwrap(), theirs["size"].as_u64().unwrap() * 512);
        assert_eq!(ours["guid"].as_str().unwrap().to_uppercase(), theirs["uuid"].as_str().unwrap());
        assert_eq!(ours["type_guid"].as_str().unwrap().to_uppercase(), theirs["type"].as_str().unwrap());
        assert_eq!(ours["label"].as_str().unwrap(), theirs["name"].as_str().unwrap_or(""));
    }
    // What dumpe2fs counts in the second partition.
    let offset = partitions[1]["offset"].as_u64().unwrap();
    let bytes = bench.read("disk.img");
    bench.write("root.img", &bytes[usize::try_from(offset).unwrap()..]);
    let seen = judge("dumpe2fs", &["-h", bench.path("root.img").to_str().unwrap()]);
    let field = |name: &str| {
        let line = seen.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    let filesystem = &partitions[1]["filesystem"];
    for (ours, theirs) in [
        ("block_size", "Block size"),
        ("blocks", "Block count"),
        ("free_blocks", "Free blocks"),
        ("inodes", "Inode count"),
        ("free_inodes", "Free inodes"),
    ] {
        assert_eq!(filesystem[ours].to_string(), field(theirs), "{ours}");
    }
    let number = |key: &str| filesystem[key].as_u64().unwrap();
    assert_eq!(number("used_blocks") + number("free_blocks"), number("blocks"));
    assert_eq!(number("used_inodes") + number("free_inodes"), number("inodes"));
    assert_eq!(filesystem["uuid"].as_str().unwrap(), field("Filesystem UUID"));
    assert_eq!((filesystem["type"].as_str(), filesystem["label"].as_str()), (Some("ext4"), Some("root")));
    assert_eq!(partitions[0]["filesystem"]["type"], "vfat");
    assert_eq!(partitions[2]["filesystem"]["type"], "swap");
}

#[test]
fn a_dry_run_shows_and_writes_nothing() {
    let bench = Bench::new();
    let map = bench.good(&["build", "disk.toml", "--dry-run"]);
    assert!(map.starts_with("image ") && map.contains("gpt: primary header"), "{map}");
    assert!(map.contains("file           esp/EFI/BOOT/BOOTX64.EFI"), "{map}");
    assert_eq!(map, bench.good(&["build", "disk.toml", "--dry-run", "-o", "no/where.img"]));
    let report: Value =
        serde_json::from_str(&bench.good(&["build", "disk.toml", "--dry-run", "--json"])).unwrap();
    assert_eq!(report["partitions"].as_array().unwrap().len(), 3);
    assert!(report.get("output").is_none());
    assert!(bench.good(&["mkfs", "ext4", "etc", "--dry-run"]).contains("ext4: superblock"));
    assert_eq!(bench.names("."), ["disk.toml", "esp", "etc"]);
}

#[test]
fn the_suffix_or_a_flag_tells_the_format() {
    let bench = Bench::new();
    let message = bench.bad(2, &["build", "disk.toml", "-o", "disk.qcow9"]);
    assert!(message.contains("disk.qcow9") && message.contains("--format raw"), "{message}");
    bench.good(&["build", "disk.toml", "-o", "disk.qcow9", "--format", "raw"]);
    bench.good(&["build", "disk.toml", "-o", "DISK.RAW"]);
    assert!(bench.read("disk.qcow9") == bench.read("DISK.RAW"));
    bench.write("raw.toml", MANIFEST.replace("[disk]", "[disk]\nformat = \"raw\""));
    bench.good(&["build", "raw.toml", "-o", "disk"]);
    assert!(bench.read("disk") == bench.read("DISK.RAW"));
}

#[test]
fn standard_output_has_one_owner() {
    let bench = Bench::new();
    let message = bench.bad(2, &["build", "disk.toml", "-o", "-", "--json"]);
    assert!(message.contains("cannot both go to standard output"), "{message}");
    // A full device behind standard output.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = bench.command(&["build", "disk.toml", "-o", "-"]).stdout(full).output().unwrap();
    let message = refused(1, &output);
    assert!(message.contains("No space left on device"), "{message}");
    // A reader that leaves.
    let mut child = bench
        .command(&["build", "disk.toml", "-o", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(refused(1, &child.wait_with_output().unwrap()).contains("Broken pipe"));
}

#[test]
fn an_output_that_cannot_be_is_one_error() {
    let bench = Bench::new();
    let message = bench.bad(1, &["build", "disk.toml", "-o", "no/where.img"]);
    assert!(message.contains("no/where.img") && message.contains("No such file"), "{message}");
    let message = bench.bad(1, &["build", "disk.toml", "-o", "etc", "--format", "raw"]);
    assert!(message.contains("the output is not a file"), "{message}");
    // Over the manifest, and over a source.
    let message = bench.bad(2, &["build", "disk.toml", "-o", "disk.toml", "--format", "raw"]);
    assert!(message.contains("replace the manifest"), "{message}");
    let message = bench.bad(2, &["build", "disk.toml", "-o", "etc/hosts", "--format", "raw"]);
    assert!(message.contains("one of its own sources") && message.contains("etc/hosts"), "{message}");
    assert_eq!(bench.read("etc/hosts"), b"127.0.0.1 localhost\n");
    assert_eq!(text(&bench.read("disk.toml")), MANIFEST);
}

/// Runs the program as nobody where this is root, who may write and read anything.
fn unprivileged(bench: &Bench, arguments: &[&str]) -> Output {
    if !is_root() {
        return bench.run(arguments);
    }
    fs::set_permissions(bench.folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // Where the program lies nobody may look.
    let copy = TempDir::new_in("/tmp").unwrap();
    fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = copy.path().join("diskwright");
    fs::copy(env!("CARGO_BIN_EXE_diskwright"), &program).unwrap();
    Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(program)
        .args(arguments)
        .current_dir(bench.folder.path())
        .env_remove("SOURCE_DATE_EPOCH")
        .stdin(Stdio::null())
        .output()
        .expect("setpriv of util-linux")
}

#[test]
fn nobody_gets_the_same_bytes_and_errors_about_what_is_closed() {
    let bench = Bench::new();
    bench.good(&["build", "disk.toml", "-o", "root.img"]);
    fs::create_dir(bench.path("out")).unwrap();
    fs::set_permissions(bench.path("out"), fs::Permissions::from_mode(0o777)).unwrap();
    let output = unprivileged(&bench, &["build", "disk.toml", "-o", "out/nobody.img"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(bench.read("root.img") == bench.read("out/nobody.img"));
    fs::remove_file(bench.path("out/nobody.img")).unwrap();
    // A folder that cannot be written to.
    fs::set_permissions(bench.path("out"), fs::Permissions::from_mode(0o555)).unwrap();
    let message = refused(1, &unprivileged(&bench, &["build", "disk.toml", "-o", "out/nobody.img"]));
    assert!(message.contains("out/nobody.img") && message.contains("Permission denied"), "{message}");
    assert_eq!(bench.names("out"), [""; 0]);
    // A source that cannot be read, and one that cannot even be listed.
    bench.write("etc/shadow", "secret");
    fs::set_permissions(bench.path("etc/shadow"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(bench.path("out"), fs::Permissions::from_mode(0o777)).unwrap();
    bench.write("out/disk.img", "old");
    let message = refused(1, &unprivileged(&bench, &["build", "disk.toml", "-o", "out/disk.img"]));
    assert!(message.contains("etc/shadow") && message.contains("Permission denied"), "{message}");
    bench.write("esp/closed/file", "x");
    fs::set_permissions(bench.path("esp/closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let message = refused(1, &unprivileged(&bench, &["build", "disk.toml", "-o", "out/disk.img"]));
    assert!(message.contains("esp/closed") && message.contains("disk.toml:12: "), "{message}");
    assert_eq!(bench.read("out/disk.img"), b"old");
    assert_eq!(bench.names("out"), ["disk.img"]);
    fs::set_permissions(bench.path("esp/closed"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_full_disk_leaves_the_old_image() {
    let bench = Bench::new();
    bench.write("source/large", vec![1; 16 << 20]);
    bench.write("out/disk.img", "old");
    // A limit on the length of files is a full disk that anybody can have.
    let limited = format!(
        "trap '' XFSZ; ulimit -f 100; exec {} mkfs ext4 source -o out/disk.img",
        env!("CARGO_BIN_EXE_diskwright")
    );
    let output =
        Command::new("bash").args(["-c", &limited]).current_dir(bench.folder.path()).output().unwrap();
    let message = refused(1, &output);
    assert!(message.contains("File too large") && message.contains("ulimit -f"), "{message}");
    assert_eq!(bench.read("out/disk.img"), b"old");
    assert_eq!(bench.names("out"), ["disk.img"]);
}

/// A filesystem of 4 MiB in memory, unmounted in the end.
struct Small(PathBuf);

impl Small {
    fn new(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        judge("mount", &["-t", "tmpfs", "-o", "size=4m", "small", at.to_str().unwrap()]);
        Self(at.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        judge("umount", &[self.0.to_str().unwrap()]);
    }
}

#[test]
fn a_full_filesystem_leaves_the_old_image() {
    // Mounting is root's; the limit above is the same fault for everybody else.
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    bench.write("source/large", vec![1; 16 << 20]);
    let small = Small::new(&bench.path("small"));
    bench.write("small/disk.img", "old");
    let message = bench.bad(1, &["mkfs", "ext4", "source", "-o", "small/disk.img"]);
    assert!(message.contains("No space left") && message.contains("nothing was left behind"), "{message}");
    assert_eq!(bench.read("small/disk.img"), b"old");
    assert_eq!(bench.names("small"), ["disk.img"]);
    drop(small);
}

/// Waits until the program holds a nameless or temporary file in `folder` that has grown.
fn wait_for_work(child: &Child, folder: &Path) {
    let fds = PathBuf::from(format!("/proc/{}/fd", child.id()));
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        for entry in fs::read_dir(&fds).into_iter().flatten().flatten() {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            let grown = fs::metadata(entry.path()).is_ok_and(|meta| meta.blocks() > 2048);
            if target.starts_with(folder) && grown {
                return;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("no work seen in {}", folder.display());
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let id = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(id, signal).unwrap();
}

#[test]
fn a_signal_in_the_middle_leaves_nothing() {
    use rustix::process::Signal;
    let bench = Bench::new();
    bench.long_work();
    bench.write("out/disk.img", "old");
    for number in [Signal::INT, Signal::TERM, Signal::HUP, Signal::KILL] {
        let child = bench
            .command(&["build", "long.toml", "-o", "out/disk.img"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for_work(&child, &bench.path("out").canonicalize().unwrap());
        signal(&child, number);
        let output = child.wait_with_output().unwrap();
        if number == Signal::KILL {
            assert_eq!(output.status.signal(), Some(9));
        } else {
            let message = refused(1, &output);
            assert!(message.contains("stopped by a signal"), "{message}");
        }
        assert_eq!(bench.names("out"), ["disk.img"], "{number:?}");
        assert_eq!(bench.read("out/disk.img"), b"old", "{number:?}");
    }
}

#[test]
fn a_second_signal_ends_what_does_not_move() {
    use rustix::process::Signal;
    let bench = Bench::new();
    bench.long_work();
    // Nobody reads, so the program waits for ever once the pipe is full.
    let mut child = bench.command(&["build", "long.toml", "-o", "-"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 4096]).unwrap();
    signal(&child, Signal::INT);
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none());
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().signal(), Some(2));
}

#[test]
fn what_the_parent_ignores_stays_ignored() {
    let bench = Bench::new();
    bench.long_work();
    let script =
        format!("trap '' INT; exec {} build long.toml -o out/disk.img", env!("CARGO_BIN_EXE_diskwright"));
    let child = Command::new("bash")
        .args(["-c", &script])
        .current_dir(bench.folder.path())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_work(&child, &bench.path("out").canonicalize().unwrap());
    signal(&child, rustix::process::Signal::INT);
    std::thread::sleep(Duration::from_millis(100));
    signal(&child, rustix::process::Signal::TERM);
    let message = refused(1, &child.wait_with_output().unwrap());
    assert!(message.contains("stopped by a signal"), "{message}");
    assert_eq!(bench.names("out"), [""; 0]);
}

/// What a command shows on a terminal, with `environment` before it.
fn on_a_terminal(bench: &Bench, environment: &str, arguments: &str) -> (bool, String) {
    let program = env!("CARGO_BIN_EXE_diskwright");
    let output = Command::new("script")
        .args(["-qec", &format!("{environment} {program} {arguments}"), "/dev/null"])
        .current_dir(bench.folder.path())
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .output()
        .expect("script of bsdutils");
    (output.status.success(), text(&output.stdout))
}

#[test]
fn a_terminal_gets_a_bar_for_long_work_and_colour_unless_it_declines() {
    let bench = Bench::new();
    bench.long_work();
    let (done, seen) = on_a_terminal(&bench, "", "build long.toml -o - > /dev/null");
    assert!(done && seen.contains("writing  [") && seen.contains("left"), "{seen}");
    assert!(seen.contains("/4.00 GiB") && seen.contains("/s"), "{seen}");
    // Quick work shows none.
    let (done, seen) = on_a_terminal(&bench, "", "build disk.toml");
    assert!(done && !seen.contains("writing"), "{seen}");
    let (done, seen) = on_a_terminal(&bench, "", "build missing.toml");
    assert!(!done && seen.starts_with("diskwright: \x1b[1;31merror\x1b[0m: "), "{seen}");
    for environment in ["NO_COLOR=1", "TERM=dumb"] {
        let (_, seen) = on_a_terminal(&bench, environment, "build missing.toml");
        assert!(seen.starts_with("diskwright: error: ") && !seen.contains('\x1b'), "{environment}: {seen}");
    }
    let (done, seen) = on_a_terminal(&bench, "", "build disk.toml -o -");
    assert!(!done && seen.contains("not written to a terminal"), "{seen}");
}

#[test]
fn the_epoch_dates_and_clamps() {
    let bench = Bench::new();
    let time = std::time::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    let hosts = fs::File::options().write(true).open(bench.path("etc/hosts")).unwrap();
    hosts.set_modified(time).unwrap();
    let made = |epoch: Option<&str>, flags: &[&str]| {
        let mut command = bench.command(&["mkfs", "ext4", "etc", "-o", "etc.img"]);
        command.args(flags);
        if let Some(epoch) = epoch {
            command.env("SOURCE_DATE_EPOCH", epoch);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let image = bench.path("etc.img");
        let inode = judge("debugfs", &["-R", "stat /hosts", image.to_str().unwrap()]);
        let volume = judge("debugfs", &["-R", "show_super_stats -h", image.to_str().unwrap()]);
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap_or_default();
            line.to_owned()
        };
        (field(&inode, "mtime: "), field(&volume, "Filesystem created:"))
    };
    let hexadecimal = |seconds: u32| format!("0x{seconds:08x}");
    let year = |text: &str| text.trim().rsplit(' ').next().unwrap_or_default().to_owned();
    let (mtime, created) = made(None, &[]);
    assert!(mtime.starts_with(&hexadecimal(2_000_000_000)), "{mtime}");
    // dumpe2fs shows no time that is 0.
    assert_eq!(year(&created), "");
    let (mtime, created) = made(Some("1000000000"), &[]);
    assert!(mtime.starts_with(&hexadecimal(1_000_000_000)), "{mtime}");
    assert_eq!(year(&created), "2001");
    let (mtime, created) = made(Some("1000000000"), &["--time", "1500000000"]);
    assert!(mtime.starts_with(&hexadecimal(1_500_000_000)), "{mtime}");
    assert_eq!(year(&created), "2017");
    for bad in ["", "soon", "-1", "1e9", "99999999999999999999"] {
        let output = bench.command(&["build", "disk.toml"]).env("SOURCE_DATE_EPOCH", bad).output().unwrap();
        assert!(refused(2, &output).contains("SOURCE_DATE_EPOCH"), "{bad}");
    }
}

#[test]
fn mkfs_makes_filesystems_that_their_judges_accept() {
    let bench = Bench::new();
    let summary = bench.good(&["mkfs", "ext4", "etc", "-o", "etc.img", "--label", "etc", "--free", "2MiB"]);
    assert!(summary.starts_with("etc.img: raw, ") && summary.contains("ext4 etc "), "{summary}");
    bench.good(&["mkfs", "ext4", "-o", "empty.ext4", "--size", "64MiB", "--owner", "1000:100"]);
    for name in ["etc.img", "empty.ext4"] {
        judge("e2fsck", &["-fn", bench.path(name).to_str().unwrap()]);
    }
    assert_eq!(bench.read("empty.ext4").len(), 64 << 20);
    bench.good(&["mkfs", "vfat", "esp", "-o", "esp.img", "--label", "ESP", "--uuid", "1234-ABCD"]);
    bench.good(&["mkfs", "vfat", "-o", "empty.vfat", "--size", "1440KiB", "--fat", "12"]);
    for name in ["esp.img", "empty.vfat"] {
        judge("fsck.fat", &["-n", bench.path(name).to_str().unwrap()]);
    }
    let image = bench.path("esp.img");
    let list = judge("mdir", &["-i", image.to_str().unwrap(), "-/", "-b", "::"]);
    assert!(list.contains("BOOTX64.EFI"), "{list}");
    assert!(judge("blkid", &["-p", "-o", "export", image.to_str().unwrap()]).contains("UUID=1234-ABCD"));
}

#[test]
fn the_ids_of_mkfs_derive_from_its_flags_and_not_from_names() {
    let bench = Bench::new();
    bench.write("other/hosts", "127.0.0.1 localhost\n");
    let time = fs::metadata(bench.path("etc")).unwrap().modified().unwrap();
    for name in ["etc", "etc/hosts", "other", "other/hosts"] {
        fs::File::open(bench.path(name)).unwrap().set_modified(time).unwrap();
    }
    bench.good(&["mkfs", "ext4", "etc", "-o", "one.img"]);
    bench.good(&["mkfs", "ext4", "other", "-o", "two.img", "--jobs", "1"]);
    bench.good(&["mkfs", "ext4", "etc", "-o", "three.img", "--label", "x"]);
    let [one, two, three] = ["one.img", "two.img", "three.img"].map(|name| bench.read(name));
    assert!(one == two);
    // The UUID in the superblock, at byte 104 of it.
    assert!(one[1128..1144] != three[1128..1144]);
    let seed = "0867da16-f251-457d-a9e8-c31f9a3c220b";
    let report = |flags: &[&str]| -> Value {
        let all = [&["mkfs", "ext4", "--dry-run", "--json", "--seed", seed][..], flags].concat();
        serde_json::from_str(&bench.good(&all)).unwrap()
    };
    let uuid = |report: &Value| report["partitions"][0]["filesystem"]["uuid"].clone();
    assert_eq!(uuid(&report(&[])), uuid(&report(&["--label", "x"])), "a seed that is given decides alone");
}

#[test]
fn flags_of_mkfs_are_checked_as_keys_are() {
    let bench = Bench::new();
    for (arguments, what) in [
        (&["ext4", "--size", "64M"][..], "64MiB"),
        (&["ext4", "--size", "fill"], "auto"),
        (&["ext4", "--free", "1MiB", "--size", "64MiB"], "`free` means nothing"),
        (&["ext4", "--uuid", "1234-ABCD"], "no volume id"),
        (&["ext4", "--fat", "32"], "--fat"),
        (&["vfat", "--journal", "false"], "--journal"),
        (&["vfat", "etc", "--owner", "preserve"], "vfat holds no owners"),
        (&["vfat", "etc", "--hardlinks", "dedupe"], "vfat holds no hard links"),
        (&["vfat", "--fat-cluster-size", "1000"], "no clusters of this size"),
        (&["vfat", "--sector-size", "1000"], "no disk has sectors"),
        (&["ext4", "etc", "--owner", "me"], "UID:GID"),
        (&["ext4", "--reserved", "60%"], "50%"),
    ] {
        let output = bench.run(&[&["mkfs"][..], arguments, &["-o", "x.img"]].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(what), "{arguments:?}: {}", text(&output.stderr));
    }
    let message = bench.bad(1, &["mkfs", "ext4", "missing", "-o", "x.img"]);
    assert!(message.contains("the source does not exist") && message.contains("at missing"), "{message}");
    let message = bench.bad(2, &["mkfs", "ext4", "etc/hosts", "-o", "x.img"]);
    assert!(message.contains("a file cannot be the root"), "{message}");
    assert_eq!(bench.names("."), ["disk.toml", "esp", "etc"]);
}

#[test]
fn a_source_may_have_a_name_of_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new();
    let name = std::ffi::OsStr::from_bytes(b"odd *\xff\n");
    fs::create_dir(bench.folder.path().join(name)).unwrap();
    let output = bench.command(&["mkfs", "ext4", "-o", "x.img"]).arg(name).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn warnings_go_to_standard_error_and_into_the_report() {
    let bench = Bench::new();
    let output = bench.run(&["mkfs", "vfat", "-o", "x.img", "--label", "esp", "--json"]);
    assert!(output.status.success());
    let warning = text(&output.stderr);
    assert!(warning.starts_with("diskwright: warning: ") && warning.contains("`esp`"), "{warning}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(warning.contains(report["warnings"][0].as_str().unwrap()));
}

#[test]
fn editors_shells_and_man_pages_get_what_they_need() {
    let bench = Bench::new();
    let schema: Value = serde_json::from_str(&bench.good(&["schema"])).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
    assert!(schema["properties"]["partition"].is_object());
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = bench.good(&["completions", shell]);
        assert!(script.contains("dry-run"), "{shell}");
        if shell == "bash" {
            bench.write("completions", script);
            judge("bash", &["-n", bench.path("completions").to_str().unwrap()]);
        }
    }
    let all = bench.good(&["man"]);
    assert_eq!(all.matches("\n.TH ").count(), 8, "{all}");
    fs::create_dir(bench.path("man1")).unwrap();
    assert_eq!(bench.good(&["man", "--dir", "man1"]), "");
    assert_eq!(
        bench.names("man1"),
        [
            "diskwright-build.1",
            "diskwright-completions.1",
            "diskwright-man.1",
            "diskwright-mkfs-ext4.1",
            "diskwright-mkfs-vfat.1",
            "diskwright-mkfs.1",
            "diskwright-schema.1",
            "diskwright.1"
        ]
    );
    bench.bad(1, &["man", "--dir", "missing"]);
}
