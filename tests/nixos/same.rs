//! The same bytes: by flags or by a section, on any machine, and for any state of the host's store.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::closure::{grub, grub_mkimage};
use crate::support::left_out;
use crate::support::program::{self, arguments, diskwright};
use crate::support::tools::{command, digest, must, quiet};
use crate::tiny::Tiny;

/// A system with two equal files, which a store may keep as one, and a program.
fn machine() -> (Tiny, String) {
    let mut tiny = Tiny::new();
    tiny.object("program", &[], |place| {
        std::fs::create_dir(place).unwrap();
        for name in ["one", "two"] {
            std::fs::write(place.join(name), "the same").unwrap();
        }
        std::fs::write(place.join("run"), "#!").unwrap();
        std::fs::set_permissions(place.join("run"), std::fs::Permissions::from_mode(0o555)).unwrap();
    });
    let system = tiny.system("26.05");
    (tiny, system)
}

/// The most that a layout can ask for: both firmwares, ids from the seed.
fn hybrid(tiny: &Tiny, system: &str, out: &Path) -> Command {
    let mut build = tiny.nixos(system, "hybrid", out);
    build.args([
        "--grub",
        grub(),
        "--grub-mkimage",
        grub_mkimage(),
        "--compat",
        "false",
        "--boot-size",
        "64MiB",
    ]);
    build.args(["--seed", "0867da16-f251-457d-a9e8-c31f9a3c220b"]);
    build
}

#[test]
fn flags_and_a_section_in_both_spellings_are_one() {
    let (tiny, system) = machine();
    let folder = tiny.path();
    std::fs::write(folder.join("registration"), tiny.registration()).unwrap();
    std::fs::write(folder.join("motd"), "Welcome.\n").unwrap();
    let toml = format!(
        "version = 1\n[nixos]\nsystem = \"{system}\"\nclosure = \"registration\"\nstore_root = \"root\"\nlayout = \
         \"efixbootldr\"\nboot_loader = \"none\"\nboot_size = \"160MiB\"\nadditional_space = \"4MiB\"\ncompat = \
         false\nlabel = \"root\"\ncontents = [{{ source = \"motd\", target = \"/etc/motd\", user = \"root\", group = 7 }}]\n"
    );
    let json = format!(
        r#"{{"nixos":{{"contents":[{{"target":"/etc/motd","group":7,"source":"motd","user":"root"}}],"label":"root","compat":false,"additional_space":"4096KiB","boot_size":"160MiB","boot_loader":"none","layout":"efixbootldr","store_root":"root","closure":"registration","system":"{system}"}},"version":1}}"#
    );
    std::fs::write(folder.join("disk.toml"), toml).unwrap();
    std::fs::write(folder.join("disk.json"), json).unwrap();
    let out = folder.join("out.img");
    let mut found = Vec::new();
    for manifest in ["disk.toml", "disk.json"] {
        must(diskwright().current_dir(folder).args(["build", manifest, "-o", "out.img"]));
        found.push(digest(&out));
    }
    let mut flags = diskwright();
    flags.current_dir(folder).args(["nixos", "--system", &system, "--closure", "registration"]);
    flags.args([
        "--store-root",
        "root",
        "--layout",
        "efixbootldr",
        "--boot-loader",
        "none",
        "--compat",
        "false",
    ]);
    flags.args(["--boot-size", "160MiB", "--additional-space", "4MiB", "--label", "root"]);
    flags.args(["--contents", "source=motd,target=/etc/motd,user=root,group=7", "-o", "out.img"]);
    must(&mut flags);
    found.push(digest(&out));
    // What a client reads of a disk that is not written, by the section and by the flags.
    let copy = "nbdcopy \"$uri\" out.img";
    must(diskwright().current_dir(folder).args(["serve", "disk.toml", "--run", copy]));
    found.push(digest(&out));
    let words: Vec<_> = arguments(&flags);
    let words = words.iter().take_while(|word| *word != "-o");
    must(diskwright().current_dir(folder).args(["serve", "--run", copy, "--"]).args(words));
    found.push(digest(&out));
    assert!(found.iter().all(|digest| *digest == found[0]), "{found:?}");
    // Another word makes another disk with other ids.
    must(flags.args(["--time", "9"]));
    assert_ne!(digest(&out), found[0]);
}

#[test]
fn the_machine_leaves_no_trace() {
    let (tiny, system) = machine();
    let out = tiny.path().join("out.img");
    must(&mut hybrid(&tiny, &system, &out));
    let usual = digest(&out);
    for (name, value) in [
        ("TZ", "Pacific/Kiritimati"),
        ("LC_ALL", "tr_TR.UTF-8"),
        ("HOME", "/nonexistent"),
        ("USER", "somebody"),
        ("RAYON_NUM_THREADS", "3"),
        ("GRUB_MKIMAGE", "/nonexistent"),
    ] {
        must(hybrid(&tiny, &system, &out).env(name, value));
        assert_eq!(digest(&out), usual, "{name}={value}");
    }
    // With another umask; and as nobody, in a place of its own.
    let mut build = hybrid(&tiny, &system, &out);
    let mut shell = quiet(Command::new("/bin/sh"));
    shell.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(build.get_program()).args(build.get_args());
    must(&mut shell);
    assert_eq!(digest(&out), usual, "umask");
    if left_out::as_root("another user who builds the same") {
        let place = tiny.path().join("place");
        std::fs::create_dir(&place).unwrap();
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o777)).unwrap();
        std::fs::set_permissions(tiny.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let out = place.join("out.img");
        build = hybrid(&tiny, &system, &out);
        must(program::as_nobody(Path::new(build.get_program())).args(build.get_args()));
        assert_eq!(digest(&out), usual, "another user");
    }
}

/// The store as another host may have it: with other times, writable, optimised, with attributes.
fn another_store(tiny: &Tiny) -> PathBuf {
    let other = tiny.path().join("other");
    must(command("cp").arg("-rP").arg(tiny.root()).arg(&other));
    let program = other.join("nix/store").join("00000000000000000000000000000002-program");
    std::fs::remove_file(program.join("two")).unwrap();
    std::fs::hard_link(program.join("one"), program.join("two")).unwrap();
    std::fs::set_permissions(program.join("run"), std::fs::Permissions::from_mode(0o755)).unwrap();
    must(command("setfattr").args(["-n", "user.note", "-v", "host"]).arg(program.join("one")));
    other
}

#[test]
fn the_state_of_the_hosts_store_leaves_no_trace() {
    let (tiny, system) = machine();
    let out = tiny.path().join("out.img");
    must(&mut hybrid(&tiny, &system, &out));
    let usual = digest(&out);
    let other = another_store(&tiny);
    let mut build = diskwright();
    let mut arguments = program::arguments(&hybrid(&tiny, &system, &out));
    let root = arguments.iter().position(|argument| argument == "--store-root").unwrap() + 1;
    arguments[root] = other.into_os_string();
    must(build.args(&arguments).arg("--verify-closure"));
    assert_eq!(digest(&out), usual);
    for jobs in ["1", "7"] {
        let number = arguments.iter().position(|argument| argument == "--jobs").unwrap() + 1;
        arguments[number] = jobs.into();
        must(diskwright().args(&arguments));
        assert_eq!(digest(&out), usual, "--jobs {jobs}");
    }
}
