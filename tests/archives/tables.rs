//! Tables of devices and permissions among the contents, compared with what mksquashfs and debugfs say of the same names.

use std::path::Path;

use crate::support::program::diskwright;
use crate::support::tools::{Said, command, is_root, must, run, scratch};

/// Builds a SquashFS or an ext4 of `tree` with an entry of the contents.
fn build(folder: &Path, kind: &str, entry: &str) -> Said {
    let text = format!(
        "version = 1\n[disk]\ntable = \"none\"\n[[partition]]\nfilesystem = {{ type = \"{kind}\" }}\n\
         contents = [ {{ source = \"tree\", target = \"/\" }}, {entry} ]\n"
    );
    std::fs::write(folder.join("disk.toml"), text).unwrap();
    run(diskwright().arg("build").arg(folder.join("disk.toml")).arg("-o").arg(folder.join("ours.img")))
}

fn tree(folder: &Path) {
    let script = "mkdir -p tree/bin tree/etc tree/var/log; echo su > tree/bin/su; echo ping > tree/bin/ping
        printf 'root:x:0:0::/:/bin/sh\\nwww:x:33:34::/:/bin/sh\\n' > tree/etc/passwd
        printf 'root:x:0:\\ntty:x:5:\\nwww:x:34:\\n' > tree/etc/group; echo log > tree/var/log/a
        chmod -R u=rwX,go=rX tree; find tree -exec touch -h -d @1000 {} +";
    must(command("sh").args(["-ec", script]).current_dir(folder));
}

/// Everything in a SquashFS but times: mode, owner, length or device, name.
fn listed(image: &Path) -> Vec<String> {
    let text = must(command("unsquashfs").args(["-lln", "-d", "", "-no-progress"]).arg(image)).text();
    let lines = text
        .lines()
        .filter(|line| line.starts_with(['-', 'd', 'l', 'c', 'b', 'p', 's']) && line.contains('/'));
    let mut lines: Vec<String> = lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // The date and time are two words before the name.
            let at = words.iter().position(|word| word.contains(':') && word.len() == 5).unwrap();
            [&words[..at - 1], &words[at + 1..]].concat().join(" ")
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn pseudo_files_are_those_of_mksquashfs() {
    let folder = scratch();
    tree(folder.path());
    // What is there already is changed by m; mksquashfs leaves it alone otherwise.
    let table = "dev d 755 0 0\ndev/null c 666 0 0 1 3\ndev/sda b 660 0 6 8 0\nlink s 777 0 0 bin/su\nrun d 1777 0 0\nrun/p i 600 7 8 f\n\
                 run/s i 620 7 8 s\nbin/su m 4755 0 0\nvar/log m 2750 33 34\n\"a name\" d 700 1 2\nold D 77 700 0 0\n# a comment\n\n";
    std::fs::write(folder.path().join("theirs"), table).unwrap();
    // squashfs-tools 4.5 do not know x, which is new in 4.6.
    let more = "bin/ping x user.kind=0ttool\nbin/ping x security.capability=0x0100000200200000000000000000000000000000\n";
    std::fs::write(folder.path().join("table"), format!("{table}{more}")).unwrap();
    let theirs = folder.path().join("theirs.img");
    must(command("mksquashfs").current_dir(folder.path()).args([
        "tree",
        "theirs.img",
        "-pf",
        "theirs",
        "-no-progress",
        "-quiet",
        "-noappend",
        "-root-mode",
        "755",
    ]));
    let said = build(folder.path(), "squashfs", "{ pseudo = \"table\", target = \"/\" }");
    assert_eq!(said.code, 0, "{}", said.error());
    let ours = folder.path().join("ours.img");
    // There, what the table does not name has the owner that it has on this machine.
    use std::os::unix::fs::MetadataExt;
    let meta = folder.path().join("tree").metadata().unwrap();
    let user = format!(" {}/{} ", meta.uid(), meta.gid());
    let own = listed(&ours);
    let mut other: Vec<String> =
        listed(&theirs).iter().map(|line| line.replacen(&user, " 0/0 ", 1)).collect();
    other.sort();
    assert!(
        own.iter().any(|line| line.starts_with("crw-rw-rw- 0/0 1, 3") && line.ends_with("/dev/null")),
        "{own:?}"
    );
    assert!(own.len() > 15, "{own:?}");
    let without = |lines: &[String]| -> Vec<String> {
        lines
            .iter()
            .filter(|line| !line.ends_with("/bin/su") && !line.ends_with("/var/log"))
            .cloned()
            .collect()
    };
    assert_eq!(without(&own), without(&other));
    let has = |start: &str, end: &str| own.iter().any(|line| line.starts_with(start) && line.ends_with(end));
    assert!(has("-rwsr-xr-x 0/0", "/bin/su") && has("drwxr-s--- 33/34", "/var/log"), "{own:?}");
    // Attributes, by the kernel's names. Only root may set those of other namespaces.
    let kinds: &[&str] = if is_root() { &[] } else { &["-user-xattrs"] };
    let mut unsquashfs = command("unsquashfs");
    unsquashfs.current_dir(folder.path()).args(["-no-progress", "-quiet"]).args(kinds);
    must(unsquashfs.args(["-d", "out", "ours.img", "bin/ping"]));
    let said = must(
        command("getfattr")
            .args(["--absolute-names", "-n", "user.kind"])
            .arg(folder.path().join("out/bin/ping")),
    );
    assert!(said.text().contains("\"tool\""), "{}", said.text());
}

#[test]
fn device_tables_are_what_genext2fs_and_buildroot_make() {
    let folder = scratch();
    tree(folder.path());
    let table = "# name type mode uid gid major minor start inc count\n/dev d 755 0 0 - - - - -\n/dev/mem c 640 0 0 1 1 0 0 -\n\
                 /dev/tty c 666 root tty 4 0 0 1 4\n/dev/sda b 640 0 6 8 0 0 0 -\n/dev/sda b 640 0 6 8 1 1 1 3\n/run/fifo p 622 1 2 - - - - -\n\
                 /bin/su f 4755 0 0 - - - - -\n/bin/missing F 755 0 0 - - - - -\n/bin/ping f 755 0 0 - - - - -\n|xattr cap_net_raw+ep\n\
                 /var r 700 www www - - - - -\n";
    std::fs::write(folder.path().join("table"), table).unwrap();
    let said = build(folder.path(), "ext4", "{ device_table = \"table\", target = \"/\" }");
    assert_eq!(said.code, 0, "{}", said.error());
    let image = folder.path().join("ours.img");
    must(command("e2fsck").args(["-fn"]).arg(&image));
    let stat = |name: &str| must(command("debugfs").args(["-R", &format!("stat {name}")]).arg(&image)).text();
    for (name, words) in [
        ("/dev/mem", &["Type: character special", "Mode:  0640", "Device major/minor number: 01:01"][..]),
        ("/dev/tty0", &["Mode:  0666", "User:     0   Group:     5", "04:00"]),
        ("/dev/tty3", &["Type: character special", "04:03"]),
        ("/dev/sda", &["Type: block special", "08:00"]),
        ("/dev/sda1", &["08:01"]),
        ("/dev/sda3", &["08:03", "Group:     6"]),
        ("/run/fifo", &["Type: FIFO", "Mode:  0622", "User:     1   Group:     2"]),
        ("/bin/su", &["Type: regular", "Mode:  04755"]),
        ("/var", &["Mode:  0700", "User:    33   Group:    34"]),
        ("/var/log/a", &["Mode:  0700", "User:    33   Group:    34"]),
        ("/bin/ping", &["security.capability (20) = 01 00 00 02 00 20 00 00"]),
    ] {
        let text = stat(name);
        for word in words {
            assert!(text.contains(word), "no `{word}` of {name} in\n{text}");
        }
    }
    assert!(stat("/dev/tty4").is_empty() && stat("/dev/sda4").is_empty());
}

#[test]
fn wrong_rows_are_named_with_their_line() {
    let folder = scratch();
    tree(folder.path());
    let host = folder.path().join("secret");
    std::fs::write(&host, "secret").unwrap();
    for (key, table, words) in [
        ("pseudo", "a d 755 0 0\nb f 644 0 0 cat secret\n", &["table:2", "no program is run"][..]),
        ("pseudo", "bin/none m 644 0 0\n", &["table:1", "nothing is there"]),
        ("pseudo", "../../x d 755 0 0\n", &["table:1"]),
        ("device_table", "/dev/null c 666 0 0 1 - - - -\n", &["table:1", "minor"]),
        ("device_table", "/bin/none f 644 0 0 - - - - -\n", &["table:1", "nothing is there"]),
        ("device_table", "/bin/su f 644 nobody 0 - - - - -\n", &["table:1", "no user `nobody` in the image"]),
        ("device_table", "/bin/* f 644 0 0 - - - - -\n", &["table:1", "no pattern"]),
        ("device_table", "/bin/su/x c 644 0 0 1 1 - - -\n", &["table:1"]),
    ] {
        std::fs::write(folder.path().join("table"), table).unwrap();
        let said = build(folder.path(), "ext4", &format!("{{ {key} = \"table\", target = \"/\" }}"));
        assert_eq!(said.code, 2, "{table}: {}", said.error());
        for word in words {
            assert!(said.error().contains(word), "no `{word}` in\n{}", said.error());
        }
    }
    let said = build(folder.path(), "vfat", "{ pseudo = \"table\", target = \"/\" }");
    assert!(said.code == 2 && said.error().contains("vfat holds no"), "{}", said.error());
    let said = build(folder.path(), "ext4", "{ pseudo = \"no\", target = \"/\" }");
    assert!(said.code == 1 && said.error().contains("cannot read the table"), "{}", said.error());
}
