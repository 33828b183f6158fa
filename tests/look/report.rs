//! `report`: what fills an image, compared with what other programs count, and its page in a browser.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::browser::Browser;
use crate::support::program::{build, diskwright, mkfs_erofs, mkfs_ext4, mkfs_squashfs, mkfs_vfat, project};
use crate::support::tools::{command, must, run, scratch};
use crate::support::tree::{Maker, noise};

fn report(arguments: &[&str], image: &Path) -> Value {
    let said = must(diskwright().args(["report", "--json"]).arg(image).args(arguments));
    serde_json::from_str(&said.text()).unwrap()
}

/// The bytes of an area with a use.
fn bytes(area: &Value, of: &str) -> u64 {
    let extents = area["extents"].as_array().unwrap();
    let length = |own: &Value| own["end"].as_u64().unwrap() - own["start"].as_u64().unwrap();
    extents.iter().filter(|own| own["use"] == of).map(length).sum()
}

#[test]
fn the_map_of_the_disk_has_every_byte_once() {
    let folder = scratch();
    let [gpt, mbr] = project(folder.path());
    for (manifest, suffix) in [(&gpt, "img"), (&gpt, "qcow2"), (&mbr, "vmdk")] {
        let disk = folder.path().join(format!("disk.{suffix}"));
        build(manifest, &disk);
        let found = report(&[], &disk);
        let mut at = 0;
        for area in found["areas"].as_array().unwrap() {
            for extent in area["extents"].as_array().unwrap() {
                assert_eq!(extent["start"], at, "{suffix}: {area}");
                at = extent["end"].as_u64().unwrap();
            }
        }
        assert_eq!(found["virtual_size"], at, "{suffix}");
        assert_eq!(found["remarks"], Value::Array(Vec::new()), "{suffix}");
    }
}

/// Free blocks are those that dumpe2fs counts: in the image they are stored or holes.
#[test]
fn free_space_and_data_are_those_that_others_count() {
    let folder = scratch();
    let (source, image) = (crate::list::source(folder.path()), folder.path().join("image.img"));
    mkfs_ext4(&source, &image, &["--owner", "preserve", "--size", "64MiB"]);
    // Written out, so that nothing is a hole.
    let whole = folder.path().join("whole.img");
    must(command("cp").arg("--sparse=never").arg(&image).arg(&whole));
    let said = must(command("dumpe2fs").arg("-h").arg(&whole)).text();
    let free = said.lines().find_map(|line| line.strip_prefix("Free blocks:")).unwrap();
    let free: u64 = free.trim().parse().unwrap();
    let found = report(&[], &whole);
    let area = &found["areas"][0];
    assert_eq!((bytes(area, "free"), bytes(area, "hole")), (free * 4096, 0));
    // The data of all regular files, as du counts what they occupy in blocks of 4 KiB.
    let files = ["bin/su", "bin/wall", "etc/a.conf", "etc/b.conf", "etc/.c.conf", "etc/conf.d/x.conf"];
    let files = files.iter().chain(&["etc/conf.d/y", ".hidden/z.conf", "large", "names", "secret"]);
    let size = |name: &&&str| std::fs::metadata(source.join(name)).unwrap().len().next_multiple_of(4096);
    // Two blocks of the sparse file have data.
    assert_eq!(bytes(area, "data"), files.map(|name| size(&name)).sum::<u64>() + 2 * 4096);
    mkfs_vfat(&source.join("etc/conf.d"), &image, &["--size", "40MiB"]);
    must(command("cp").arg("--sparse=never").arg(&image).arg(&whole));
    let found = report(&[], &whole);
    let (area, said) = (&found["areas"][0], run(command("fsck.fat").args(["-nv"]).arg(&whole)).text());
    let number = |words: &str| -> u64 {
        let line = said.lines().find(|line| line.contains(words)).unwrap();
        line.split_whitespace().find_map(|word| word.parse().ok()).unwrap()
    };
    let cluster = number("bytes per cluster");
    let used = said.lines().find(|line| line.contains(" files, ")).unwrap();
    let (used, all) = used.split_whitespace().nth(3).unwrap().split_once('/').unwrap();
    let free = all.parse::<u64>().unwrap() - used.parse::<u64>().unwrap();
    assert_eq!(bytes(area, "free"), free * cluster, "{said}");
    assert_eq!(bytes(area, "data"), 2 * cluster);
}

/// Files with names that would be markup, code, lines or commands, and equal files and links.
fn hostile(folder: &Path) -> PathBuf {
    let source = folder.join("hostile");
    let mut maker = Maker::new(&source);
    maker
        .directory("big")
        .directory("big/inner")
        .directory("big/inner/<")
        .directory("big/<!--")
        .directory("x");
    // As a path, it ends a script.
    maker.file("big/inner/</script><script>document.title='owned'<", noise(1, 600_000));
    maker.file("big/inner/<script>alert(1)", noise(2, 400_000));
    maker.file("big/<!--/<img src=x onerror=alert(2)>", noise(3, 200_000));
    maker.file("big/two\nlines", noise(4, 150_000)).file("big/\u{2028}\u{202e}\"'\\", noise(5, 100_000));
    maker.file("big/&lt;b&gt;", noise(6, 90_000)).file("x/text.txt", "a line of text\n".repeat(30_000));
    maker.file("x/same-1", noise(7, 80_000)).file("x/same-2", noise(7, 80_000));
    maker.file("x/other", noise(8, 80_000)).link("x/other", "x/name\x1b[2J");
    maker.finish();
    source
}

#[test]
fn equal_files_links_and_types_are_told() {
    let folder = scratch();
    let (source, image) = (hostile(folder.path()), folder.path().join("image.img"));
    mkfs_ext4(&source, &image, &[]);
    let found = report(&[], &image);
    let equal = &found["duplicates"];
    assert_eq!((&equal["groups"], &equal["files"], &equal["wasted"]), (&1.into(), &2.into(), &81_920.into()));
    assert_eq!(equal["largest"][0]["paths"], serde_json::json!(["/x/same-1", "/x/same-2"]));
    let links = &found["links"];
    assert_eq!(
        (&links["files"], &links["names"], &links["dissolved"]),
        (&1.into(), &2.into(), &81_920.into())
    );
    assert_eq!(links["largest"][0]["paths"], serde_json::json!(["/x/name\\x1b[2J", "/x/other"]));
    // A third of a MiB of one line again and again is nothing; noise stays.
    let suffixes = found["compression"]["suffixes"].as_array().unwrap();
    let text = suffixes.iter().find(|own| own["suffix"] == ".txt").unwrap();
    assert!(text["compressed"].as_u64().unwrap() * 10 < text["bytes"].as_u64().unwrap(), "{text}");
    let all = &found["compression"];
    assert!(all["compressed"].as_u64().unwrap() > 1_500_000, "{all}");
    assert_eq!(found["largest"][0]["size"], 600_000);
    // The same files in other filesystems.
    for name in ["erofs", "squashfs"] {
        if name == "erofs" {
            mkfs_erofs(&source, &image, &[]);
        } else {
            mkfs_squashfs(&source, &image, &[]);
        }
        let found = report(&[], &image);
        assert_eq!(found["links"]["names"], 2, "{name}");
        assert_eq!(found["remarks"], serde_json::json!([]), "{name}");
    }
}

#[test]
fn the_text_has_the_largest_first_and_no_commands_of_the_image() {
    let folder = scratch();
    let (source, image) = (hostile(folder.path()), folder.path().join("image.img"));
    mkfs_ext4(&source, &image, &[]);
    let text = must(diskwright().arg("report").arg(&image)).text();
    let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("no `{words}` in\n{text}"));
    assert!(at("  big") < at("    inner") && at("    inner") < at("two\\x0alines"), "{text}");
    assert!(at("what fills it") < at("the largest files") && at("the largest files") < at("what compresses"));
    assert!(at("linking them saves 80 KiB") > 0 && at("dissolving these links costs 80 KiB") > 0);
    assert!(text.contains('\u{2588}') && !text.contains('\x1b'), "{text}");
    let said = run(diskwright().arg("report").arg(format!("{}:/x", image.display())));
    assert!(said.code == 2 && said.error().contains("not about a path"), "{}", said.error());
}

/// Three store paths: `system` refers to `tool`, and that to `library`; `orphan` to `library` too.
const NAMES: [&str; 4] = [
    "00000000000000000000000000000000-system",
    "11111111111111111111111111111111-tool",
    "22222222222222222222222222222222-library",
    "33333333333333333333333333333333-orphan",
];

fn store(folder: &Path, beside: &dyn Fn(&mut Maker)) -> PathBuf {
    let source = folder.join("system");
    let mut maker = Maker::new(&source);
    maker.directory("nix").directory("nix/store");
    for (name, length) in NAMES.iter().zip([5_000, 10_000, 40_000, 20_000]) {
        maker
            .directory(format!("nix/store/{name}"))
            .file(format!("nix/store/{name}/file"), noise(length, length));
    }
    maker.symlink(format!("nix/store/{}/link", NAMES[0]), format!("/nix/store/{}", NAMES[1]));
    // The hash lies over the end of a piece of 1 MiB.
    let mut long = noise(9, (1 << 20) - 27);
    long.extend_from_slice(format!("/nix/store/{}/file", NAMES[2]).as_bytes());
    maker.file(format!("nix/store/{}/long", NAMES[1]), long);
    maker.file(format!("nix/store/{}/text", NAMES[3]), format!("see {}", &NAMES[2][..32]));
    beside(&mut maker);
    maker.finish();
    source
}

/// Checks who is there because of whom; returns where the references came from.
fn because_of(image: &Path) -> String {
    let found = report(&[], image);
    let store = &found["store"];
    let of = |name: &str| {
        let all = store["paths"].as_array().unwrap();
        all.iter().find(|own| own["name"] == name).unwrap_or_else(|| panic!("{name}: {store}"))
    };
    assert_eq!(of(NAMES[1])["because_of"], serde_json::json!([NAMES[0]]));
    assert_eq!(of(NAMES[2])["because_of"], serde_json::json!([NAMES[1], NAMES[3]]));
    assert_eq!(store["roots"], serde_json::json!([NAMES[0], NAMES[3]]));
    // Without the system, its tool would go, and the library would stay because of the orphan.
    let number = |name: &str, what: &str| of(name)[what].as_u64().unwrap();
    assert_eq!(number(NAMES[0], "retained"), number(NAMES[0], "occupied") + number(NAMES[1], "occupied"));
    assert_eq!(number(NAMES[2], "retained"), number(NAMES[2], "occupied"));
    assert_eq!(of(NAMES[2])["way"].as_array().unwrap().last().unwrap(), NAMES[2]);
    store["references"].as_str().unwrap().to_owned()
}

#[test]
fn store_paths_are_there_because_of_others() {
    let folder = scratch();
    let image = folder.path().join("image.img");
    mkfs_ext4(&store(folder.path(), &|_| {}), &image, &[]);
    assert!(because_of(&image).contains("search of all files"));

    let path = |at: usize| format!("/nix/store/{}", NAMES[at]);
    let entry = |at: usize, references: &[usize]| {
        let lines: String = references.iter().map(|to| format!("{}\n", path(*to))).collect();
        format!("{}\n{:064x}\n100\n\n{}\n{lines}", path(at), at, references.len())
    };
    let text = entry(0, &[1]) + &entry(1, &[2, 1]) + &entry(2, &[]) + &entry(3, &[2]);
    let folder = scratch();
    let source = store(folder.path(), &|maker| {
        maker.file("nix-path-registration", text.as_str());
    });
    let image = folder.path().join("image.img");
    mkfs_ext4(&source, &image, &[]);
    assert_eq!(because_of(&image), "/nix-path-registration");

    // A database in the mode that Nix leaves, by SQLite itself.
    let database = folder.path().join("db.sqlite");
    let sql = "pragma journal_mode = wal; create table ValidPaths (id integer primary key, path text unique); \
               create table Refs (referrer integer, reference integer, primary key (referrer, reference));";
    let rows: String =
        (0..4).map(|at| format!("insert into ValidPaths values ({}, '{}');", at + 1, path(at))).collect();
    let rows = rows + "insert into Refs values (1, 2), (2, 3), (2, 2), (4, 3);";
    must(command("sqlite3").arg(&database).arg(format!("{sql}{rows}pragma wal_checkpoint(truncate);")));
    must(command("mkdir").arg("-p").arg(source.join("nix/var/nix/db")));
    must(command("cp").arg(&database).arg(source.join("nix/var/nix/db/db.sqlite")));
    mkfs_ext4(&source, &image, &[]);
    assert_eq!(because_of(&image), "/nix/var/nix/db/db.sqlite");

    // One that does not know all store paths is not believed, and a damaged one neither.
    must(
        command("sqlite3")
            .arg(source.join("nix/var/nix/db/db.sqlite"))
            .arg("delete from ValidPaths where id = 4;"),
    );
    mkfs_ext4(&source, &image, &[]);
    assert_eq!(because_of(&image), "/nix-path-registration");
    assert!(report(&[], &image)["remarks"].to_string().contains("does not know 1 store paths"));
    std::fs::write(source.join("nix/var/nix/db/db.sqlite"), noise(1, 50_000)).unwrap();
    mkfs_ext4(&source, &image, &[]);
    assert_eq!(because_of(&image), "/nix-path-registration");
    assert!(report(&[], &image)["remarks"].to_string().contains("SQLite cannot read it"));
}

#[test]
fn a_second_image_is_compared() {
    let folder = scratch();
    let (old, new) = (folder.path().join("old.img"), folder.path().join("new.img"));
    let source = store(folder.path(), &|_| {});
    mkfs_ext4(&source, &old, &["--size", "40MiB"]);
    let renamed = source.join("nix/store").join(NAMES[1].replace('1', "4"));
    std::fs::rename(source.join("nix/store").join(NAMES[1]), &renamed).unwrap();
    std::fs::write(renamed.join("more"), noise(3, 500_000)).unwrap();
    std::fs::write(source.join("added"), noise(3, 100_000)).unwrap();
    mkfs_ext4(&source, &new, &["--size", "40MiB"]);
    let found = report(&[old.to_str().unwrap()], &new);
    let changes = &found["changes"];
    let name = |at: usize| changes["sizes"][at]["name"].as_str().unwrap().to_owned();
    assert_eq!((name(0), name(1)), ("/nix/store/…-tool".to_owned(), "/added".to_owned()));
    assert!(changes["sizes"][2].is_null() && changes["count"].as_u64().unwrap() > 3, "{changes}");
    let text = must(diskwright().arg("report").arg(&new).arg(&old)).text();
    assert!(text.contains("tool") && text.contains("differences; `diskwright diff` shows"), "{text}");
}

#[test]
fn the_page_works_in_a_browser() {
    let folder = scratch();
    std::fs::create_dir(folder.path().join("<")).unwrap();
    let (source, image) = (hostile(folder.path()), folder.path().join("</title><b>.img"));
    mkfs_ext4(&source, &image, &[]);
    let page = folder.path().join("report.html");
    must(diskwright().arg("report").arg(&image).arg("-o").arg(&page));
    assert!(std::fs::metadata(&page).unwrap().len() < 2_000_000);
    let mut browser = Browser::start();
    browser.window((1100, 900), false);
    browser.open(&page);
    let title = browser.value("document.title");
    assert!(title.as_str().unwrap().ends_with("</title><b>.img"), "{title}");
    // Names are text: no element comes from them.
    assert_eq!(
        browser.value("document.querySelectorAll('b, img, script:not([type]):not(:last-of-type)').length"),
        0
    );
    assert_eq!(browser.value("document.querySelectorAll('script').length"), 2);
    let depth = "document.getElementById('treemap').dataset.depth";
    assert_eq!(browser.value(depth), "0");
    let light = browser.picture();
    // The largest box is first: the mouse goes into it, and further into the one with the names that are code.
    browser.click("#treemap > button");
    assert_eq!(browser.value(depth), "1");
    browser.click("#treemap > button");
    assert_eq!(browser.value(depth), "2");
    let labels = browser.value("[...document.querySelectorAll('#treemap > button')].map((b) => b.ariaLabel)");
    assert!(labels[0].as_str().unwrap().starts_with("<: 5"), "{labels}");
    // A file has nothing inside, so it is told.
    browser.click("#treemap > button:nth-child(2)");
    let told = browser.value("document.getElementById('chosen').textContent");
    assert!(told.as_str().unwrap().starts_with("disk / big / inner / <script>alert(1): 3"), "{told}");
    // The keyboard: to the box beside it, and up to where it was.
    let active = "document.activeElement.ariaLabel";
    browser.press("ArrowLeft", 37);
    assert!(browser.value(active).as_str().unwrap().starts_with("<: 5"));
    browser.press("Escape", 27);
    assert_eq!(browser.value(depth), "1");
    assert!(browser.value(active).as_str().unwrap().starts_with("inner: "), "focus is where it was");
    browser.press("Tab", 9);
    assert!(browser.value(active).as_str().unwrap().starts_with("<!--: "), "Tab goes on");
    // The address leads to the same place again, and back.
    browser.value("history.back()");
    browser.until("location.hash", "#0.0");
    browser.until(depth, "2");
    // A user who opens that address is there at once.
    browser.reload();
    browser.until(depth, "2");
    // On a phone nothing is wider than the screen, and the colours follow the system.
    let back = browser.value("getComputedStyle(document.body).backgroundColor");
    browser.window((390, 800), true);
    assert_eq!(browser.value("document.documentElement.scrollWidth"), 390);
    assert_ne!(browser.value("getComputedStyle(document.body).backgroundColor"), back);
    let dark = browser.picture();
    // A picture of one colour is short.
    assert!(light.len() > 20_000 && dark.len() > 10_000 && light != dark, "{} {}", light.len(), dark.len());
    assert!(browser.complaints().is_empty(), "{:#?}", browser.complaints());
    // It is seen that complaints are heard.
    browser.value("console.error('seen'), setTimeout(() => { throw new Error('seen too'); }, 0), 1");
    browser.value("new Promise((done) => setTimeout(done, 50))");
    assert_eq!(browser.complaints().len(), 2);
}
