//! Trees that come as archives, and disks that leave compressed, against the programs that only do that part. It needs tar,
//! zstd, pigz and genimage.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run::{Case, Group, program};
use crate::{jobs, trees};

/// A store of at least 45,000 files and 1.7 GB.
pub(crate) fn run(folder: &Path) {
    let tree = trees::store(folder);
    let (archive, raw, image) = (archive(folder, &tree), trees::raw(folder, &tree), folder.join("out.img"));
    let shell = |name: &str, script: String| Case::new(name, "sh").args(["-c", &script]).makes(&image);
    let (tar, disk, out) = (archive.display(), raw.display(), image.display());
    let ours = |arguments: &[&Path], output: &str| {
        let output = folder.join(output);
        let verb = arguments.first().map_or_else(String::new, |verb| verb.display().to_string());
        Case::new(&format!("diskwright {verb}"), program())
            .args(arguments)
            .args([Path::new("-o"), &output])
            .makes(&output)
    };
    let disks = vec![
        shell("zstd -dc, to nowhere", format!("zstd -dcq {tar} > /dev/null")),
        ours(&[Path::new("mkfs"), Path::new("ext4"), &archive], "out.qcow2"),
    ];
    Group { title: "archives: a tar.zst into a disk", cases: disks }.run();
    let packed = vec![
        shell("zstd", format!("zstd -3 -T{} -qf {disk} -o {out}", jobs())),
        ours(&[Path::new("mkfs"), Path::new("ext4"), &tree], "out.raw.zst"),
    ];
    Group { title: "archives: a store into a disk by zstd, against the ready disk", cases: packed }.run();
    let zipped = vec![
        shell("pigz", format!("pigz -6 -p {} -c {disk} > {out}", jobs())),
        ours(&[Path::new("mkfs"), Path::new("ext4"), &tree], "out.raw.gz"),
    ];
    Group { title: "archives: a store into a disk by gzip, against the ready disk", cases: zipped }.run();
    let oci = layout(folder, &archive);
    let layers = vec![
        shell("zstd -dc, to nowhere", format!("zstd -dcq {tar} > /dev/null")),
        ours(
            &[Path::new("build"), &manifest(folder, "oci", &format!("oci = \"{}\"", oci.display()))],
            "out.qcow2",
        ),
    ];
    Group { title: "archives: an image of a container into a disk", cases: layers }.run();
    clouds(folder, &tree, &raw);
    others(folder, &tree);
}

/// What Google Compute Engine takes: `disk.raw` of whole GiB, with its holes, in a tar of the old GNU format.
fn clouds(folder: &Path, tree: &Path, raw: &Path) {
    let named = folder.join("disk.raw");
    if !named.exists() {
        std::fs::hard_link(raw, &named).expect("the disk can have another name");
    }
    let (place, image) = (folder.display(), folder.join("out.tar.gz"));
    let script =
        format!("tar --format=oldgnu -cS -C {place} disk.raw | pigz -6 -p {} > {}", jobs(), image.display());
    let store = manifest(folder, "gce", &format!("source = \"{}\"", tree.display()));
    let cases = vec![
        Case::new("tar czS with pigz, of the ready disk", "sh").args(["-c", &script]).makes(&image),
        Case::new("diskwright build --package gce", program())
            .args([
                Path::new("build"),
                &store,
                Path::new("--package"),
                Path::new("gce"),
                Path::new("-o"),
                &image,
            ])
            .makes(&image),
    ];
    Group { title: "archives: a disk for Google Compute Engine", cases }.run();
}

/// A tree as a disk with one partition, by genimage, which copies it, and runs mke2fs and its own writer of tables.
fn others(folder: &Path, tree: &Path) {
    let work = folder.join("genimage");
    let config = folder.join("genimage.cfg");
    let megabytes = crate::trees::bytes(tree) / (1 << 20) * 5 / 4 + 512;
    let text = format!(
        "image root.ext4 {{ ext4 {{ label = \"root\" use-mke2fs = true }} size = {megabytes}M }}\n\
         image disk.img {{ hdimage {{ partition-table-type = \"gpt\" }} partition root {{ image = \"root.ext4\" }} }}\n"
    );
    std::fs::write(&config, text).expect("the configuration can be written");
    let place = work.display();
    let script = format!(
        "mkdir -p {place}; genimage --loglevel 0 --config {} --rootpath {} --tmppath {place}/tmp --inputpath {place} --outputpath {place}/out",
        config.display(),
        tree.display(),
    );
    let (store, image) =
        (manifest(folder, "disk", &format!("source = \"{}\"", tree.display())), folder.join("out.img"));
    let cases = vec![
        Case::new("genimage", "sh").args(["-euc", &script]).makes(&work),
        Case::new("diskwright build", program())
            .args([Path::new("build"), &store, Path::new("-o"), &image])
            .makes(&image),
    ];
    Group { title: "archives: a tree into a disk with a table", cases }.run();
}

/// A manifest with one partition that has these contents.
fn manifest(folder: &Path, name: &str, contents: &str) -> PathBuf {
    let path = folder.join(format!("{name}.toml"));
    let text = format!(
        "version = 1\n[[partition]]\ntype = \"linux\"\nfilesystem = {{ type = \"ext4\" }}\ncontents = [ {{ {contents}, target = \"/\" }} ]\n"
    );
    std::fs::write(&path, text).expect("the manifest can be written");
    path
}

/// The archive as the one layer of an OCI image layout.
fn layout(folder: &Path, archive: &Path) -> PathBuf {
    let layout = folder.join("oci");
    if layout.join("index.json").exists() {
        return layout;
    }
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("the layout can be made");
    let text = |script: String| {
        let output = Command::new("sh").args(["-euc", &script]).output().expect("sh runs");
        String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap_or_default().to_owned()
    };
    let put = |bytes: &str| {
        let file = folder.join("blob");
        std::fs::write(&file, bytes).expect("a blob can be written");
        let digest = text(format!("sha256sum {}", file.display()));
        std::fs::rename(&file, blobs.join(&digest)).expect("a blob can be named");
        (digest, bytes.len())
    };
    let layer = text(format!("sha256sum {}", archive.display()));
    std::fs::hard_link(archive, blobs.join(&layer)).expect("the layer can be linked");
    let content = text(format!("zstd -dcq {} | sha256sum", archive.display()));
    let size = archive.metadata().map_or(0, |meta| meta.len());
    let kind = "application/vnd.oci.image";
    let (config, length) = put(&format!(
        "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:{content}\"]}}}}"
    ));
    let (list, long) = put(&format!(
        "{{\"schemaVersion\":2,\"config\":{{\"mediaType\":\"{kind}.config.v1+json\",\"digest\":\"sha256:{config}\",\"size\":{length}}},\
         \"layers\":[{{\"mediaType\":\"{kind}.layer.v1.tar+zstd\",\"digest\":\"sha256:{layer}\",\"size\":{size}}}]}}"
    ));
    let index = format!(
        "{{\"schemaVersion\":2,\"manifests\":[{{\"mediaType\":\"{kind}.manifest.v1+json\",\"digest\":\"sha256:{list}\",\"size\":{long}}}]}}"
    );
    std::fs::write(layout.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}")
        .expect("the layout can be made");
    std::fs::write(layout.join("index.json"), index).expect("the layout can be made");
    layout
}

/// The tree as a tar.zst.
fn archive(folder: &Path, tree: &Path) -> PathBuf {
    let archive = folder.join("store.tar.zst");
    if !archive.exists() {
        let script = format!("tar -cf - -C {} . | zstd -3 -T0 -qf -o {}", tree.display(), archive.display());
        let status = Command::new("sh").args(["-euc", &script]).stdin(Stdio::null()).status();
        assert!(status.is_ok_and(|status| status.success()), "the archive can be made");
    }
    archive
}
