//! Images of containers, against umoci and skopeo.

use std::path::{Path, PathBuf};

use super::{made, mkfs};
use crate::support::ext4::judge;
use crate::support::snapshot::Snapshot;
use crate::support::tools::{Said, command, digest, must, quick_scratch, scratch};

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

/// Puts a blob into a layout, and returns what refers to it.
fn blob(layout: &Path, kind: &str, bytes: &[u8]) -> String {
    let file = layout.join("blob");
    std::fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    std::fs::write(&file, bytes).unwrap();
    let name = digest(&file);
    std::fs::rename(&file, layout.join("blobs/sha256").join(&name)).unwrap();
    let kind = format!("application/vnd.oci.image.{kind}");
    format!(r#""mediaType":"{kind}","digest":"sha256:{name}","size":{}"#, bytes.len())
}

/// Indexes in indexes, of which only some say platforms: the next one above says it, or the configuration. What is there for
/// other platforms may be missing.
#[test]
fn an_image_is_found_through_indexes_in_indexes() {
    let folder = quick_scratch();
    let layout = folder.path().join("layout");
    let image = |architecture: &str| {
        let tree = folder.path().join(architecture);
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::write(tree.join("for"), architecture).unwrap();
        let archive = folder.path().join("layer.tar");
        super::gnu_tar(&tree, &["--owner=0", "--group=0", "-cf", archive.to_str().unwrap(), "for"]);
        let layer = blob(&layout, "layer.v1.tar", &std::fs::read(&archive).unwrap());
        let config = format!(
            r#"{{"architecture":"{architecture}","os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
            digest(&archive)
        );
        let config = blob(&layout, "config.v1+json", config.as_bytes());
        let text = format!(r#"{{"schemaVersion":2,"config":{{{config}}},"layers":[{{{layer}}}]}}"#);
        blob(&layout, "manifest.v1+json", text.as_bytes())
    };
    let index = |parts: &[String]| {
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, parts.join(","));
        blob(&layout, "index.v1+json", text.as_bytes())
    };
    let platform = |of: &str, architecture: &str| {
        format!(r#"{{{of},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#)
    };
    let plain = |of: &str| format!("{{{of}}}");
    let (amd64, arm64, riscv64) = (image("amd64"), image("arm64"), image("riscv64"));
    let missing = r#""mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":7"#;
    let inner = index(&[platform(&amd64, "amd64")]);
    let other = index(&[plain(&arm64)]);
    // An index may list what is no image.
    let xml = blob(&layout, "xml", b"<a/>").replace("vnd.oci.image.xml", "xml");
    let parts =
        [plain(&inner), plain(&xml), platform(&other, "arm64"), plain(&riscv64), platform(missing, "s390x")];
    let whole = index(&parts);
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let name = r#""annotations":{"org.opencontainers.image.ref.name":"trial"}"#;
    let top = format!(r#"{{"schemaVersion":2,"manifests":[{{{whole},{name}}}]}}"#);
    std::fs::write(layout.join("index.json"), &top).unwrap();
    let out = folder.path().join("out.img");
    for architecture in ["amd64", "arm64", "riscv64"] {
        let wanted = format!("linux/{architecture}");
        made(&layout, &out, &["--from", "oci", "--image", "trial", "--platform", &wanted]);
        let said =
            must(crate::support::program::diskwright().arg("cat").arg(format!("{}:/for", out.display())));
        assert_eq!(said.text(), architecture);
    }
    let arm64 = arm64.split('"').find(|part| part.starts_with("sha256:")).unwrap();
    made(&layout, &out, &["--from", "oci", "--image", arm64]);
    let refused = |arguments: &[&str], words: &[&str]| {
        let said = mkfs(&layout, &out, &[&["--from", "oci"], arguments].concat());
        for word in words {
            assert!(said.code == 1 && said.error().contains(word), "no `{word}` in\n{}", said.error());
        }
    };
    refused(&[], &["there are several images", "linux/amd64, linux/arm64, sha256:"]);
    refused(&["--image", "none"], &["there is no such image"]);
    refused(&["--platform", "linux/s390x"], &["missing from the image"]);
    // What is damaged and not wanted is passed over.
    let broken = blob(&layout, "index.v1+json", b"{");
    let with_broken = top.replace(r#""manifests":["#, &format!(r#""manifests":[{{{broken}}},"#));
    std::fs::write(layout.join("index.json"), with_broken).unwrap();
    made(&layout, &out, &["--from", "oci", "--image", "trial", "--platform", "linux/amd64"]);
    refused(&[], &["the manifest of the image cannot be read"]);
    let longer = top.replace(&format!(r#""size":{}"#, whole.rsplit(':').next().unwrap()), r#""size":1"#);
    std::fs::write(layout.join("index.json"), longer).unwrap();
    refused(&[], &["another length than the image says", "expected: 1 bytes"]);
}
