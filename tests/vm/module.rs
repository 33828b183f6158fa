//! nix/qemu-vm.nix option by option: the machine that it describes and what it changes in the system, without building.

use std::path::Path;
use std::process::Command;

use diskwright::vm::Machine;
use serde_json::{Value, json};

use crate::closure;
use crate::support::tools::{must, run};

const PATH: &str = "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-";

/// The evaluation of a machine with these modules: `what` of its configuration.
fn evaluation(modules: &str, what: &str) -> Command {
    closure::evaluation("qemu-vm.nix", modules, what)
}

fn evaluate(modules: &str, what: &str) -> Value {
    serde_json::from_str(&must(&mut evaluation(modules, what)).text()).unwrap()
}

/// The machine of `system.build.ATTRIBUTE`, which the program reads.
fn machine(modules: &str, attribute: &str) -> Value {
    let found = evaluate(modules, &format!("config.system.build.{attribute}.machine"));
    Machine::parse(&found.to_string(), Path::new("machine.json"))
        .unwrap_or_else(|error| panic!("{modules}: {error}"));
    found
}

#[test]
fn a_machine_has_a_store_disk_by_default() {
    let found = machine("", "vm");
    assert_eq!(
        found,
        json!({
            "name": "nixos",
            "mode": "store-disk",
            "nixos": {
                "system": format!("{PATH}nixos-system"),
                "closure": format!("{PATH}closure-info"),
                "additional_paths": [],
                "disk_size": "1024MiB",
            },
            "store_type": "ext4",
            "memory": "1024MiB",
            "cores": 1,
            "graphics": true,
            "accel": "auto",
            "disk_interface": "virtio",
            "empty_disks": [],
            "drives": [],
            "shares": [
                { "tag": "shared", "source": "${SHARED_DIR:-$TMPDIR/xchg}", "writable": true },
                { "tag": "xchg", "source": "$TMPDIR/xchg", "writable": true },
            ],
            "share_by": "virtiofs",
            "virtiofsd": format!("{PATH}virtiofsd/bin/virtiofsd"),
            "kernel_params": ["console=ttyS0,115200n8", "console=tty0"],
            "qemu": format!("{PATH}qemu_kvm/bin/qemu-system-x86_64"),
            "qemu_options": ["-device virtio-keyboard"],
        })
    );
}

#[test]
fn every_option_becomes_a_key() {
    for (more, key, expected) in [
        ("memorySize = 2048;", "/memory", json!("2048MiB")),
        ("cores = 4;", "/cores", json!(4)),
        ("diskSize = 4096;", "/nixos/disk_size", json!("4096MiB")),
        ("diskImage = \"./own.qcow2\";", "/disk_image", json!("./own.qcow2")),
        ("diskImage = null;", "/root_disk", json!(false)),
        ("emptyDiskImages = [ 512 ];", "/empty_disks/0/size", json!("512MiB")),
        (
            "emptyDiskImages = [ { size = 1; driveConfig = { name = \"n\"; deviceExtraOpts.serial = \"s\"; driveExtraOpts.readonly = true; }; } ];",
            "/empty_disks/0",
            json!({ "size": "1MiB", "name": "n", "device": { "serial": "s" }, "drive": { "readonly": "on" } }),
        ),
        (
            "qemu.drives = [ { file = \"/d\"; driveExtraOpts.format = \"raw\"; deviceExtraOpts.bootindex = 3; } ];",
            "/drives/0",
            json!({ "file": "/d", "drive": { "format": "raw" }, "device": { "bootindex": "3" } }),
        ),
        ("qemu.diskInterface = \"ide\";", "/disk_interface", json!("ide")),
        ("qemu.forceAccel = true;", "/accel", json!("kvm")),
        ("qemu.options = [ \"-vga std\" ];", "/qemu_options/1", json!("-vga std")),
        ("qemu.virtioKeyboard = false;", "/qemu_options", json!([])),
        (
            "qemu.enableSharedMemory = true; diskwright.shareBy = \"9p\";",
            "/qemu_options/1",
            json!("-object memory-backend-memfd,id=mem0,size=1024M,share=on -machine memory-backend=mem0"),
        ),
        ("tpm.enable = true;", "/tpm", json!(true)),
        ("tpm.enable = true;", "/swtpm", json!(format!("{PATH}swtpm/bin/swtpm"))),
        ("tpm.enable = true;", "/tpm_provisioning", Value::Null),
        ("tpm.enable = true; tpm.deviceModel = \"tpm-crb\";", "/tpm_device", json!("tpm-crb")),
        (
            "tpm.enable = true; tpm.provisioning = \"tpm2_nvdefine 1\";",
            "/tpm_provisioning",
            json!(format!(
                "set -e\nPATH={PATH}tpm2-tools/bin:$PATH\ntpm2_startup --clear\ntpm2_startup\n(\ntpm2_nvdefine 1\n)\n\
                 tpm2_shutdown\ntpm2_shutdown --clear"
            )),
        ),
        ("qemu.networkingOptions = [ \"-nic x\" ];", "/network", json!(false)),
        ("qemu.networkingOptions = [ \"-nic x\" ];", "/qemu_options/1", json!("-nic x")),
        (
            "restrictNetwork = true; forwardPorts = [ { host.port = 2222; guest.port = 22; } ];",
            "/network_options",
            json!("restrict=on,hostfwd=tcp::2222-:22"),
        ),
        ("bios = \"/b\";", "/qemu_options/1", json!("-bios /b/bios.bin")),
        ("", "/credentials", Value::Null),
        (
            "credentials.a.text = \"x,y\";",
            "/credentials/0",
            json!({ "name": "a", "text": "x,y", "by": "smbios" }),
        ),
        (
            "credentials.a = { source = \"./cert.pem\"; mechanism = \"fw_cfg\"; };",
            "/credentials/0",
            json!({ "name": "a", "file": "./cert.pem", "by": "fw_cfg" }),
        ),
        ("qemu.drives = [ { file = \"./data.img\"; } ];", "/drives/0/file", json!("./data.img")),
        ("graphics = false;", "/kernel_params", json!(["console=tty0", "console=ttyS0,115200n8"])),
        ("directBoot.initrd = \"/i\";", "/initrd", json!("/i")),
        ("useEFIBoot = true;", "/efi_firmware", json!(format!("{PATH}OVMF_CODE.fd"))),
        ("useEFIBoot = true;", "/efi_variables", json!(format!("{PATH}OVMF_VARS.fd"))),
        ("useEFIBoot = true;", "/keep_variables", json!(false)),
        ("diskwright.storeType = \"erofs\";", "/store_type", json!("erofs")),
        ("diskwright.shareBy = \"9p\";", "/virtiofsd", Value::Null),
        (
            "additionalPaths = [ \"/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-x\" ];",
            "/nixos/additional_paths/0",
            json!(format!("{PATH}x")),
        ),
        (
            "sharedDirectories.own = { source = \"$HOME/x\"; target = \"/x\"; };",
            "/shares/0",
            json!({ "tag": "own", "source": "$HOME/x", "writable": false }),
        ),
        ("mountHostNixStore = true; useNixStoreImage = false;", "/mode", json!("root-alone")),
        (
            "mountHostNixStore = true; useNixStoreImage = false;",
            "/reg_info",
            json!("/nix/.ro-store/00bgd045z0d4icpbc2yyz4gx48ak44la-closure-info/registration"),
        ),
        ("useDefaultFilesystems = false;", "/root_disk", json!(false)),
        (
            "useDefaultFilesystems = false;",
            "/empty_disks/0",
            json!({ "size": "1024MiB", "name": "root", "device": { "serial": "root" } }),
        ),
    ] {
        let found = machine(&format!("{{ virtualisation = {{ {more} }}; }}"), "vm");
        assert_eq!(found.pointer(key).unwrap_or(&Value::Null), &expected, "{more}\n{found}");
    }
}

/// The full disk is that of make-disk-image.nix, with the space that it was asked for.
#[test]
fn a_boot_loader_brings_a_full_disk() {
    for (modules, layout, loader, efi) in [
        ("", "legacy", "grub", false),
        ("{ virtualisation.useBIOSBoot = true; }", "legacy+boot", "grub", false),
        ("{ boot.loader.systemd-boot.enable = true; }", "efi", "systemd-boot", true),
        ("{ boot.loader.efi.canTouchEfiVariables = true; }", "efi", "grub", true),
    ] {
        let found = machine(modules, "vmWithBootLoader");
        let section = &found["nixos"];
        assert_eq!(
            (&found["mode"], &section["layout"]),
            (&json!("boot-loader"), &json!(layout)),
            "{modules}"
        );
        assert_eq!(section["boot_loader"], loader, "{modules}");
        assert_eq!((&section["disk_size"], &section["additional_space"]), (&json!("auto"), &json!("512MiB")));
        assert_eq!(found.get("efi_firmware").is_some(), efi, "{modules}");
        assert_eq!(found.get("keep_variables"), efi.then_some(&json!(true)));
        assert_eq!(section.get("channel"), None);
    }
    let found = machine(
        "{ virtualisation = { bootDiskAdditionalSpace = \"2G\"; diskSize = 4096; }; }",
        "vmWithBootLoader",
    );
    assert_eq!(found["nixos"]["disk_size"], "4096MiB");
    let found = machine("{ virtualisation.bootDiskAdditionalSpace = \"2G\"; }", "vmWithBootLoader");
    assert_eq!(found["nixos"]["additional_space"], "2GiB");
}

/// What the system mounts, loads and runs.
#[test]
fn the_system_mounts_what_the_machine_has() {
    let filesystems =
        |more: &str| evaluate(&format!("{{ virtualisation = {{ {more} }}; }}"), "config.fileSystems");
    let own = "{ fileSystems.\"/data\" = { device = \"/dev/sdb\"; }; swapDevices = [ { device = \"/dev/sdc\"; } ]; }";
    let found = evaluate(
        own,
        "{ inherit (config) fileSystems swapDevices; inherit (config.boot.initrd.luks) devices; }",
    );
    assert!(found["fileSystems"].get("/data").is_none(), "{found}");
    assert_eq!((&found["swapDevices"], &found["devices"]), (&json!([]), &json!({})));
    let found = filesystems("");
    assert_eq!(found["/"], json!({ "device": "/dev/disk/by-label/nixos", "fsType": "ext4" }));
    assert_eq!(found["/nix/.ro-store"]["device"], "/dev/disk/by-label/nix-store");
    assert_eq!(found["/nix/.ro-store"]["fsType"], "ext4");
    let overlay = &found["/nix/store"]["options"];
    let expected =
        ["lowerdir=/nix/.ro-store", "upperdir=/nix/.rw-store/upper", "workdir=/nix/.rw-store/work"];
    assert_eq!(overlay, &json!(expected));
    assert_eq!(found["/tmp/xchg"]["fsType"], "virtiofs");
    let found = filesystems("diskwright.overlayOption = true;");
    assert_eq!(found["/nix/store"]["overlay"]["lowerdir"], json!(["/nix/.ro-store"]));
    assert_eq!(filesystems("writableStore = false;")["/nix/store"]["options"], json!(["bind"]));
    assert_eq!(filesystems("writableStoreUseTmpfs = false;").get("/nix/.rw-store"), None);
    assert_eq!(filesystems("diskImage = null;")["/"]["fsType"], "tmpfs");
    assert_eq!(filesystems("diskwright.storeType = \"erofs\";")["/nix/.ro-store"]["fsType"], "erofs");
    assert_eq!(filesystems("diskwright.shareBy = \"9p\";")["/tmp/shared"]["fsType"], "9p");
    let found =
        filesystems("mountHostNixStore = true; useNixStoreImage = false; diskwright.shareBy = \"9p\";");
    assert_eq!(
        (&found["/nix/.ro-store"]["device"], &found["/nix/.ro-store"]["fsType"]),
        (&json!("nix-store"), &json!("9p"))
    );
    let found = filesystems("useBootLoader = true; useEFIBoot = true;");
    assert_eq!(found["/boot"]["device"], "/dev/disk/by-label/ESP");
    assert!(found.get("/nix/store").is_none(), "{found}");
    // Its own filesystems stand where they are asked to.
    let own = format!("{own} {{ virtualisation.useDefaultFilesystems = false; }}");
    assert_eq!(evaluate(&own, "config.fileSystems")["/data"]["device"], "/dev/sdb");
    let modules = evaluate(
        "{ virtualisation = { qemu.diskInterface = \"scsi\"; diskwright.storeType = \"erofs\"; }; }",
        "config.boot.initrd.availableKernelModules",
    );
    for module in ["overlay", "virtio_blk", "erofs", "virtio_scsi", "virtiofs"] {
        assert!(modules.as_array().unwrap().contains(&json!(module)), "{module}");
    }
    let script = evaluate("", "config.systemd.services.register-nix-paths.script");
    assert!(script.as_str().unwrap().contains("nix-store --load-db"), "{script}");
    let device = evaluate("{ virtualisation.useBootLoader = true; }", "config.boot.loader.grub.device");
    assert_eq!(device, "/dev/disk/by-id/virtio-root");
}

#[test]
fn what_is_gone_or_contradicts_itself_is_refused_with_the_reason() {
    for (more, words) in [
        ("msize = 16384;", "The option `virtualisation.msize' is gone. The store is a disk"),
        ("nixStore9pCache = \"loose\";", "nixStore9pCache"),
        ("useSecureBoot = true;", "virtualisation.efi.firmware"),
        ("bootDevice = \"/dev/vda\";", "virtualisation.rootDevice"),
        ("pathsInNixDB = [ ];", "virtualisation.additionalPaths"),
        ("useHostCerts = true;", "sharedDirectories"),
        ("efiVars = \"x\";", "NIX_EFI_VARS"),
        ("persistBootDevice = true;", "keeps what is written"),
        ("diskSize = \"auto\";", "give MiB"),
        ("mountHostNixStore = true;", "not both"),
        ("useNixStoreImage = false; mountHostNixStore = false;", "without a boot loader the store is"),
        ("directBoot.enable = false;", "directBoot.enable"),
    ] {
        let what = "map (one: one.message) (builtins.filter (one: !one.assertion) config.assertions)";
        let found = evaluate(&format!("{{ virtualisation = {{ {more} }}; }}"), what);
        let messages = found.as_array().unwrap();
        assert!(messages.len() == 1 && messages[0].as_str().unwrap().contains(words), "{more}: {found}");
    }
    assert_eq!(evaluate("", "builtins.filter (one: !one.assertion) config.assertions"), json!([]));
    for more in
        ["memorySize = 0;", "cores = \"two\";", "qemu.diskInterface = \"nvme\";", "diskSize = \"big\";"]
    {
        let said = run(&mut evaluation(
            &format!("{{ virtualisation = {{ {more} }}; }}"),
            "config.system.build.vm.machine",
        ));
        assert_ne!(said.code, 0, "{more}: {}", said.text());
    }
}

/// Interfaces for the networks of the test driver (nixpkgs, `nixos/lib/testing/network.nix`), which adds the arguments of QEMU by
/// itself: what it asks for is there, and its variables reach QEMU.
#[test]
fn the_test_drivers_networks_are_interfaces() {
    let of = |more: &str| {
        evaluate(&format!("{{ virtualisation = {{ {more} }}; }}"), "config.virtualisation.allInterfaces")
    };
    let eth = |name: &str, vlan: u32| json!({ "name": name, "vlan": vlan, "assignIP": true });
    assert_eq!(of(""), json!({ "eth1": eth("eth1", 1) }));
    assert_eq!(of("vlans = [ ];"), json!({}));
    assert_eq!(of("vlans = [ 3 1 ];"), json!({ "eth1": eth("eth1", 3), "eth2": eth("eth2", 1) }));
    let own = json!({ "name": "lan", "vlan": 2, "assignIP": false });
    assert_eq!(of("interfaces.lan.vlan = 2;"), json!({ "lan": own }));
    let found = of("vlans = [ 1 ]; interfaces.lan = { vlan = 2; assignIP = true; name = \"enp1\"; };");
    assert_eq!(found, json!({ "eth1": eth("eth1", 1), "lan": eth("enp1", 2) }));
    let network =
        evaluate("", "{ inherit (config.networking) primaryIPAddress usePredictableInterfaceNames; }");
    assert_eq!(network, json!({ "primaryIPAddress": "", "usePredictableInterfaceNames": false }));
    let modules =
        evaluate("{ virtualisation.tpm.enable = true; }", "config.boot.initrd.availableKernelModules");
    assert!(modules.as_array().unwrap().contains(&json!("tpm_tis")), "{modules}");
    let agent =
        evaluate("{ virtualisation.qemu.guestAgent.enable = false; }", "config.services.qemuGuest.enable");
    assert_eq!(agent, json!(false));
    let screen = "{ virtualisation.resolution = { x = 640; y = 480; }; }";
    assert_eq!(evaluate(screen, "config.boot.loader.grub.gfxmodeBios"), "640x480");
}

/// The script of the build runs the program, and the machine needs neither KVM nor an image.
#[test]
fn the_build_writes_a_script_and_no_image() {
    let found = evaluate(
        "{ system.name = \"tried\"; }",
        "{ inherit (config.system.build.vm) name script attributes; }",
    );
    let script = found["script"].as_str().unwrap();
    assert!(script.contains("-o $out/bin/run-tried-vm") && script.contains("$out/system"), "{script}");
    assert!(!script.contains("qemu-img") && !script.contains("mkfs"), "{script}");
    assert_eq!(found["name"], "nixos-vm");
    assert_eq!(found["attributes"].get("requiredSystemFeatures"), None);
}

/// The page names every option.
#[test]
fn the_page_names_every_option() {
    let page = std::fs::read_to_string("docs/vm.md").unwrap();
    let names = evaluate("", "builtins.attrNames config.virtualisation");
    let names = names.as_array().unwrap();
    assert!(names.len() > 30, "{names:?}");
    let gone = [
        "msize",
        "nixStore9pCache",
        "useSecureBoot",
        "bootDevice",
        "pathsInNixDB",
        "efiVars",
        "persistBootDevice",
        "useHostCerts",
    ];
    for name in names.iter().map(|name| name.as_str().unwrap()) {
        assert!(page.contains(&format!("`{name}")), "docs/vm.md does not name {name}");
    }
    for name in gone {
        assert!(page.contains(&format!("`{name}")), "docs/vm.md does not say that {name} is gone");
    }
}
