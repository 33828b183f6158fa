//! A disk that is never written, against servers of disks that are. It needs libnbd-bin, nbdkit and qemu-utils.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::run::{Case, Group, program};
use crate::trees;

/// A server that runs while clients are timed.
pub(crate) struct Server(Child);

impl Server {
    /// Its number among the processes.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `diskwright serve` of what `arguments` say, and waits until clients can connect.
pub(crate) fn ours(socket: &Path, arguments: &[&str]) -> Server {
    let mut child = Command::new(program())
        .arg("serve")
        .arg("--socket")
        .arg(socket)
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    let out = child.stdout.take().expect("its output is a pipe");
    BufReader::new(out).read_line(&mut line).expect("it says when it is ready");
    Server(child)
}

/// Starts a server of others, and waits for its socket.
fn theirs(command: &mut Command, socket: &Path) -> Server {
    let server = Server(command.spawn().expect("a server of others starts"));
    while !socket.exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    server
}

/// A store of small files: until clients can connect, and all that they read.
pub(crate) fn run(folder: &Path) {
    let tree = trees::store(folder);
    let image = folder.join("served.img");
    let made = Command::new(program())
        .args(["mkfs", "ext4"])
        .arg(&tree)
        .arg("-o")
        .arg(&image)
        .stdout(Stdio::null())
        .status();
    assert!(made.is_ok_and(|made| made.success()), "the disk is written");
    let tree_text = tree.to_str().expect("the bench names its folders");
    start(folder, tree_text);
    let socket = |name: &str| {
        let socket = folder.join(name);
        let _ = std::fs::remove_file(&socket);
        socket
    };
    let sockets = ["nbdkit", "unwritten", "written", "qemu-nbd"].map(socket);
    let [nbdkit, unwritten, written, qemu] = &sockets;
    let _servers = [
        theirs(Command::new("nbdkit").args(["-f", "-r", "-U"]).arg(nbdkit).arg("file").arg(&image), nbdkit),
        ours(unwritten, &["--", "mkfs", "ext4", tree_text]),
        ours(written, &[image.to_str().expect("the bench names its files")]),
        theirs(
            Command::new("qemu-nbd").args(["-r", "-t", "-e", "8", "-f", "raw", "-k"]).arg(qemu).arg(&image),
            qemu,
        ),
    ];
    let names = [
        "nbdkit file, of the written disk",
        "diskwright serve, of the unwritten disk",
        "diskwright serve, of the written disk",
        "qemu-nbd, of the written disk",
    ];
    let uri = |socket: &Path| format!("nbd+unix:///?socket={}", socket.display());
    let copies = names.iter().zip(&sockets);
    let copies = copies.map(|(name, socket)| Case::new(name, "nbdcopy").args([&*uri(socket), "null:"]));
    Group { title: "serve: all bytes to nbdcopy", cases: copies.collect() }.run();
    // The one that the others are compared with is the first.
    let mut both: Vec<_> = names.iter().zip(&sockets).collect();
    both.rotate_right(1);
    let random = both.iter().map(|(name, socket)| {
        let arguments = ["bench", "-f", "raw", "-c", "20000", "-d", "8", "-s", "4096", "-S", "7340032"];
        Case::new(name, "qemu-img").args(arguments).args([uri(socket)])
    });
    Group { title: "serve: 20,000 reads of 4 KiB, 7 MiB apart, by qemu-img bench", cases: random.collect() }
        .run();
    let fio = both.iter().map(|(name, socket)| {
        let arguments =
            ["--name=x", "--ioengine=nbd", "--rw=randread", "--bs=4k", "--iodepth=8", "--number_ios=20000"];
        Case::new(name, "fio").args(arguments).args([format!("--uri={}", uri(socket))])
    });
    if Command::new("fio").arg("--version").stdout(Stdio::null()).status().is_ok() {
        Group { title: "serve: 20,000 random reads of 4 KiB, by fio", cases: fio.collect() }.run();
    }
}

/// From a folder to a socket that listens.
fn start(folder: &Path, tree: &str) {
    let image = folder.join("out.img");
    let cases = vec![
        Case::new("diskwright serve", program()).args(["serve", "--run", "true", "--", "mkfs", "ext4", tree]),
        Case::new("nbdkit linuxdisk", "nbdkit").args(["-r", "-U", "-", "linuxdisk", tree, "--run", "true"]),
        Case::new("mke2fs -d", "mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-d", tree])
            .args([&image])
            .args(["3G"])
            .makes(&image),
    ];
    Group { title: "serve: from a store of small files to a socket that listens", cases }.run();
}
