//! VMA, the archive of a virtual machine that Proxmox VE restores (pve-qemu, vma_spec.txt; its writer and reader are
//! vma-writer.c and vma-reader.c).
//!
//! A header with a table of texts is followed by extents of up to 59 clusters of 64 KiB. Each cluster of the disk is in exactly
//! one extent, with a bit for each of its 16 blocks; only blocks with data are stored. All integers are big-endian, except for the
//! lengths in the table of texts.

use std::sync::Arc;

use md5::{Digest, Md5};
use uuid::Uuid;

use super::blocks::Blocks;
use crate::container::Identity;
use crate::error::{Error, Kind, Result};
use crate::identity::container_part;
use crate::image::{Builder, Image, Render};
use crate::units::{Bytes, narrow, usize_of};

/// Bytes in a block, and blocks in a cluster.
const BLOCK: u64 = 4096;
const CLUSTER_BLOCKS: u64 = 16;
/// Clusters in an extent, and bytes of the header of an extent (VMA_BLOCKS_PER_EXTENT, VMA_EXTENT_HEADER_SIZE).
const CLUSTERS: u64 = 59;
const EXTENT_HEADER: u64 = 512;
/// Bytes of the header without the table of texts: 4096, and 256 devices of 32 bytes.
const HEADER: usize = 4096 + 256 * 32;
/// The table of texts is rounded up to this.
const TABLE_STEP: usize = 512;
/// Where in a header its MD5 is, which is computed with zeros there.
const HEADER_MD5: usize = 32;
const EXTENT_MD5: usize = 24;

/// The drive of the disk, as the configuration and QEMU call it.
const DRIVE: &str = "scsi0";
const DEVICE: &str = "drive-scsi0";

/// The archive of a machine with the disk `image`, which is called `name`.
///
/// # Errors
/// [`Kind::Capacity`] for a disk whose clusters have no number of 32 bits.
pub(super) fn wrap(image: &Image, identity: &Identity, name: &str) -> Result<Image> {
    let blocks = Blocks::of(image, BLOCK);
    let clusters = image.length().get().div_ceil(BLOCK * CLUSTER_BLOCKS);
    if clusters > 1 << 32 || clusters == 0 {
        return Err(Error::new(Kind::Capacity, "vma holds no disk of this length")
            .about("size")
            .expected("1 byte to 256TiB")
            .found(image.length().in_full()));
    }
    let uuid = container_part(identity.seed, "vma-uuid");
    let header = header(image.length().get(), uuid, identity, name)?;
    let start = crate::units::u64_of(header.len());
    let extents = clusters.div_ceil(CLUSTERS);
    let length = start + extents * EXTENT_HEADER + blocks.total() * BLOCK;
    let mut archive = Builder::new(Bytes::new(length));
    archive.bytes(Bytes::ZERO, "vma: header", header);
    let layout = Arc::new(Extents { blocks, clusters, uuid, start });
    let renderer = archive.renderer(Arc::<Extents>::clone(&layout));
    for number in 0..extents {
        let part = narrow(number, "the number of an extent")?;
        archive.rendered(Bytes::new(layout.at(number)), Bytes::new(EXTENT_HEADER), renderer, part);
    }
    for (first, end) in layout.blocks.runs() {
        let mut from = first;
        while from < end {
            let extent = from / (CLUSTERS * CLUSTER_BLOCKS);
            let to = end.min((extent + 1) * CLUSTERS * CLUSTER_BLOCKS);
            let at = start + (extent + 1) * EXTENT_HEADER + layout.blocks.before(from) * BLOCK;
            archive.put(Bytes::new(at), &image.slice(Bytes::new(from * BLOCK), Bytes::new(to * BLOCK)));
            from = to;
        }
    }
    archive.finish()
}

/// The headers of the extents.
#[derive(Debug)]
struct Extents {
    blocks: Blocks,
    /// Clusters of the disk.
    clusters: u64,
    uuid: Uuid,
    /// Where the first extent begins.
    start: u64,
}

impl Extents {
    /// Where an extent begins.
    fn at(&self, number: u64) -> u64 {
        let before = self.blocks.before(number * CLUSTERS * CLUSTER_BLOCKS);
        self.start + number * EXTENT_HEADER + before * BLOCK
    }

    fn header(&self, number: u64) -> Result<Vec<u8>> {
        let first = number * CLUSTERS;
        let last = self.clusters.min(first + CLUSTERS);
        let stored = self.blocks.before(last * CLUSTER_BLOCKS) - self.blocks.before(first * CLUSTER_BLOCKS);
        let mut bytes = b"VMAE\0\0".to_vec();
        bytes.extend(narrow::<u16>(stored, "the blocks of an extent")?.to_be_bytes());
        bytes.extend(self.uuid.as_bytes());
        bytes.extend([0; 16]);
        for cluster in first..last {
            // Bits 48 to 63 are the blocks, 32 to 47 the device, the rest is the number of the cluster.
            let bits = (0..CLUSTER_BLOCKS).filter(|block| self.blocks.has(cluster * CLUSTER_BLOCKS + block));
            let mask: u64 = bits.map(|bit| 1 << bit).sum();
            bytes.extend((mask << 48 | 1 << 32 | cluster).to_be_bytes());
        }
        bytes.resize(usize_of(EXTENT_HEADER), 0);
        let digest = Md5::digest(&bytes);
        bytes[EXTENT_MD5..EXTENT_MD5 + 16].copy_from_slice(&digest);
        Ok(bytes)
    }
}

impl Render for Extents {
    fn render(&self, part: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        let bytes = self.header(part.into())?;
        let from = usize_of(skip);
        let wanted = bytes.get(from..from + out.len());
        out.copy_from_slice(
            wanted.ok_or_else(|| Error::bug("the header of an extent is longer than it is"))?,
        );
        Ok(())
    }

    fn label(&self, part: u32) -> String {
        format!("vma: extent {part}")
    }
}

/// The header, with the configuration of the machine and the name of its only device.
fn header(length: u64, uuid: Uuid, identity: &Identity, name: &str) -> Result<Vec<u8>> {
    // Place 0 means that there is no text.
    let mut table = vec![0];
    let mut put = |text: &[u8]| -> Result<u32> {
        let at = narrow(table.len(), "a place in the table of texts")?;
        table.extend(narrow::<u16>(text.len(), "the length of a text")?.to_le_bytes());
        table.extend(text);
        Ok(at)
    };
    let config_name = put(b"qemu-server.conf\0")?;
    let config = put(configuration(length, identity, name).as_bytes())?;
    let device = put(format!("{DEVICE}\0").as_bytes())?;
    let used: u32 = narrow(table.len(), "the length of the table of texts")?;
    table.resize(table.len().next_multiple_of(TABLE_STEP), 0);

    let mut bytes = vec![0; HEADER];
    let mut set = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    set(0, b"VMA\0");
    set(4, &1_u32.to_be_bytes());
    set(8, uuid.as_bytes());
    set(24, &identity.time.to_be_bytes());
    set(48, &narrow::<u32>(HEADER, "the length of the header")?.to_be_bytes());
    set(52, &used.to_be_bytes());
    set(56, &narrow::<u32>(HEADER + table.len(), "the length of the header")?.to_be_bytes());
    // The first of 256 names, the first of 256 texts, and device 1 of 256.
    set(2044, &config_name.to_be_bytes());
    set(3068, &config.to_be_bytes());
    set(4096 + 32, &device.to_be_bytes());
    set(4096 + 40, &length.to_be_bytes());
    bytes.extend(table);
    let digest = Md5::digest(&bytes);
    bytes[HEADER_MD5..HEADER_MD5 + 16].copy_from_slice(&digest);
    Ok(bytes)
}

/// The machine as qm.conf(5) describes it: what `qmrestore` lets its user change afterwards. The last line says which device of
/// the archive is which drive, and where it goes if nothing else is asked for (PVE::QemuServer, restore_vma_archive).
fn configuration(length: u64, identity: &Identity, name: &str) -> String {
    let mac = container_part(identity.seed, "vma-mac");
    // Locally administered, for one station (IEEE 802, 8.2).
    let mac: Vec<String> =
        [2].iter().chain(&mac.as_bytes()[..5]).map(|byte: &u8| format!("{byte:02X}")).collect();
    let (name, mac, kib) = (host_name(name), mac.join(":"), length.div_ceil(1024));
    format!(
        "boot: order={DRIVE}\ncores: 1\nmemory: 1024\nname: {name}\nnet0: virtio={mac},bridge=vmbr0\nostype: l26\n\
         {DRIVE}: local-lvm:vm-100-disk-0,size={kib}K\nscsihw: virtio-scsi-pci\n#qmdump#map:{DRIVE}:{DEVICE}:local-lvm:raw:\n"
    )
}

/// A name as Proxmox takes it: a part of a DNS name.
fn host_name(name: &str) -> String {
    let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63);
    let plain: String = plain.collect();
    match plain.trim_matches('-') {
        "" => "disk".to_owned(),
        plain => plain.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parts_of_dns_names() {
        for (name, expected) in [("a b_c", "a-b-c"), ("-", "disk"), ("é", "disk"), ("x1-", "x1")] {
            assert_eq!(host_name(name), expected);
        }
        assert_eq!(host_name(&"a".repeat(99)).len(), 63);
    }
}
