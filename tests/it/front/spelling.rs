//! A hint names an option as the user wrote it: as a flag on the command line, as a key in a manifest.

use super::bench::Bench;
use crate::support::tiny::Tiny;

/// The hint of an error.
fn hint(said: &str) -> &str {
    said.lines().find_map(|line| line.trim_start().strip_prefix("hint: ")).unwrap_or_else(|| panic!("{said}"))
}

/// A manifest of one partition with this filesystem.
fn manifest(filesystem: &str, more: &str) -> String {
    format!("version = 1\n{more}\n[[partition]]\nsize = \"64MiB\"\nfilesystem = {{ {filesystem} }}\n")
}

#[test]
fn a_hint_has_a_flag_where_flags_were_written_and_a_key_where_keys_were() {
    let bench = Bench::new();
    bench.write("time.toml", manifest("type = \"ext4\"", "[disk]\ntime = -9999999999"));
    bench.write("pool.toml", manifest("type = \"zfs\", vdevs = \"mirror a b\"", ""));
    for (flags, file, in_flags, in_text) in [
        (
            &["ext4", "--time=-9999999999"][..],
            "time.toml",
            "clamp such times with --times clamp",
            "clamp such times with `times = \"clamp\"`",
        ),
        (&["zfs", "--vdevs", "mirror a b"], "pool.toml", "add --via vm", "add `via = \"vm\"`"),
    ] {
        let out = ["-o", "x.img", "--size", "64MiB"];
        let said = bench.bad(2, &[&["mkfs"], flags, &out].concat());
        assert_eq!(hint(&said), in_flags);
        let said = bench.bad(2, &["build", file]);
        assert_eq!(hint(&said), in_text);
    }
}

/// The size of clusters is an option of qcow2, and of FAT; and a flag that overrides a manifest is spelled as one.
#[test]
fn a_hint_about_the_container_has_the_flag_of_the_container() {
    let bench = Bench::new();
    bench.write("large.toml", "version = 1\n[[partition]]\ntype = \"linux-generic\"\nsize = \"1TiB\"\n");
    let clusters = ["--cluster-size", "512", "-o", "x.qcow2"];
    for command in [
        &["mkfs", "vfat", "--size", "1TiB"][..],
        &["mkfs", "ext4", "--size", "1TiB"],
        &["build", "large.toml"],
    ] {
        let said = bench.bad(1, &[command, &clusters].concat());
        assert_eq!(hint(&said), "take larger clusters, up to 2MiB (--cluster-size)", "{command:?}");
    }
}

#[test]
fn a_hint_of_a_system_has_a_flag_or_a_key() {
    let mut tiny = Tiny::new();
    let system = tiny.system("26.05");
    let closure = tiny.path().join("closure");
    std::fs::write(&closure, tiny.registration()).unwrap();
    let bench = Bench::new();
    let (root, closure) = (tiny.root(), closure.to_str().unwrap().to_owned());
    let root = root.to_str().unwrap();
    let section = format!(
        "version = 1\n[nixos]\nsystem = \"{system}\"\nstore_root = \"{root}\"\nclosure = \"{closure}\"\nlayout = \"efi\"\n"
    );
    let flags = ["nixos", "--system", &system, "--store-root", root, "--closure", &closure, "-o", "x.img"];
    bench.write("loader.toml", &section);
    bench.write("grub.toml", format!("{section}boot_loader = \"grub\"\n"));
    let said = bench.bad(1, &[&flags[..], &["--layout", "efi"]].concat());
    assert!(hint(&said).starts_with("give the file by --systemd-boot; "), "{said}");
    let said = bench.bad(1, &["build", "loader.toml"]);
    assert!(hint(&said).starts_with("give the file by `systemd_boot`; "), "{said}");
    let said = bench.bad(1, &[&flags[..], &["--layout", "efi", "--boot-loader", "grub"]].concat());
    assert!(hint(&said).starts_with("give the folder that holds x86_64-efi by --grub: "), "{said}");
    let said = bench.bad(1, &["build", "grub.toml"]);
    assert!(hint(&said).starts_with("give the folder that holds x86_64-efi by `grub`: "), "{said}");
}
