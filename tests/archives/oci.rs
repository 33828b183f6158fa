//! Images of containers, against umoci and skopeo.

use std::path::{Path, PathBuf};

use super::{made, mkfs};
use crate::support::ext4::judge;
use crate::support::snapshot::Snapshot;
use crate::support::tools::{Said, command, digest, must, scratch};

fn umoci(arguments: &[&str]) -> Said {
    must(command("umoci").args(arguments))
}

/// An image of four layers: files; some changed, replaced and taken away; a directory made opaque; names of one inode in
/// several layers.
fn image(folder: &Path) -> PathBuf {
    let layout = folder.join("layout");
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let tagged = format!("{}:trial", layout.display());
    umoci(&["init", "--layout", layout.to_str().unwrap()]);
    umoci(&["new", "--image", &tagged]);
    let change = |number: u32, change: &dyn Fn(&Path)| {
        let bundle = at(&format!("bundle-{number}"));
        umoci(&["unpack", "--image", &tagged, &bundle]);
        change(&Path::new(&bundle).join("rootfs"));
        umoci(&["repack", "--image", &tagged, &bundle]);
        std::fs::remove_dir_all(bundle).unwrap();
    };
    let write = |path: PathBuf, text: &str| std::fs::write(path, text).unwrap();
    change(1, &|top| {
        for name in ["etc/conf.d", "usr/lib", "srv/old/deep", "opaque/below"] {
            std::fs::create_dir_all(top.join(name)).unwrap();
        }
        for name in ["etc/a", "etc/b", "etc/conf.d/1", "srv/old/deep/x", "opaque/1", "opaque/below/2", "gone"]
        {
            write(top.join(name), name);
        }
        std::os::unix::fs::symlink("usr/lib", top.join("lib")).unwrap();
        write(top.join("usr/lib/first"), "first");
        std::fs::hard_link(top.join("etc/a"), top.join("etc/a-link")).unwrap();
        let owner =
            |name: &str, uid| std::os::unix::fs::lchown(top.join(name), Some(uid), Some(uid + 1)).unwrap();
        owner("etc/b", 1000);
        owner("srv", 70_000);
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(top.join("etc/b"), "user.note", b"a\nb\0c", flags).unwrap();
    });
    change(2, &|top| {
        std::fs::remove_file(top.join("gone")).unwrap();
        std::fs::remove_dir_all(top.join("srv/old")).unwrap();
        write(top.join("srv/old"), "a file where a directory was");
        std::fs::remove_file(top.join("etc/conf.d/1")).unwrap();
        write(top.join("etc/a"), "changed");
        write(top.join("usr/lib/second"), "second");
    });
    let insert = folder.join("insert");
    std::fs::create_dir_all(insert.join("new")).unwrap();
    write(insert.join("new/3"), "3");
    umoci(&["insert", "--image", &tagged, "--opaque", insert.to_str().unwrap(), "/opaque"]);
    change(4, &|top| {
        std::fs::remove_file(top.join("srv/old")).unwrap();
        std::fs::create_dir(top.join("srv/old")).unwrap();
        write(top.join("srv/old/again"), "again");
    });
    layout
}

/// umoci sets owners, so this needs root; an ordinary user then makes the same image.
#[test]
fn an_image_of_a_container_is_what_umoci_unpacks() {
    crate::support::left_out::need_root("umoci sets owners only as root");
    let folder = scratch();
    let layout = image(folder.path());
    let bundle = folder.path().join("unpacked");
    let tagged = format!("{}:trial", layout.display());
    umoci(&["unpack", "--image", &tagged, bundle.to_str().unwrap()]);
    let expected = Snapshot::of(&bundle.join("rootfs")).links_as_in_ext4().without_host_labels();
    for gone in ["gone", "opaque/1", "opaque/below", "etc/conf.d/1"] {
        assert!(!expected.0.contains_key(gone.as_bytes()), "umoci leaves {gone}");
    }
    let out = folder.path().join("layout.img");
    made(&layout, &out, &["--from", "oci"]);
    judge(&out, &expected);
    let plain = digest(&out);
    // The same image in every form that skopeo writes.
    for (kind, name) in [("oci-archive", "oci.tar"), ("docker-archive", "docker.tar"), ("oci", "copy")] {
        let archive = folder.path().join(name);
        let to = format!("{kind}:{}:trial:latest", archive.display());
        let to = if kind == "docker-archive" { to } else { to.replace(":trial:latest", ":other") };
        must(command("skopeo").args(["copy", "--insecure-policy", &format!("oci:{tagged}"), &to]));
        let out = folder.path().join(format!("{name}.img"));
        let arguments: &[&str] = match kind {
            "docker-archive" => &["--from", "oci", "--image", "trial:latest"],
            _ => &["--from", "oci", "--image", "other"],
        };
        made(&archive, &out, arguments);
        // The seed derives from the name, so only what is in it is compared.
        judge(&out, &expected);
        let again = folder.path().join("again.img");
        made(&archive, &again, &["--from", "oci"]);
        assert_eq!(digest(&again), plain, "{kind}");
    }
}

/// A layer that is missing, cut off, or another one; an image that is not there.
#[test]
fn layers_are_compared_with_their_digests() {
    crate::support::left_out::need_root("umoci sets owners only as root");
    let folder = scratch();
    let layout = image(folder.path());
    let out = folder.path().join("out.img");
    let refused = |arguments: &[&str], words: &[&str]| {
        let said = mkfs(&layout, &out, &[&["--from", "oci"], arguments].concat());
        assert_eq!(said.code, 1, "{}", said.error());
        for word in words {
            assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
        }
        assert!(!out.exists());
    };
    refused(&["--image", "none"], &["there is no such image", "none", "trial"]);
    refused(
        &["--platform", "linux/s390x"],
        &["the image is for another platform", "linux/s390x", "linux/amd64"],
    );
    let mut blobs: Vec<PathBuf> = std::fs::read_dir(layout.join("blobs/sha256"))
        .unwrap()
        .map(|blob| blob.unwrap().path())
        .filter(|path| std::fs::read(path).unwrap().starts_with(&[0x1f, 0x8b]))
        .collect();
    blobs.sort();
    assert!(blobs.len() >= 4);
    let bytes = std::fs::read(&blobs[0]).unwrap();
    let name = blobs[0].file_name().unwrap().to_str().unwrap().to_owned();
    std::fs::remove_file(&blobs[0]).unwrap();
    refused(&[], &["a layer is missing", &name]);
    std::fs::write(&blobs[0], &bytes[..bytes.len() - 1]).unwrap();
    refused(&[], &["another length", &name]);
    // Another layer of the same length: a byte of the time in its gzip header, which changes nothing else.
    let mut other = bytes.clone();
    other[4] ^= 1;
    std::fs::write(&blobs[0], &other).unwrap();
    refused(&[], &["another digest", &name]);
    std::fs::write(&blobs[0], &bytes).unwrap();
    made(&layout, &out, &["--from", "oci"]);
}
