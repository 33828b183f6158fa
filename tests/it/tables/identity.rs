//! Ids derived from a seed are those of systemd-repart.
//!
//! The vectors were computed with systemd's own construction and checked against what systemd-repart 252 wrote to disks
//! (NixOS's default seed) and against systemd's TEST-58 (the other seed).

use diskwright::identity::{self, Seed};
use diskwright::table::Type;
use uuid::{Uuid, uuid};

/// Seed, disk GUID, verity UUID, verity salt, and rows of: type, earlier partitions of that type, partition GUID,
/// filesystem UUID, LUKS UUID.
struct Vectors {
    seed: Uuid,
    disk: Uuid,
    verity: Uuid,
    salt: &'static str,
    rows: &'static str,
}

/// The seed that image.repart of NixOS has by default.
const NIXOS: Vectors = Vectors {
    seed: uuid!("0867da16-f251-457d-a9e8-c31f9a3c220b"),
    disk: uuid!("b581fef7-24ed-4f31-990b-099ec86bba03"),
    verity: uuid!("ad6a6264-8901-4e9e-a75a-7a1d7096ca95"),
    salt: "a3e752820ae94d3c8dd3840aa4c4baeab6d67d7109af7fab1c970ab40443d455",
    rows: "\
esp 0 dac4058a-2fc0-4808-a7ef-b8b4501c00ce 793a442b-a005-400e-84d8-ac9b5cb3f723 3ac00ded-a69c-4898-80e0-a940f0d13c1f
esp 1 23cc28ae-c8e0-41bd-afbd-485ef735e695 a749145a-e22e-405c-84a3-8560ca356491 8978a19a-5ccb-473f-a6fc-d23e8a23ab14
xbootldr 0 49daa67c-29c5-4961-827e-0cb0c6f00a19 f7776e70-2347-4f20-b0fa-d23b88d03722 f7b000c7-7cd5-4a8b-b806-d468137c38cf
xbootldr 1 fbfb47e0-fe6d-4a40-b5c6-1b4816dd6a5b 144ef7bf-de83-4e8d-90e9-afa9b2a2fad1 a3e8aac9-5e6d-44bd-b9eb-961c93d595f6
swap 0 9f77b6a6-6333-4b04-ba32-24ec36c178ed e8190672-b40d-45e4-a7cb-198532386075 117dc008-239c-41f5-8ee9-ba52342164ca
swap 1 802ad838-c35a-474b-bf6a-c232c625575a 185dc54a-119b-4d56-be36-5fbf1a671221 def06f21-03e8-4665-a59f-77cc53c96b22
home 0 259bc0e0-fe99-455f-849d-130316e0a559 525dc770-6d1d-4630-8c89-6de20b907469 44f677bf-1994-4d35-8d04-52a94933b991
home 1 d285cdfc-d645-4fc4-8280-7acc33da28f1 a7c987b2-20f5-456a-8352-3f7e4c25634d aba6a3e6-aab8-47d4-b658-aee89811bfdc
linux-generic 0 be6595b1-70b2-4c1e-a455-2693510a426f 95cf8562-4ad0-43b8-9c9b-6693bde0aef6 aed95fdb-7358-4c60-a51d-73d13a788673
linux-generic 1 8e96213d-8e49-4402-819d-bf44af665035 f7ba4615-0415-471a-8ca3-3f8caba9d9c1 48264bac-884f-4055-a880-140f040e2bf6
root-x86-64 0 57bd1ad1-c688-450a-ba37-d1792ec72fbb 7981aaf4-2a9a-4f86-9f1f-5b42c8f28bbf 8f352bae-7d68-4002-ac46-037b296226b1
root-x86-64 1 b61515ed-6e9f-4302-973e-25303565d610 a5a7c34b-c0af-49b8-a494-367aae68c5ca 52dbbe33-ec42-4575-b60d-f07416ab0935
root-arm64 0 e0089295-bf3c-41f5-9edb-b44bd177f091 ff71f822-5113-48dd-bef9-a4372949e78a 67a40af9-8688-4e9b-87b1-2d978a698609
root-arm64 1 0c8c2f43-595c-41a8-ba8c-518770a133f5 eba9353b-6a9c-4cc4-8d5e-d8b06ccc1001 3fad8ad5-e61e-41da-b73c-d12f5b06961f
usr-x86-64 0 59625be4-083f-48ee-a96e-c3f4a409474e 59e4de3a-8bf2-4374-8479-09e750cd279b 54dc35dd-be91-4997-baf5-0e9334b178de
usr-x86-64 1 7d1c2510-bc20-4152-a892-f0ed901705b4 c4b6ceba-2db1-40fa-8e6c-002c5bc6860c a5b15d8d-1ec5-41e9-9349-8c560cfee0b2
usr-arm64 0 5f6442f1-bbd8-4dd6-a96d-295a7e2ab14b 9b858a90-d9a6-490f-807f-10f4b332daeb 6e6f23da-4a21-4153-b5e9-5bf7c98b8df7
usr-arm64 1 ce4748f9-82c2-4a4c-9019-f149e0d4dbd6 22276767-f96e-4078-86a3-38e754e93d63 efb85b68-755d-49dc-9089-966d01cf7e83
usr-x86-64-verity 0 950c98db-ed6f-4c4a-8f0e-d7fd38db918f 4848688a-575b-453b-8c8d-5863c14886f6 a15ab658-fb86-44a0-a7a4-e4a8e6263708
usr-x86-64-verity 1 457951c7-3a4d-49a0-b2fc-09941f72f371 b78b4457-12c4-4111-afc0-791798cc7ee8 bb6a806c-bf7c-41df-856b-6d6a702e7560
srv 0 6076e8b0-cb80-42f6-908f-7ba9b9dbcf7a 6b78b32d-21c3-4aa8-bba6-a7c7435294bf f2e5dd17-6f16-4f50-a229-2198f3c2532d
var 0 f1877a66-e705-4666-b185-f88d7ea08253 2f1f320a-33b2-434c-9758-0e410eaac440 b1df73bb-4102-4a4e-85ae-3871c9980d2f
tmp 0 7a8a5585-7319-4df9-9703-f6908fa3edc7 223659a1-b366-47d6-9a92-44e4e8dde9ec b1b8c8aa-2049-413c-ae3c-d3272a935310
root-x86-64-verity 0 6a9a4c8b-1143-4695-a4fe-83148e5535b8 c118eec8-4c0c-4206-aebf-b003c2c1494b 03050b20-c7f3-4ce6-9cf3-3ef52a62eb5a
root-x86-64-verity-sig 0 b0d2f7b1-617a-4ecd-9678-bd4377ff524f b985acf9-28b0-456f-8f49-51074caeba5e 86717cec-6688-4bb3-b3a7-36083c744e6f
usr-x86-64-verity-sig 0 afbaadc2-e965-4eeb-bb54-f11d328c8d81 b4148c9a-3f86-4782-bff1-9bc963f7430e ff5cb0af-067d-432b-9488-b9eff387f406
root-arm64-verity 0 3d343fe1-f3b2-495e-a468-d163c1ea4299 6eb2ce09-2d31-40e2-8389-3c21b45baea0 453d2d5e-1bec-4566-b475-3eed898df9bc
usr-arm64-verity 0 2af1aeec-653d-4f05-839b-da9a723d5843 e21aabdd-f971-4b56-ac9f-0146122f6ef6 ff922d54-18c5-4d8d-ae01-6239570347b2
root-riscv64 0 091d31ed-a4a8-4ade-84c0-ed25d95e0baa 207090e7-4498-42a1-9dc1-1bab370a2c33 e0058a4a-0ab2-481c-8f80-8f1d6a226ff2
usr-riscv64 0 dfb0f1f3-0df2-4b32-afe6-c4ab53a8a723 ebd3c2e6-2e8f-4459-8b29-1056bd2e0a93 866d429d-9f9f-45a0-b9d3-9f9af37cb946
root-x86 0 22ee7fb5-649f-4921-a737-0151db9d7d8a 8115e31a-861d-4d6f-b9a7-3ad0af04a8ae 0061401a-1e3c-48a7-a35a-d1decbf25f5d
root-arm 0 454218cd-8d82-46f2-9fa9-7c70ac39ecd3 882b2779-f47b-4876-bca1-c08bb7a7fbbc 97c0a52d-31c0-4c0a-bcd1-b540e5e01f98",
};

/// The seed of systemd's TEST-58.
const TEST_58: Vectors = Vectors {
    seed: uuid!("750b6cd5-c4ae-4012-a15e-7be3c29e6a47"),
    disk: uuid!("1d2ce291-7cce-4f7d-bc83-fdb49ad74ebd"),
    verity: uuid!("5b4cf557-8269-4aa1-8669-41f3431271c8"),
    salt: "aece282c3c2def3554654f2e7295e770a8ba079339ff8818bd2dcd9a6817f99c",
    rows: "\
esp 0 39107b09-615d-48fb-ba37-c663885fce67 462aa6aa-1597-42e1-8694-7bb6faeffbac 478dbf4f-f653-4aa0-a927-b9039c5a045c
esp 1 6e7a1bf0-f9e5-41f9-a8a6-c65881d729a0 81e7e658-66c2-4923-8ece-d31f12eb76f2 9eb89b6c-33f0-4051-8559-e7812dc20af6
xbootldr 0 d8daabc6-c929-414a-8aad-dfff412d7aeb b5e1b45a-f42a-4fae-b447-38f55ac8a57b d9ea0489-9a60-4eb3-845d-05e42310bc74
xbootldr 1 fa31bb80-ed41-4262-8d10-01a2cce830ae 730d1f7b-87c0-4220-a2b3-6c187337ae7b 05a700b1-d02d-4541-9216-9a54265068a8
swap 0 78c92db8-3d2b-4823-b0dc-792b78f66f1e 722243cd-e79c-4b09-abdf-30d31d6ba2ac 095fc22d-eec2-4512-9be9-fd86f82d9a61
swap 1 eaf65521-2c1b-461f-ac81-e74be8a0d839 b541bdc9-9a43-474e-9e4d-c77f7ad43cdf 5a11499c-9616-4577-835c-91d3d08543a5
home 0 4980595d-d74a-483a-aa9e-9903879a0ee5 d04b3358-dbb5-40f9-861b-38674e47d3cd bd81ec88-9d47-4dd4-9300-56dff2dd72a8
home 1 9cbf3acf-4490-4880-8199-843191de79b0 1992115a-8693-443c-a7cb-88d6053446a9 8121bfaf-92b5-405c-8147-d2ff709b109f
linux-generic 0 df71f5e3-080a-4d16-824b-18591b881380 e91d2a91-0359-4314-b514-921c06adabdf c18c486e-56b5-40e5-a0e4-18f043778732
linux-generic 1 db081670-07ae-48ca-9f5e-813d5e40b976 b73b4808-1424-408f-8fd3-401abc4e2c65 d2058fe9-286e-44f0-800c-8a8ed5cad6ac
root-x86-64 0 60f33797-1d71-4dcb-aa6f-20564f036cd0 70e624a3-caca-4b82-b656-2e7168b70ff1 b4d1501b-4385-4f47-b089-298643f4fd9a
root-x86-64 1 73a4ccd2-eaf5-44da-a366-f99188210fdc 66947bff-e364-4e54-819b-8fc861868fd2 0b2d8287-7507-4530-84c2-f54eca6c3d0f
root-arm64 0 055d0227-53a6-4033-85c3-9a5973eff483 3665dc58-4c00-4d26-b41a-0e2c4b32c8a6 41ab486f-053e-4982-8b09-bd2b89065f59
root-arm64 1 f7dbbe48-8fd0-4833-8411-aa34e7c8e60a 7e1cfb64-31ac-42dd-8df8-62ca3a40c574 0ba89d00-ba17-40e1-a6c0-a57ea48d731d
usr-x86-64 0 7e3369dd-d653-4513-adf5-b993a9f20c16 5f1b9513-fa07-49d3-bdf3-372d7c2acdb5 22652751-b49b-4b3e-a45d-b968ad876710
usr-x86-64 1 fd1902fe-26ef-411f-922f-c2007b1826a7 515fecd3-fac4-49fe-adab-0a00c204e2fb 5b00dee1-9048-4098-8a29-389f816f697b
usr-arm64 0 fce3c75e-d6a4-44c0-87f0-4c105183fb1f e24070e1-bca6-44c2-9491-4c827d26c753 44b581d7-e986-4e53-927c-60b9b6ce174f
usr-arm64 1 67797508-fef0-48f2-8760-7dc6a84483c5 47fd282d-0ccd-4811-a7cd-6f7fc33a0e67 50afc82f-f581-4a2b-a7f6-1a0e47430720
usr-x86-64-verity 0 a0b5598f-c1ec-413d-b1e9-b83aa24d207e b12bc533-bddc-4eed-8329-2c516d396a54 10c4a53a-84f9-4ea3-a8fc-951b90a2fa83
usr-x86-64-verity 1 9b819492-07ef-45b7-8613-ab8dc391649e 1ce9894e-a960-4447-8489-fac03dbd1e9e 534cb611-665e-40d6-b4dc-d6ef1868ac10",
};

/// What TEST-58 itself checks: processor, first root, second root, usr.
const PROCESSORS: &str = "\
x86-64 60f33797-1d71-4dcb-aa6f-20564f036cd0 73a4ccd2-eaf5-44da-a366-f99188210fdc 7e3369dd-d653-4513-adf5-b993a9f20c16
x86 02b4253f-29a4-404e-8972-1669d3b03c87 268e0fd3-b468-4806-a823-e533fe9bb9cc 7b42ffb0-b0e1-4395-b20b-c78f4a571648
arm64 055d0227-53a6-4033-85c3-9a5973eff483 f7dbbe48-8fd0-4833-8411-aa34e7c8e60a fce3c75e-d6a4-44c0-87f0-4c105183fb1f
arm 567da89e-8de2-4499-8d10-18f212dff034 813ecfe5-4c89-4193-8a52-437493f2f96e 71e93dc2-5073-42cb-8a84-a354e64d8966
loongarch64 d8efc2d2-0133-41e4-bdcb-3b9f4cfddde8 36499f9e-0688-40c1-a746-ea8fd9543c56 031ffa75-00bb-49b6-a70d-911d2d82a5b7
ia64 dcf33449-0896-4ea9-bc24-7d58aeef522d c2a6cab7-abea-4fba-8c48-cb4c52e6ca38 bc2bcce7-80d6-449a-85cc-637424ce5241
s390x 7ebe0c85-e27e-48ec-b164-f4807606232e 2a074e1c-2a19-4094-a0c2-24b1a5d52fcb 51171d30-35cf-4a49-b8b5-9478b9b796a5
ppc64-le 061e67a1-092f-482f-8150-b525d50d6654 a6687cef-4e4f-44e7-90b3-cda52ea81739 c0d0823b-8040-4c7c-a629-026248e297fb";

fn guid(name: &str) -> Uuid {
    Type::parse(name, None).unwrap().guid().unwrap()
}

fn check(vectors: &Vectors) -> usize {
    let seed = Seed::new(vectors.seed);
    assert_eq!(seed.disk_guid(), vectors.disk);
    assert_eq!(seed.verity_uuid(), vectors.verity);
    let salt: String = seed.verity_salt().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(salt, vectors.salt);
    for row in vectors.rows.lines() {
        let fields: Vec<&str> = row.split(' ').collect();
        let partition = seed.partition_guid(guid(fields[0]), fields[1].parse().unwrap());
        let filesystem = identity::filesystem_uuid(partition);
        let derived = [partition, filesystem, identity::luks_uuid(partition)].map(|uuid| uuid.to_string());
        assert_eq!(derived, fields[2..5], "{row}");
        assert_eq!(format!("{:08x}", identity::fat_volume_id(filesystem)), fields[3][..8], "{row}");
        assert_eq!(identity::hash_seed(filesystem), filesystem);
    }
    vectors.rows.lines().count()
}

#[test]
fn ids_are_those_of_systemd_repart() {
    assert_eq!(check(&NIXOS), 32);
    assert_eq!(check(&TEST_58), 20);
    let seed = Seed::new(TEST_58.seed);
    let mut checked = 0;
    for row in PROCESSORS.lines() {
        let fields: Vec<&str> = row.split(' ').collect();
        let (root, usr) = (guid(&format!("root-{}", fields[0])), guid(&format!("usr-{}", fields[0])));
        let derived =
            [(root, 0), (root, 1), (usr, 0)].map(|(kind, k)| seed.partition_guid(kind, k).to_string());
        assert_eq!(derived, fields[1..4], "{row}");
        checked += 1;
    }
    assert_eq!(checked, 8);
}

#[test]
fn an_mbr_has_ids_of_its_own() {
    let seed = Seed::new(NIXOS.seed);
    // The signature prints as the first digits of the GUID.
    assert_eq!(identity::mbr_signature(NIXOS.disk), 0xb581_fef7);
    assert_eq!(identity::mbr_signature(Uuid::nil()), 1, "zero means none");
    // HMAC-SHA256 of "mbr-type-83" and of "mbr-type-0c" with le64(2) behind it, as any other tool computes them.
    assert_eq!(seed.mbr_partition_key(0x83, 0), uuid!("35e67b2f-69ed-44ad-a1ea-2babe1cad6ba"));
    assert_eq!(seed.mbr_partition_key(0x0c, 2), uuid!("60f4c693-1cb1-479b-8620-693e0d1adaf3"));
}
