//! Foreign tools and a foreign crate that judge a table and show its contents. Each returns its objections to
//! a table; the tests at the end show that each can object.

use std::collections::BTreeMap;

use diskwright::table::{Plan, Scheme};
use diskwright::units::{Bytes, MIB};

use super::record::Record;
use super::request::{Disk, data, gpt, mbr, mib, placed};
use super::tools::{Said, must, run};

type Verdict<T = ()> = Result<T, String>;

/// First sector, last sector and name by number.
type Partitions = BTreeMap<u32, (u64, u64, String)>;

/// The remark of fdisk about a hybrid MBR, which it does not keep in step.
const HYBRID: &str =
    "A hybrid GPT was detected. You have to sync the hybrid MBR manually (expert command 'M').\n";

/// `content` is what a tool says of a sound table, `known` what it may remark of a sound one too.
fn verdict(said: &Said, content: &str, known: &str) -> Verdict {
    // sgdisk and sfdisk exit with 0 after a report of damage, so their words count.
    let words = format!("{}{}", said.out, said.err).replacen(known, "", 1);
    let remarks = ["corrupt", "Warning", "Problem", "ERROR", "hybrid", "Created a new"];
    let remark = remarks.iter().any(|remark| words.contains(remark));
    let quiet = said.err.is_empty() || said.err == known;
    if said.success && quiet && words.contains(content) && !remark {
        Ok(())
    } else {
        Err(format!("{said:?}"))
    }
}

/// `sgdisk -v`: headers, arrays, their CRCs, both copies, overlaps, the protective or hybrid MBR.
pub(crate) fn sgdisk(disk: &Disk) -> Verdict {
    // It finds a first usable sector of 2048 unusual, and names who else does so.
    let known = "Warning: There is a gap between the main partition table (ending sector 33)";
    verdict(&run("sgdisk", &[], &["-v", &disk.text()], ""), "No problems found", known)
}

/// `sfdisk --verify`.
pub(crate) fn sfdisk(disk: &Disk) -> Verdict {
    verdict(&run("sfdisk", &[], &["--verify", &disk.text()], ""), "No errors detected", HYBRID)
}

/// `sfdisk --dump`, as fields.
pub(crate) fn dump(disk: &Disk) -> Record {
    Record::parse(&must("sfdisk", &["--dump", &disk.text()], ""))
}

/// fdisk's `v`, which unlike sfdisk can be told the size of a sector.
pub(crate) fn fdisk(disk: &Disk, sector_size: u64) -> Verdict {
    let said = run("fdisk", &[], &["-b", &sector_size.to_string(), &disk.text()], "v\nq\n");
    verdict(&said, "No errors detected", HYBRID)
}

/// What fdisk saves as a script, the same fields as `sfdisk --dump` prints.
pub(crate) fn fdisk_dump(disk: &Disk, sector_size: u64) -> Record {
    let script = format!("{}.dump", disk.text());
    let commands = format!("O\n{script}\nq\n");
    must("fdisk", &["-b", &sector_size.to_string(), &disk.text()], &commands);
    Record::parse(&std::fs::read_to_string(script).unwrap())
}

/// What `parted -m print` shows.
pub(crate) fn parted(disk: &Disk, sector_size: u64) -> Verdict<Partitions> {
    let size = sector_size.to_string();
    let arguments = ["-s", "-m", &disk.text(), "unit", "s", "print"];
    let said = run("parted", &[("PARTED_SECTOR_SIZE", &size)], &arguments, "");
    if !said.success || !said.err.is_empty() || said.out.contains(":unknown:") {
        return Err(format!("{said:?}"));
    }
    let mut partitions = BTreeMap::new();
    for line in said.out.lines().skip(2) {
        let fields: Vec<&str> = line.trim_end_matches(';').split(':').collect();
        let sector = |at: usize| fields[at].trim_end_matches('s').parse().unwrap();
        partitions.insert(fields[0].parse().unwrap(), (sector(1), sector(2), fields[5].to_owned()));
    }
    Ok(partitions)
}

/// What the `gpt` crate reads differently from the plan; it must find both headers valid.
pub(crate) fn crate_gpt(disk: &Disk, plan: &Plan) -> Verdict {
    let size = if plan.sector_size == 4096 {
        gpt::disk::LogicalBlockSize::Lb4096
    } else {
        gpt::disk::LogicalBlockSize::Lb512
    };
    let config = gpt::GptConfig::new().writable(false).logical_block_size(size).only_valid_headers(true);
    let read = config.open(disk.path()).map_err(|error| error.to_string())?;
    let backup = read.backup_header().map_err(|error| error.to_string())?;
    let primary = read.primary_header().map_err(|error| error.to_string())?;
    let mut seen = vec![format!("{} {} {}", primary.disk_guid, primary.first_usable, backup.last_usable)];
    for (number, it) in read.partitions() {
        seen.push(format!(
            "{number} {} {} {} {} {:x} {}",
            it.part_type_guid.guid, it.part_guid, it.first_lba, it.last_lba, it.flags, it.name
        ));
    }
    let mut planned = vec![format!("{} {} {}", plan.guid, plan.first_usable.get(), plan.last_usable.get())];
    let mut partitions: Vec<_> = plan.partitions.iter().collect();
    partitions.sort_by_key(|it| it.number);
    for it in partitions {
        let (first, end) = (it.offset.get() / plan.sector_size, it.end().get() / plan.sector_size);
        let kind = it.kind.guid().unwrap();
        planned.push(format!(
            "{} {kind} {} {first} {} {:x} {}",
            it.number,
            it.guid,
            end - 1,
            it.attributes,
            it.label
        ));
    }
    if seen == planned { Ok(()) } else { Err(format!("read {seen:#?}\nplanned {planned:#?}")) }
}

/// What [`parted`] has to show of a plan. It shows no name for an empty one, and none in an MBR.
pub(crate) fn planned(plan: &Plan) -> Partitions {
    let sector = |bytes: Bytes| bytes.get() / plan.sector_size;
    let own = plan
        .partitions
        .iter()
        .map(|it| (it.number, (sector(it.offset), sector(it.end()) - 1, it.label.clone())));
    let extended = plan
        .extended
        .iter()
        .map(|it| (it.number, (sector(it.offset), sector(it.offset + it.length) - 1, String::new())));
    own.chain(extended).collect()
}

/// Every judge that knows the table.
pub(crate) fn all(plan: &Plan) -> Disk {
    let disk = Disk::new(plan);
    assert_eq!(parted(&disk, plan.sector_size).unwrap(), planned(plan));
    fdisk(&disk, plan.sector_size).unwrap();
    if plan.sector_size == 512 {
        sfdisk(&disk).unwrap();
    }
    if plan.scheme == Scheme::Gpt {
        crate_gpt(&disk, plan).unwrap();
        if plan.sector_size == 512 {
            sgdisk(&disk).unwrap();
        }
    }
    disk
}

/// A GPT of 64 MiB with two partitions.
fn small() -> Plan {
    placed(&diskwright::table::Request {
        disk_size: Some(mib(64)),
        partitions: vec![data(1, 10), data(2, 20)],
        ..gpt()
    })
}

#[test]
fn every_judge_of_a_gpt_notices_damage() {
    let plan = small();
    let backup = plan.length.get() - 512;
    // A byte of: the header's first usable LBA, its CRC, the disk GUID, an entry, the backup header, the backup array.
    for offset in [512 + 40, 512 + 16, 512 + 56, 1024 + 33, backup + 24, backup - 16384 + 130] {
        let disk = all(&plan);
        disk.damage(offset);
        let silent: Vec<&str> = [
            ("sgdisk", sgdisk(&disk)),
            ("sfdisk", sfdisk(&disk)),
            ("fdisk", fdisk(&disk, 512)),
            ("parted", parted(&disk, 512).map(|_| ())),
            ("gpt", crate_gpt(&disk, &plan)),
        ]
        .into_iter()
        .filter_map(|(judge, verdict)| verdict.is_ok().then_some(judge))
        .collect();
        // It does not compare the backup array with its CRC.
        let blind: &[&str] = if offset == backup - 16384 + 130 { &["gpt"] } else { &[] };
        assert_eq!(silent, blind, "byte {offset}");
    }
}

#[test]
fn a_judge_notices_an_mbr_that_protects_nothing() {
    let disk = all(&small());
    disk.damage(446 + 4);
    assert!(sgdisk(&disk).is_err());
}

#[test]
fn judges_notice_a_wrong_mbr() {
    let request = diskwright::table::Request { partitions: vec![data(1, 10), data(2, 20)], ..mbr() };
    let plan = placed(&request);
    let disk = all(&plan);
    // The first has 20480 = 0x5000 sectors; with 0xaf for 0x50 it reaches into the second.
    disk.damage(446 + 13);
    let verdicts = (sfdisk(&disk), fdisk(&disk, 512), parted(&disk, 512));
    assert!(verdicts.0.is_err() && verdicts.1.is_err() && verdicts.2.is_err(), "{verdicts:?}");
    let disk = all(&plan);
    // The second begins at 22528 = 0x5800; with 0xa7 for 0x58 it ends outside. Only parted reports that.
    disk.damage(446 + 16 + 9);
    assert!(parted(&disk, 512).is_err());
    let disk = all(&plan);
    disk.damage(510);
    let verdicts = (sfdisk(&disk), fdisk(&disk, 512), parted(&disk, 512));
    assert!(verdicts.0.is_err() && verdicts.1.is_err() && verdicts.2.is_err(), "{verdicts:?}");
}

#[test]
fn the_crate_notices_another_plan() {
    let plan = small();
    let disk = all(&plan);
    let mut other = plan.clone();
    other.partitions[1].label = "x".to_owned();
    assert!(crate_gpt(&disk, &other).is_err());
    let mut other = plan.clone();
    other.partitions[0].length += Bytes::new(512);
    assert!(crate_gpt(&disk, &other).is_err());
    assert_ne!(parted(&disk, 512).unwrap(), planned(&other));
    assert_eq!(plan.partitions[1].offset, Bytes::new(11 * MIB));
}
