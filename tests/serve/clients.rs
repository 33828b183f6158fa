//! Clients of others: libnbd's tools, QEMU's, nbdkit, a crate, and a kernel by way of FUSE.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use crate::daemon::Daemon;
use crate::served::{Served, fixture, nbdsh};
use crate::support::judges::{file, find};
use crate::support::left_out;
use crate::support::program::{as_nobody, build, copy_to, project};
use crate::support::table::{Extent, partitions};
use crate::tools::{command, digest, is_root, must, run};

/// A folder with a disk that is served, and the same disk as a file.
fn both() -> (tempfile::TempDir, Served, std::path::PathBuf) {
    let (folder, [gpt, _]) = fixture();
    let built = folder.path().join("built.img");
    build(&gpt, &built);
    let served = Served::start(folder.path(), &[&gpt]);
    (folder, served, built)
}

/// The bytes of a partition.
fn bytes((start, length): Extent) -> std::ops::Range<usize> {
    let index = |sectors: u64| usize::try_from(sectors * 512).unwrap();
    index(start)..index(start + length)
}

/// A plugin or a filter of nbdkit.
fn nbdkit_file(name: &str) -> std::path::PathBuf {
    file(&format!("/usr/lib/x86_64-linux-gnu/nbdkit/{name}.so"))
}

fn said(program: &str, arguments: &[&str]) -> String {
    must(command(program).args(arguments)).text()
}

#[test]
fn nbdinfo_sees_exports_flags_sizes_and_the_map() {
    let (_folder, served, built) = both();
    let size = built.metadata().unwrap().len();
    assert_eq!(said("nbdinfo", &["--size", &served.uri]).trim(), size.to_string());
    for (what, is) in [("readonly", true), ("multi-conn", true), ("flush", false), ("trim", false)] {
        let said = run(command("nbdinfo").args(["--can", what, &served.uri]));
        assert_eq!(said.code, if is { 0 } else { 2 }, "{what}: {}", said.error());
    }
    let about = said("nbdinfo", &[&served.uri]);
    for line in [
        "protocol: newstyle-fixed without TLS, using structured packets",
        "block_size_minimum: 1",
        "block_size_preferred: 4096",
        "block_size_maximum: 33554432",
        "base:allocation",
        "is_read_only: true",
    ] {
        assert!(about.contains(line), "{line}: {about}");
    }
    assert!(about.contains("DOS/MBR boot sector"), "it reads the content: {about}");
    let listed = said("nbdinfo", &["--list", &served.uri]);
    for name in ["", "1", "2", "3", "ESP", "swap", "root"] {
        assert!(listed.contains(&format!("export=\"{name}\":")), "{name}: {listed}");
    }
    let listed = said("nbdinfo", &["--list", "--json", &served.uri]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    for export in listed["exports"].as_array().unwrap() {
        assert!(export["description"].is_string(), "{export}");
    }
    // Holes and data alternate, cover the disk, and the data is no less than what is there.
    let map = said("nbdinfo", &["--map", &served.uri]);
    let mut end = 0;
    let mut kinds = Vec::new();
    for line in map.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[0].parse::<u64>().unwrap(), end);
        end += words[1].parse::<u64>().unwrap();
        kinds.push(words[2].to_owned());
    }
    assert_eq!(end, size);
    assert!(kinds.len() > 3 && kinds.windows(2).all(|pair| pair[0] != pair[1]), "{map}");
}

#[test]
fn nbdcopy_copies_all_with_one_and_with_four_connections() {
    let (folder, served, built) = both();
    for connections in ["1", "4"] {
        let out = folder.path().join("copy.img");
        said("nbdcopy", &["--connections", connections, &served.uri, out.to_str().unwrap()]);
        assert_eq!(digest(&out), digest(&built), "{connections}");
        // What is a hole is none of the copy's blocks.
        let blocks = |path: &Path| std::os::unix::fs::MetadataExt::blocks(&path.metadata().unwrap());
        assert!(blocks(&out) < blocks(&built) + 2048, "{} {}", blocks(&out), blocks(&built));
    }
}

#[test]
fn each_partition_is_an_export_of_its_bytes() {
    let (folder, served, built) = both();
    let disk = std::fs::read(&built).unwrap();
    let extents = partitions(&built);
    assert_eq!(extents.len(), 3);
    for (extent, names) in extents.into_iter().zip([["1", "ESP"], ["2", "swap"], ["3", "root"]]) {
        for name in names {
            let out = folder.path().join("part.img");
            said("nbdcopy", &[&served.export(name), out.to_str().unwrap()]);
            assert!(std::fs::read(&out).unwrap() == disk[bytes(extent)], "{name}");
        }
    }
}

#[test]
fn nbdsh_reads_odd_places_and_gets_errors() {
    let (_folder, served, built) = both();
    let disk = std::fs::read(&built).unwrap();
    let script = "import hashlib
size = h.get_size()
for at, length in [(1, 3), (511, 4099), (size - 5, 5), (size // 2 + 1, 1 << 20), (0, 32 << 20)]:
    length = min(length, size - at)
    print(hashlib.sha256(h.pread(length, at)).hexdigest())
h.set_strict_mode(0)
for ask in [lambda: h.pread(2, size - 1), lambda: h.pwrite(b'x', 0), lambda: h.trim(512, 0), lambda: h.zero(512, 0),
            lambda: h.pread(1, 1 << 62), lambda: h.cache(512, 0)]:
    try:
        ask()
        print('done')
    except nbd.Error as error:
        print(error.errno)
print(h.pread(2, 510).hex())
";
    let said = must(&mut nbdsh(&served.uri, script)).text();
    let lines: Vec<&str> = said.lines().collect();
    let size = disk.len();
    let places = [(1, 3), (511, 4099), (size - 5, 5), (size / 2 + 1, 1 << 20), (0, 32 << 20)];
    for (line, (at, length)) in lines.iter().zip(places) {
        use sha2::{Digest, Sha256};
        let part = &disk[at..(at + length).min(size)];
        let hash: String = Sha256::digest(part).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(*line, hash, "{at}+{length}");
    }
    assert_eq!(lines[5..], ["EINVAL", "EPERM", "EPERM", "EPERM", "EINVAL", "EINVAL", "55aa"]);
}

#[test]
fn qemu_reads_maps_converts_and_compares() {
    let (folder, served, built) = both();
    let file = built.to_str().unwrap();
    let about = said("qemu-img", &["info", "--output=json", &served.uri]);
    let about: serde_json::Value = serde_json::from_str(&about).unwrap();
    assert_eq!(about["virtual-size"].as_u64().unwrap(), built.metadata().unwrap().len());
    said("qemu-img", &["compare", "-f", "raw", "-F", "raw", &served.uri, file]);
    let qcow2 = folder.path().join("disk.qcow2");
    let qcow2 = qcow2.to_str().unwrap();
    said("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &served.uri, qcow2]);
    said("qemu-img", &["check", qcow2]);
    said("qemu-img", &["compare", "-F", "raw", qcow2, file]);
    let map = said("qemu-img", &["map", "--output=json", "-f", "raw", &served.uri]);
    let map: serde_json::Value = serde_json::from_str(&map).unwrap();
    let zeros = map.as_array().unwrap().iter().filter(|part| part["zero"] == true).count();
    assert!(zeros > 0 && zeros < map.as_array().unwrap().len(), "{map}");
    let read = said("qemu-io", &["-r", "-f", "raw", "-c", "read -v 510 2", "-c", "read 0 1M", &served.uri]);
    assert!(read.contains("55 aa") && read.contains("read 1048576/1048576"), "{read}");
    let refused = run(command("qemu-io").args(["-f", "raw", "-c", "write 0 512", &served.uri]));
    assert!(refused.code != 0 || refused.error().contains("read-only"), "{}", refused.error());
    let listed = said("qemu-nbd", &["-L", "-k", served.socket.to_str().unwrap()]);
    for name in ["1", "ESP", "root"] {
        assert!(listed.contains(&format!("export: '{name}'")), "{listed}");
    }
    assert!(listed.contains("base:allocation") && listed.contains("readonly"), "{listed}");
}

#[test]
fn an_overlay_of_qemu_lies_on_a_disk_that_was_never_written() {
    let (folder, served, built) = both();
    let (overlay, ours) = (folder.path().join("overlay.qcow2"), folder.path().join("ours.qcow2"));
    let size = built.metadata().unwrap().len().to_string();
    let overlay = overlay.to_str().unwrap();
    said("qemu-img", &["create", "-f", "qcow2", "-b", &served.uri, "-F", "raw", overlay]);
    let mut create = crate::support::program::diskwright();
    must(create.arg("create").arg(&ours).args(["--size", &size, "--backing-uri", &served.uri]));
    for image in [overlay, ours.to_str().unwrap()] {
        said("qemu-img", &["compare", "-F", "raw", image, built.to_str().unwrap()]);
        said("qemu-io", &["-c", "write -P 7 4096 4096", "-c", "read -P 7 4096 4096", image]);
        said("qemu-img", &["check", image]);
        let info = said("qemu-img", &["info", image]);
        assert!(info.contains(&format!("backing file: {}", served.uri)), "{info}");
        assert!(info.contains("backing file format: raw"), "{info}");
    }
}

#[test]
fn nbdkit_partitions_and_writes_over_it() {
    let (folder, served, built) = both();
    let out = folder.path().join("part.img");
    let part = |filter: &str, more: &[&str], run: &str| {
        let mut nbdkit = command("nbdkit");
        nbdkit.args(["-U", "-"]).arg("--filter").arg(nbdkit_file(&format!("filters/nbdkit-{filter}-filter")));
        nbdkit.arg(nbdkit_file("plugins/nbdkit-nbd-plugin")).arg(format!("uri={}", served.uri)).args(more);
        must(nbdkit.args(["--run", run]).env("out", &out))
    };
    part("partition", &["partition=3"], "nbdcopy \"$uri\" \"$out\"");
    let disk = std::fs::read(&built).unwrap();
    assert!(std::fs::read(&out).unwrap() == disk[bytes(partitions(&built)[2])]);
    part("cow", &[], "qemu-io -f raw -c 'write -P 9 0 512' -c 'read -P 9 0 512' \"$uri\"");
}

/// A client in Rust that shares no code with the server or with libnbd; it knows the oldest way in.
#[test]
fn a_crate_reads_by_the_oldest_way() {
    let (_folder, served, built) = both();
    let disk = std::fs::read(&built).unwrap();
    let mut stream = UnixStream::connect(&served.socket).unwrap();
    let export = nbd::client::handshake(&mut stream, b"").unwrap();
    assert_eq!(export.size, u64::try_from(disk.len()).unwrap());
    let mut client = nbd::client::NbdClient::new(&mut stream, &export);
    for (at, length) in [(0, 512), (500, 5000), (disk.len() - 7, 7)] {
        let mut out = vec![0; length];
        client.seek(SeekFrom::Start(u64::try_from(at).unwrap())).unwrap();
        client.read_exact(&mut out).unwrap();
        assert!(out == disk[at..at + length], "{at}");
    }
}

/// The disk as a file of FUSE, for programs that know no NBD.
#[test]
fn e2fsck_judges_a_filesystem_that_was_never_written() {
    let (folder, served, _) = both();
    if std::fs::File::options().read(true).write(true).open("/dev/fuse").is_err() {
        left_out::leave("/dev/fuse", "a machine that lets this user mount by FUSE");
    }
    let mount = folder.path().join("mount");
    std::fs::write(&mount, []).unwrap();
    let (nbdfuse, e2fsck) = (find("nbdfuse"), find("e2fsck"));
    let mut fuse =
        crate::tools::quiet(Command::new(nbdfuse)).arg(&mount).arg(served.export("root")).spawn().unwrap();
    for _ in 0..600 {
        if mount.metadata().is_ok_and(|meta| meta.len() > 0) || fuse.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    if let Some(status) = fuse.try_wait().unwrap() {
        left_out::leave(
            &format!("a mount by FUSE ({status})"),
            "a machine that lets this user mount by FUSE",
        );
    }
    let checked = run(crate::tools::quiet(Command::new(e2fsck)).arg("-fn").arg(&mount));
    must(command("umount").arg(&mount));
    fuse.wait().unwrap();
    assert_eq!(checked.code, 0, "{}{}", checked.text(), checked.error());
}

/// Server and clients without any privilege.
#[test]
fn nobody_serves_and_reads() {
    let own;
    let folder = if is_root() {
        // A folder that everybody can enter; the build folder may not be one.
        own = tempfile::Builder::new().prefix("diskwright").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(own.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        own.path()
    } else {
        own = crate::tools::scratch();
        own.path()
    };
    let [gpt, _] = project(folder);
    let built = folder.join("built.img");
    build(&gpt, &built);
    let program = copy_to(folder);
    let nobody = |program: &Path| {
        if is_root() { as_nobody(program) } else { crate::tools::quiet(Command::new(program)) }
    };
    let mut serve = nobody(&program);
    let socket = folder.join("socket");
    serve.arg("serve").arg("--socket").arg(&socket).arg(&gpt);
    let served = Served::of(serve, socket);
    let out = folder.join("out.img");
    let uri = served.uri.as_str();
    let copy = folder.join("copy.qcow2");
    let (out, built, copy) = (out.to_str().unwrap(), built.to_str().unwrap(), copy.to_str().unwrap());
    for arguments in [
        &["nbdinfo", "--map", uri][..],
        &["nbdinfo", "--list", uri],
        &["nbdinfo", "--can", "multi-conn", uri],
        &["nbdcopy", "--connections", "1", uri, out],
        &["nbdcopy", "--connections", "4", uri, out],
        &["qemu-img", "info", uri],
        &["qemu-img", "map", "-f", "raw", uri],
        &["qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, copy],
        &["qemu-img", "compare", "-f", "raw", "-F", "raw", uri, built],
        &["qemu-io", "-r", "-f", "raw", "-c", "read 0 4k", uri],
        &["qemu-nbd", "-L", "-k", served.socket.to_str().unwrap()],
    ] {
        must(nobody(&find(arguments[0])).args(&arguments[1..]));
    }
    assert_eq!(digest(Path::new(out)), digest(Path::new(built)));
    let shell = nbdsh(uri, "print(h.pread(2, 510).hex())");
    assert_eq!(must(&mut of_nobody(&shell, &nobody)).text().trim(), "55aa");
    let part = folder.join("part.img");
    let mut kit = nobody(&find("nbdkit"));
    for filter in ["partition", "cow"] {
        kit.arg("--filter").arg(nbdkit_file(&format!("filters/nbdkit-{filter}-filter")));
    }
    kit.args(["-U", "-"])
        .arg(nbdkit_file("plugins/nbdkit-nbd-plugin"))
        .arg(format!("uri={uri}"))
        .arg("partition=3");
    must(kit.args(["--run", "nbdcopy \"$uri\" \"$out\""]).env("out", &part));
    let disk = std::fs::read(built).unwrap();
    assert!(std::fs::read(&part).unwrap() == disk[bytes(partitions(Path::new(built))[2])]);
    let again = folder.join("again");
    let server = format!("addr.type=unix,addr.path={}", again.display());
    let export = ["--nbd-server", &server, "--export", "type=nbd,id=e,node-name=disk,name=disk"];
    let daemon = Daemon::of(nobody(&find("qemu-storage-daemon")), &served, &export, || again.exists());
    let by_daemon = format!("nbd+unix:///disk?socket={}", again.display());
    must(nobody(&find("qemu-img")).args(["compare", "-f", "raw", "-F", "raw", &by_daemon, built]));
    drop(daemon);
    let mut activated = nobody(&find("nbdcopy"));
    activated.args(["--", "["]).arg(&program).arg("serve").arg(&gpt).args(["]", "null:"]);
    must(&mut activated);
}

/// A command as another user begins it.
fn of_nobody(command: &Command, nobody: &dyn Fn(&Path) -> Command) -> Command {
    let mut whole = nobody(Path::new(command.get_program()));
    whole.args(command.get_args());
    whole.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    whole
}
