use super::*;
use crate::tree::{Builder, Meta, Time};

/// A root with these files, which hold their own paths.
fn root(paths: &[&str]) -> Builder {
    let mut builder = Builder::new(Time::default());
    let origin = builder.origin("test");
    for path in paths {
        let meta = Meta::root(0o644, Time::default());
        match path.split_once(" -> ") {
            Some((path, to)) => builder.symlink(path.as_bytes(), to.as_bytes(), meta, origin).unwrap(),
            None => builder.text(path.as_bytes(), path.as_bytes().to_vec(), meta, origin).unwrap(),
        }
    }
    builder
}

fn path(part: &Part) -> String {
    match part {
        Part::Inside { path, .. } => path.clone(),
        Part::Host(path) => panic!("{path:?}"),
    }
}

/// The releases that are found with their kernels and initrds.
fn found(paths: &[&str]) -> Vec<(String, String, String)> {
    let kernels = kernels(root(paths).view()).unwrap();
    let one = |kernel: &Kernel| {
        let initrds: Vec<String> = kernel.initrds.iter().map(path).collect();
        (kernel.version.clone(), path(&kernel.kernel), initrds.join(" "))
    };
    kernels.iter().map(one).collect()
}

#[test]
fn kernels_of_distributions_are_found_the_newest_first() {
    let of = |version: &str, kernel: &str, initrd: &str| {
        vec![(version.to_owned(), kernel.to_owned(), initrd.to_owned())]
    };
    // Debian, with its links, and files that begin like a kernel.
    let debian = found(&[
        "/boot/vmlinuz-6.1.0-9-amd64",
        "/boot/vmlinuz-6.1.0-37-amd64",
        "/boot/initrd.img-6.1.0-37-amd64",
        "/boot/vmlinuz-6.1.0-38-amd64.old",
        "/boot/System.map-6.1.0-37-amd64",
        "/boot/config-6.1.0-37-amd64",
        "/vmlinuz -> boot/vmlinuz-6.1.0-37-amd64",
        "/boot/vmlinuz -> vmlinuz-6.1.0-37-amd64",
    ]);
    assert_eq!(
        debian,
        [
            of("6.1.0-37-amd64", "/boot/vmlinuz-6.1.0-37-amd64", "/boot/initrd.img-6.1.0-37-amd64"),
            of("6.1.0-9-amd64", "/boot/vmlinuz-6.1.0-9-amd64", ""),
        ]
        .concat()
    );
    // Fedora, from an image of a container: no kernel in /boot, and a usr-merge.
    let fedora = found(&[
        "/lib -> usr/lib",
        "/usr/lib/modules/6.9.4-200.fc40.x86_64/vmlinuz",
        "/usr/lib/modules/6.10.1-200.fc40.x86_64/vmlinuz",
        "/usr/lib/modules/6.10.1-200.fc40.x86_64/initramfs.img",
        "/boot/vmlinuz-0-rescue-0123456789abcdef",
        "/boot/initramfs-0-rescue-0123456789abcdef.img",
    ]);
    let modules = "/usr/lib/modules/6.10.1-200.fc40.x86_64";
    assert_eq!(
        fedora,
        [
            of("6.10.1-200.fc40.x86_64", &format!("{modules}/vmlinuz"), &format!("{modules}/initramfs.img")),
            of("6.9.4-200.fc40.x86_64", "/usr/lib/modules/6.9.4-200.fc40.x86_64/vmlinuz", ""),
            of(
                "0-rescue-0123456789abcdef",
                "/boot/vmlinuz-0-rescue-0123456789abcdef",
                "/boot/initramfs-0-rescue-0123456789abcdef.img"
            ),
        ]
        .concat()
    );
    // Alpine, Arch, and a board.
    assert_eq!(
        found(&["/boot/vmlinuz-virt", "/boot/initramfs-virt"]),
        of("virt", "/boot/vmlinuz-virt", "/boot/initramfs-virt")
    );
    assert_eq!(
        found(&["/boot/vmlinuz-linux", "/boot/initramfs-linux.img", "/boot/initramfs-linux-fallback.img"]),
        of("linux", "/boot/vmlinuz-linux", "/boot/initramfs-linux.img")
    );
    // Arch's modules have the kernel of /boot again, and say the name that it has there.
    let mut arch = root(&["/boot/vmlinuz-linux", "/boot/initramfs-linux.img"]);
    let (origin, meta) = (arch.origin("test"), Meta::root(0o644, Time::default()));
    for (name, package) in [("6.6.1-arch1-1", "linux\n"), ("6.6.1-zen1-1", "linux-zen\n")] {
        for (file, text) in [("vmlinuz", "kernel"), ("pkgbase", package)] {
            let path = format!("/usr/lib/modules/{name}/{file}");
            arch.text(path.as_bytes(), text.as_bytes().to_vec(), meta, origin).unwrap();
        }
    }
    let versions = kernels(arch.view()).unwrap();
    let mut versions: Vec<&str> = versions.iter().map(|kernel| kernel.version.as_str()).collect();
    versions.sort_unstable();
    assert_eq!(versions, ["6.6.1-zen1-1", "linux"]);
    // What debuggers read is no kernel.
    assert_eq!(
        found(&["/boot/vmlinuz-6.4", "/boot/vmlinux-6.4.gz", "/boot/vmlinux-6.4.xz"]),
        of("6.4", "/boot/vmlinuz-6.4", "")
    );
    assert_eq!(found(&["/boot/Image"]), of("", "/boot/Image", ""));
}

#[test]
fn releases_are_in_the_order_of_their_numbers() {
    for (older, newer) in [
        ("6.1.9", "6.1.10"),
        ("6.1.0-9", "6.1.0-10"),
        ("6.1", "6.1.1"),
        ("5.19", "6.0"),
        ("6.1-a", "6.1-b"),
        ("6.01", "6.2"),
        ("", "1"),
    ] {
        assert_eq!(compare(older, newer), Ordering::Less, "{older} {newer}");
        assert_eq!(compare(newer, older), Ordering::Greater, "{older} {newer}");
    }
    assert_eq!(compare("6.1.0-a", "6.1.0-a"), Ordering::Equal);
}

#[test]
fn a_root_without_a_kernel_says_what_it_has() {
    let error = kernels(root(&["/boot/config-6.1", "/boot/grub/x", "/usr/x"]).view()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no kernel in the contents of the root\n  expected: /boot/vmlinuz*, /boot/Image*, or \
         /usr/lib/modules/*/vmlinuz\n  found: config-6.1, grub in /boot, and no /usr/lib/modules\n  hint: give a file of \
         this machine by `kernel`, or install a kernel in the tree"
    );
}

#[test]
fn a_system_is_called_what_its_os_release_says() {
    let said = |text: &str, title: Option<&str>| {
        let mut builder = Builder::new(Time::default());
        let (origin, meta) = (builder.origin("test"), Meta::root(0o644, Time::default()));
        builder.text(b"/usr/lib/os-release", text.as_bytes().to_vec(), meta, origin).unwrap();
        release(builder.view(), title).unwrap()
    };
    let of = |title: &str, id: &str| Release { title: title.to_owned(), id: id.to_owned() };
    let debian =
        "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian\"\nVERSION_ID=\"12\"\nID=debian\n";
    assert_eq!(said(debian, None), of("Debian GNU/Linux 12 (bookworm)", "debian"));
    assert_eq!(said(debian, Some("Mine")), of("Mine", "debian"));
    assert_eq!(said("NAME='It is'\nID=\"a/b\"\n", None), of("It is", "linux"));
    assert_eq!(said("PRETTY_NAME=\"a \\\"b\\\"\"\nID=x\n", None), of("a \"b\"", "x"));
    assert_eq!(said("", None), of("Linux", "linux"));
    let error = release(root(&["/x"]).view(), None).unwrap_err();
    assert_eq!(error.what(), "the root does not say which system it is");
    assert_eq!(release(root(&["/x"]).view(), Some("Mine")).unwrap(), of("Mine", "linux"));
}
