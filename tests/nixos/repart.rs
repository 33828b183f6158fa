//! nix/repart-module.nix and nix/repart-image.nix option by option: what they make of a system, without building.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::closure;
use crate::support::tools::{must, run};

const PATH: &str = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-";

/// The evaluation of `what` with `config`, the configuration of a system with the module and these modules.
fn evaluation(modules: &str, what: &str) -> Command {
    closure::evaluation("repart-module.nix", modules, what)
}

fn evaluate(modules: &str, what: &str) -> Value {
    serde_json::from_str(&must(&mut evaluation(modules, what)).text()).unwrap()
}

/// Names as images.nix of nixpkgs asks for them, and the file that the image has.
const NAMES: &str = "{ inherit (config.image) filePath; inherit (config.system.build.image) fileName name; }";

#[test]
fn the_file_has_the_name_that_the_system_tells() {
    let root = "diskwright.repart.partitions.root.repartConfig.Type = \"root\";";
    let of_the_system = "system.image = { id = \"myappliance\"; version = \"7\"; };";
    for (more, base, suffix) in [
        ("", "image", "raw"),
        ("system.image = { id = null; version = null; };", "image", "raw"),
        (of_the_system, "myappliance_7", "raw"),
        ("diskwright.repart.name = \"disk\";", "disk", "raw"),
        ("diskwright.repart = { name = \"disk\"; version = \"8\"; };", "disk_8", "raw"),
        ("diskwright.repart.baseName = \"whole\";", "whole", "raw"),
        ("image.baseName = \"machine\";", "machine", "raw"),
        ("diskwright.repart.compression.enable = true;", "image", "raw.zst"),
        ("diskwright.repart.compression = { enable = true; algorithm = \"xz\"; };", "image", "raw.xz"),
    ] {
        let found = evaluate(&format!("{{ {root} }} {{ {more} }}"), NAMES);
        let file = format!("{base}.{suffix}");
        assert_eq!(found, json!({ "filePath": file, "fileName": file, "name": base }), "{more}");
        let script =
            evaluate(&format!("{{ {root} }} {{ {more} }}"), "config.system.build.repartImage.script");
        let written = format!("diskImage=$out/{file}\n");
        assert!(script.as_str().unwrap().contains(&written), "{more}: {script}");
    }
}

/// The module adds what nixpkgs adds to a system, and only where there is such a store.
#[test]
fn a_verified_store_is_opened_by_the_initrd() {
    let what = "{ inherit (config.boot.initrd) systemd supportedFilesystems; inherit (config.system.build.finalImage) definitions; \
                final = builtins.attrNames config.diskwright.repart.finalPartitions; }";
    let store =
        "{ diskwright.repart.verityStore.enable = true; system.boot.loader.ukiFile = \"machine_7.efi\"; }";
    let definition = |lines: &[&str]| format!("[Partition]\n{}\n", lines.join("\n"));
    let closure = format!("NixClosure={PATH}closure-info");
    let system = format!("NixSystem={PATH}nixos-system");
    assert_eq!(
        evaluate(store, what),
        json!({
            "systemd": { "dmVerity": { "enable": true } },
            "supportedFilesystems": { "erofs": true },
            "final": ["00-esp", "10-store-verity", "20-store"],
            "definitions": {
                "00-esp": definition(&[
                    "Format=vfat", "SizeMinBytes=96M", "Type=esp", "[X-Diskwright]",
                    "CommandLine=usrhash={roothash:store}", &system, "UkiTarget=/EFI/Linux/machine_7.efi",
                ]),
                "10-store-verity": definition(&[
                    "Label=store-verity", "Minimize=best", "Type=usr-verity", "Verity=hash", "VerityMatchKey=store",
                ]),
                "20-store": definition(&[
                    "Format=erofs", "Label=store", "Minimize=best", "Type=usr", "Verity=data", "VerityMatchKey=store",
                    "[X-Diskwright]", &closure,
                ]),
            },
        })
    );
    // What a system says itself counts more, and the filesystem is that of the partition.
    let own = "{ boot.initrd.systemd.dmVerity.enable = false; diskwright.repart.verityStore.partitionIds.store = \"30-usr\"; \
               diskwright.repart.partitions.\"30-usr\".repartConfig = { Format = \"squashfs\"; Label = \"usr\"; }; }";
    let found = evaluate(&format!("{store} {own}"), what);
    assert_eq!(found["systemd"]["dmVerity"]["enable"], false);
    assert_eq!(found["supportedFilesystems"], json!({ "squashfs": true }));
    assert_eq!(found["final"], json!(["00-esp", "10-store-verity", "30-usr"]));
    let text = found["definitions"]["30-usr"].as_str().unwrap();
    assert!(text.contains("Format=squashfs\nLabel=usr\nMinimize=best\n"), "{text}");
    // Without a verified store the initrd stays as it is, and so does a system that describes no image.
    let there = "{ initrd = config.boot.initrd ? systemd; final = config.system.build ? finalImage; image = config.system.build ? image; }";
    let plain = "{ diskwright.repart.partitions.root.repartConfig.Type = \"root\"; }";
    assert_eq!(evaluate(plain, there), json!({ "initrd": false, "final": false, "image": true }));
    let nothing = json!({ "initrd": false, "final": false, "image": false });
    assert_eq!(evaluate("", there), nothing);
    assert_eq!(evaluate(&format!("{store} {{ diskwright.repart.enable = false; }}"), there), nothing);
}

/// The image keeps no closure, and an older image is what partitions are added to.
#[test]
fn options_reach_the_build() {
    let what = "let image = config.system.build.image; in { inherit (image) script; \
                attributes = builtins.removeAttrs image.attributes [ \"passthru\" ]; }";
    let found = evaluate(
        "{ diskwright.repart = { partitions.root = { repartConfig.Type = \"root\"; contents.\"/a\".source = \"/b\"; }; createEmpty = false; \
         image = \"/old.raw\"; mkfsOptions.vfat = [ ]; split = true; imageSize = \"4G\"; seed = null; sectorSize = 4096; }; }",
        what,
    );
    let attributes = json!({
        "__structuredAttrs": true,
        "unsafeDiscardReferences": { "out": true },
        "nativeBuildInputs": [format!("{PATH}diskwright")],
    });
    assert_eq!(found["attributes"], attributes);
    let script = found["script"].as_str().unwrap();
    for part in [
        "printf '%s' '[Partition]\nType=root\nCopyFiles=/b:/a\n' > repart.d/'root.conf'\n",
        "cp --sparse=always /old.raw $out/image.raw; chmod u+w $out/image.raw\n",
        " --size=4G --definitions=$NIX_BUILD_TOP/repart.d --split=yes --json=pretty --seed=random --sector-size=4096 --level=262 ",
    ] {
        assert!(script.contains(part), "no `{part}` in {script}");
    }
    assert!(!script.contains("--empty"), "{script}");
    let found = evaluate("{ diskwright.repart.verityStore.enable = true; }", what);
    assert_eq!(found["attributes"], attributes);
    assert!(found["script"].as_str().unwrap().contains(" --empty=create "), "{found}");
}

/// What is wrong with an image is told where the image is asked for, and the system can be built all the same.
#[test]
fn what_an_image_cannot_have_is_refused() {
    let root = "{ diskwright.repart.partitions.root.repartConfig.Type = \"root\"; }";
    let label = |length: usize| {
        format!("diskwright.repart.partitions.root.repartConfig.Label = \"{}\";", "l".repeat(length))
    };
    for (more, words) in [
        (
            "diskwright.repart.mkfsOptions.vfat = [ \"-c\" ];",
            "mkfsOptions has options for vfat, but no mkfs program runs",
        ),
        ("diskwright.repart.createEmpty = false;", "diskwright.repart.image is what partitions are added to"),
        (
            "diskwright.repart.image = \"/old.raw\";",
            "diskwright.repart.image is what partitions are added to",
        ),
        (
            &label(37),
            "defined for 'root' is 37 characters long, but the maximum label length supported by UEFI is 36.",
        ),
    ] {
        let modules = format!("{root} {{ {more} }}");
        let said = run(&mut evaluation(&modules, "config.system.build.image.name"));
        assert!(said.code != 0 && said.error().contains(words), "{more}: {}", said.error());
        assert_eq!(evaluate(&modules, "config.system.build.toplevel"), format!("{PATH}nixos-system"));
    }
    let initrd = "diskwright.repart.verityStore.enable = true; boot.initrd.systemd.enable = false;";
    for (more, words) in [
        (label(33), None),
        (label(34), Some("'root' is 34 characters long. The suggested maximum label length is 34")),
        (label(36), Some("'root' is 36 characters long. The suggested maximum label length is 34")),
        (initrd.to_owned(), Some("verityStore needs boot.initrd.systemd.enable")),
    ] {
        let said = run(&mut evaluation(&format!("{root} {{ {more} }}"), "config.system.build.image.name"));
        assert_eq!((said.code, said.text().trim()), (0, "\"image\""), "{more}: {}", said.error());
        match words {
            Some(words) => assert!(said.error().contains(words), "{more}: {}", said.error()),
            None => assert!(!said.error().contains("label"), "{}", said.error()),
        }
    }
}

/// The page names every argument of the function and every option of the module.
#[test]
fn the_page_names_what_there_is_for_an_image() {
    let page = std::fs::read_to_string("docs/nix.md").unwrap();
    let section = page.split_once("## image.repart\n").expect("docs/nix.md has image.repart").1;
    let function = Path::new(env!("CARGO_MANIFEST_DIR")).join("nix/repart-image.nix");
    let what = format!(
        "builtins.attrNames (builtins.removeAttrs (builtins.functionArgs (import {})) [ \"pkgs\" \"lib\" ]) \
         ++ builtins.attrNames config.diskwright.repart",
        function.display()
    );
    let names: Vec<String> = serde_json::from_value(evaluate("", &what)).unwrap();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        assert!(section.contains(&format!("`{name}`")), "docs/nix.md does not name {name}");
    }
}
