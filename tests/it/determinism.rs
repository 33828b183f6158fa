//! The same bytes in all circumstances: threads, user, umask, zone, locale, the host's order of names, its
//! filesystem, and hard links where a policy ignores them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::FileType;

use crate::support::kernel::{Mount, can_judge};
use crate::support::left_out;
use crate::support::program::{arguments, as_nobody, copy_to, diskwright, project};
use crate::support::snapshot::{Kind, Snapshot, parent};
use crate::support::tools::{command, digest, must, names_in, quick_scratch, quiet, scratch};
use crate::support::tree;

/// The commands that make the images of a project; the output is added to the arguments.
fn jobs(folder: &Path) -> Vec<Vec<OsString>> {
    let manifests = project(folder);
    let mut jobs: Vec<Vec<OsString>> =
        manifests.iter().map(|manifest| vec!["build".into(), manifest.clone().into()]).collect();
    for policy in ["preserve", "dissolve", "dedupe"] {
        let mut job: Vec<OsString> = ["mkfs", "ext4", "--hardlinks", policy].map(OsString::from).into();
        job.push(folder.join("tree").into());
        jobs.push(job);
    }
    for arguments in [
        &["--hardlinks", "dissolve"][..],
        &["--compress", "zstd"],
        &["--compress", "lz4hc", "--chunk", "8KiB"],
    ] {
        let mut job: Vec<OsString> = vec!["mkfs".into(), "erofs".into()];
        job.extend(arguments.iter().map(OsString::from));
        job.push(folder.join("tree").into());
        jobs.push(job);
    }
    jobs.push(vec!["mkfs".into(), "vfat".into(), folder.join("tree/bin").into()]);
    for compress in ["zstd", "gzip", "lz4", "none"] {
        let mut job: Vec<OsString> = ["mkfs", "squashfs", "--compress", compress].map(OsString::from).into();
        job.push(folder.join("tree").into());
        jobs.push(job);
    }
    jobs
}

/// The digests of what `jobs` make, each run as `how` wraps it.
fn digests(jobs: &[Vec<OsString>], out: &Path, how: impl Fn(Command) -> Command) -> Vec<String> {
    jobs.iter()
        .map(|job| {
            let mut command = diskwright();
            command.args(job).arg("-o").arg(out);
            must(&mut how(command));
            digest(out)
        })
        .collect()
}

/// `command` run by another program before it, with the same arguments and environment.
fn through(wrapper: &[&str], command: &Command) -> Command {
    let mut wrapped = quiet(Command::new(crate::support::judges::find(wrapper[0])));
    wrapped.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args());
    wrapped
}

#[test]
fn threads_zone_locale_umask_and_directory_leave_no_trace() {
    let folder = scratch();
    let jobs = jobs(folder.path());
    let out = folder.path().join("out.img");
    let usual = digests(&jobs, &out, |command| command);
    let mut distinct = usual.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), jobs.len(), "these are different images: {usual:?}");
    for threads in ["1", "2", "7"] {
        let found = digests(&jobs, &out, |mut command| {
            command.args(["--jobs", threads]);
            command
        });
        assert_eq!(found, usual, "--jobs {threads}");
    }
    for (name, value) in [
        ("TZ", "Pacific/Kiritimati"),
        ("TZ", "America/Los_Angeles"),
        ("LC_ALL", "tr_TR.UTF-8"),
        ("LC_ALL", "C.UTF-8"),
        ("LANG", "de_DE@euro"),
        ("HOME", "/nonexistent"),
        ("TMPDIR", "/nonexistent"),
        ("USER", "somebody"),
        ("HOSTNAME", "elsewhere"),
        ("RAYON_NUM_THREADS", "3"),
        ("PATH", ""),
    ] {
        let found = digests(&jobs, &out, |mut command| {
            command.env(name, value);
            command
        });
        assert_eq!(found, usual, "{name}={value}");
    }
    for wrapper in [
        &["sh", "-c", "umask 077; exec \"$0\" \"$@\""][..],
        &["sh", "-c", "umask 000; exec \"$0\" \"$@\""],
        &["sh", "-c", "cd /; exec \"$0\" \"$@\""],
        &["taskset", "-c", "0"],
        &["nice", "-n", "19"],
    ] {
        let found = digests(&jobs, &out, |command| through(wrapper, &command));
        assert_eq!(found, usual, "{wrapper:?}");
    }
}

#[test]
fn another_user_makes_the_same() {
    left_out::need_root("another user who builds the same");
    // A folder that everybody can enter; the build folder may not be one.
    let folder = tempfile::Builder::new().prefix("diskwright").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let jobs = jobs(folder.path());
    let out = folder.path().join("out.img");
    let usual = digests(&jobs, &out, |command| command);
    std::fs::remove_file(&out).unwrap();
    let program = copy_to(folder.path());
    let found = digests(&jobs, &out, |command| {
        let mut nobody = as_nobody(&program);
        nobody.args(arguments(&command));
        nobody
    });
    assert_eq!(found, usual);
}

/// Makes all names below `top` anew in descending order: moves them out of their directory and back.
fn backwards(top: &Path) {
    for (path, entry) in Snapshot::of(top).0 {
        let folder = top.join(OsStr::from_bytes(&path));
        if entry.kind != Kind::Directory {
            continue;
        }
        let mut names = names_in(&folder);
        names.reverse();
        let aside = folder.join(".aside");
        std::fs::create_dir(&aside).unwrap();
        for name in &names {
            std::fs::rename(folder.join(name), aside.join(name)).unwrap();
        }
        for name in &names {
            std::fs::rename(aside.join(name), folder.join(name)).unwrap();
        }
        std::fs::remove_dir(&aside).unwrap();
        tree::date(&folder, entry.mtime);
    }
}

/// Gives each name below `top` an inode of its own.
fn apart(top: &Path) {
    let before = Snapshot::of(top);
    for (path, entry) in &before.0 {
        if *path == entry.inode {
            continue;
        }
        let host = top.join(OsStr::from_bytes(path));
        let bytes = if entry.kind == Kind::File { std::fs::read(&host).unwrap() } else { Vec::new() };
        std::fs::remove_file(&host).unwrap();
        let mut maker = tree::Maker::new(top);
        match entry.kind {
            Kind::File => maker.file(path, bytes),
            Kind::Symlink => maker.symlink(path, &entry.target),
            _ => maker.special(path, FileType::Fifo, (0, 0)),
        };
        if entry.kind != Kind::Symlink {
            maker.mode(path, entry.mode.into());
        }
        tree::date(&host, entry.mtime);
        let folder = parent(path);
        tree::date(&top.join(OsStr::from_bytes(folder)), before.0[folder].mtime);
    }
    assert!(Snapshot::of(top).0.iter().all(|(path, entry)| *path == entry.inode));
}

/// The digest of an ext4 image of `source` under `arguments`.
fn image_of(source: &Path, arguments: &[&str]) -> String {
    let folder = scratch();
    let out = folder.path().join("out.img");
    let mut command = diskwright();
    must(command.args(["mkfs", "ext4"]).arg(source).arg("-o").arg(&out).args(arguments));
    digest(&out)
}

#[test]
fn the_order_in_which_names_were_made_leaves_no_trace() {
    // A host in memory lists names in the order of creation or its reverse, ext4 by their hashes.
    let memory = quick_scratch();
    let (source, other) = (memory.path().join("source"), memory.path().join("other"));
    tree::portable(&source);
    tree::portable(&other);
    backwards(&other);
    let order = |path: &Path| -> Vec<OsString> {
        let names = std::fs::read_dir(path.join("directories/of-253")).unwrap();
        names.map(|entry| entry.unwrap().file_name()).collect()
    };
    assert_ne!(order(&source), order(&other), "the host lists them in another order");
    assert_eq!(image_of(&source, &[]), image_of(&other, &[]));
}

#[test]
fn the_state_of_links_leaves_no_trace_under_dissolve_and_dedupe() {
    let folder = scratch();
    let (linked, single) = (folder.path().join("linked"), folder.path().join("single"));
    tree::portable(&linked);
    tree::portable(&single);
    apart(&single);
    for policy in ["dissolve", "dedupe"] {
        let arguments = ["--hardlinks", policy];
        assert_eq!(image_of(&linked, &arguments), image_of(&single, &arguments), "{policy}");
    }
    assert_ne!(image_of(&linked, &[]), image_of(&single, &[]), "under preserve they do matter");
}

#[test]
fn the_filesystem_of_the_host_leaves_no_trace() {
    if !can_judge() {
        return;
    }
    let folder = scratch();
    let here = folder.path().join("source");
    tree::strange(&here, 300, tree::Host::Any);
    let arguments = ["--owner", "preserve"];
    let usual = image_of(&here, &arguments);
    let make: [(&str, &[&str]); 3] = [
        // Other inodes, and another seed of the hashes by which it lists names, than the host of the build has.
        ("mke2fs", &["-q", "-t", "ext4", "-b", "4096", "-I", "1024", "-N", "20000"]),
        ("mkfs.xfs", &["-q", "-i", "size=1024"]),
        ("mkfs.btrfs", &["-q"]),
    ];
    for (program, options) in make {
        let image = folder.path().join("host.img");
        // XFS filesystems have at least 300 MB.
        must(command("truncate").args(["-s", "600M"]).arg(&image));
        must(command(program).args(options).arg(&image));
        let host = Mount::new(&image, "rw");
        let source: PathBuf = host.path().join("source");
        tree::strange(&source, 300, tree::Host::Any);
        assert_eq!(image_of(&source, &arguments), usual, "{program} {options:?}");
        host.unmount();
        std::fs::remove_file(&image).unwrap();
    }
}

#[test]
fn the_epoch_dates_and_clamps() {
    let folder = scratch();
    let source = folder.path().join("source");
    let mut maker = tree::Maker::new(&source);
    maker.file("old", "o").time("old", (100, 5)).file("new", "n").time("new", (2_000_000_000, 5)).finish();
    let out = folder.path().join("out.img");
    let image = |epoch: &str| {
        let mut command = diskwright();
        command.args(["mkfs", "ext4"]).arg(&source).arg("-o").arg(&out).env("SOURCE_DATE_EPOCH", epoch);
        must(&mut command);
        let found = crate::support::debugfs::view(&out);
        crate::support::ext4::assert_clean(&out);
        let time = |name: &str| found.0[name.as_bytes()].mtime;
        assert_eq!(time("old"), (100, 5));
        (time("new"), digest(&out))
    };
    let (time, first) = image("1000000");
    assert_eq!(time, (1_000_000, 0));
    assert_eq!(image("1000000").1, first);
    assert_ne!(image("1000001").1, first);
}
