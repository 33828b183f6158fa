//! QEMU's storage daemon, which passes a disk on: as NBD again, as a file by FUSE, as a device of a virtual machine. And Linux's
//! own client, in such a machine.

use std::path::Path;
use std::process::{Child, Command};

use crate::served::{Served, fixture};
use crate::support::guest::Guest;
use crate::support::left_out;
use crate::support::program::{build, diskwright};
use crate::tools::{command, digest, must, run};

/// The daemon, with the disk of `served` as its node `disk`. It ends when this is dropped.
pub(crate) struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Daemon {
    /// Starts it and waits until `is_ready`. None where it ended before.
    fn start(served: &Served, arguments: &[&str], is_ready: impl Fn() -> bool) -> Option<Self> {
        Self::of(command("qemu-storage-daemon"), served, arguments, is_ready)
    }

    /// The same of a daemon that another user runs.
    pub(crate) fn of(
        mut daemon: Command,
        served: &Served,
        arguments: &[&str],
        is_ready: impl Fn() -> bool,
    ) -> Option<Self> {
        let node = format!(
            "driver=nbd,node-name=disk,read-only=on,server.type=unix,server.path={}",
            served.socket.display()
        );
        let mut daemon = Self(daemon.args(["--blockdev", &node]).args(arguments).spawn().unwrap());
        for _ in 0..2400 {
            if is_ready() {
                return Some(daemon);
            }
            if daemon.0.try_wait().unwrap().is_some() {
                return None;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("the daemon is not ready");
    }
}

#[test]
fn the_storage_daemon_serves_it_again() {
    let (folder, [gpt, _]) = fixture();
    let built = folder.path().join("built.img");
    build(&gpt, &built);
    let served = Served::start(folder.path(), &[&gpt]);
    let again = folder.path().join("again");
    let server = format!("addr.type=unix,addr.path={}", again.display());
    let export = ["--nbd-server", &server, "--export", "type=nbd,id=e,node-name=disk,name=disk"];
    let _daemon = Daemon::start(&served, &export, || again.exists()).unwrap();
    let uri = format!("nbd+unix:///disk?socket={}", again.display());
    must(command("qemu-img").args(["compare", "-f", "raw", "-F", "raw", &uri]).arg(&built));
}

/// The disk is a file, for programs that know no NBD.
#[test]
fn the_storage_daemon_makes_it_a_file() {
    let (folder, [gpt, _]) = fixture();
    let built = folder.path().join("built.img");
    build(&gpt, &built);
    let served = Served::start(folder.path(), &[&gpt]);
    if std::fs::File::options().read(true).write(true).open("/dev/fuse").is_err() {
        left_out::leave("/dev/fuse", "a machine that lets this user mount by FUSE");
    }
    let file = folder.path().join("file");
    std::fs::write(&file, []).unwrap();
    let export = format!("type=fuse,id=e,node-name=disk,mountpoint={}", file.display());
    let is_ready = || file.metadata().is_ok_and(|meta| meta.len() > 0);
    let Some(daemon) = Daemon::start(&served, &["--export", &export], is_ready) else {
        left_out::leave("a mount by FUSE", "a machine that lets this user mount by FUSE");
    };
    let read = digest(&file);
    drop(daemon);
    run(command("umount").args(["-l"]).arg(&file));
    assert_eq!(read, digest(&built));
}

/// Linux reads the disk by itself: as a device of the machine, from the storage daemon by vhost-user, and by its module nbd, which
/// asks for nothing but the oldest replies, over one connection and over four. And as a disk that QEMU lays its own snapshot over,
/// which takes what the guest writes and is gone with it.
#[test]
fn linux_reads_it_by_vhost_user_and_by_its_own_client() {
    let (folder, [gpt, _]) = fixture();
    let built = folder.path().join("built.img");
    build(&gpt, &built);
    let device = folder.path().join("device");
    let served = Served::start(folder.path(), &[&gpt]);
    let export =
        format!("type=vhost-user-blk,id=e,node-name=disk,addr.type=unix,addr.path={}", device.display());
    let _daemon = Daemon::start(&served, &["--export", &export], || device.exists()).unwrap();
    let mut serve = diskwright();
    serve.arg("serve").arg(&gpt).args(["--tcp", "127.0.0.1:0"]);
    let by_tcp = Served::of(serve, folder.path().join("none"));
    let port = by_tcp.uri.trim_end_matches('/').rsplit(':').next().unwrap();
    let root = root_digest(&served, folder.path());
    let script = format!(
        r#"
for disk in /sys/block/vd?; do
    if [ "$(cat "$disk/serial")" = snapshot ]; then snapshot=/dev/${{disk##*/}}; else vhost=/dev/${{disk##*/}}; fi
done
echo "vhost: $(sha256sum < "$vhost")"
echo "ro: $(cat "/sys/block/${{vhost##*/}}/ro")"
echo "snapshot: $(sha256sum < "$snapshot")"
echo written | dd of="$snapshot" bs=512 seek=1 conv=notrunc,sync 2> /dev/null
sync
echo 3 > /proc/sys/vm/drop_caches
dd if="$snapshot" bs=512 skip=1 count=1 2> /dev/null | head -n 1
ifconfig lo up
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
nbd-client 10.0.2.2 {port} /dev/nbd0 -N root
echo "root: $(sha256sum < /dev/nbd0)"
echo "ro: $(cat /sys/block/nbd0/ro)"
mount -t ext4 -o ro /dev/nbd0 /mnt
ls /mnt | wc -l
umount /mnt
nbd-client -d /dev/nbd0
nbd-client 10.0.2.2 {port} /dev/nbd1 -C 4 -persist
echo "four: $(sha256sum < /dev/nbd1)"
nbd-client -d /dev/nbd1
"#
    );
    let chardev = format!("socket,id=device,path={}", device.display());
    let said = ["nbd", "virtio_net", "ext4"]
        .into_iter()
        .fold(Guest::new(), Guest::module)
        .program("nbd-client")
        .arguments(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net"])
        .arguments(["-object", "memory-backend-memfd,id=memory,size=1024M,share=on"])
        .arguments(["-machine", "memory-backend=memory", "-chardev", &chardev])
        .arguments(["-device", "vhost-user-blk-pci,chardev=device"])
        .arguments(["-drive", &format!("file={},format=raw,if=none,id=snapshot,snapshot=on", served.uri)])
        .arguments(["-device", "virtio-blk-pci,drive=snapshot,serial=snapshot"])
        .run(&script);
    let whole = digest(&built);
    for line in [
        format!("vhost: {whole}"),
        format!("snapshot: {whole}"),
        "\nwritten\n".to_owned(),
        format!("four: {whole}"),
        format!("root: {root}"),
    ] {
        assert!(said.contains(&line), "no `{line}` in\n{said}");
    }
    assert_eq!(said.matches("ro: 1\n").count(), 2, "{said}");
}

/// The digest of the partition `root`, by a client that others trust.
fn root_digest(served: &Served, folder: &Path) -> String {
    let out = folder.join("root.img");
    must(command("nbdcopy").arg(served.export("root")).arg(&out));
    digest(&out)
}
