//! OVA: a description (OVF 1.0, DMTF DSP0243), a list of digests, and the disk as a streamOptimized VMDK, in a tar in this
//! order (section 5.3: the descriptor is the first file).
//!
//! The description names what every importer lets its user change: one processor, 1 GiB of memory, a SCSI controller and a
//! network card.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::Package;
use super::tar::{File, archive as tar};
use crate::container::Identity;
use crate::encoding::to_hex;
use crate::error::{Error, Result};
use crate::image::{Image, Slice};
use crate::pour::Packer;
use crate::pour::spool::Spool;
use crate::units::u64_of;

/// The names of the files.
const OVF: &str = "disk.ovf";
const MANIFEST: &str = "disk.mf";
pub(super) const DISK: &str = "disk.vmdk";

/// The archive with the disk `image`, which is called `name`.
pub(super) fn archive(image: &Image, identity: &Identity, name: &str, packer: &Packer) -> Result<Image> {
    let (ovf, disk, digest) = parts(image, identity, name, packer)?;
    let digests =
        format!("SHA256({OVF})= {}\nSHA256({DISK})= {digest}\n", to_hex(&Sha256::digest(ovf.as_bytes())));
    let text = |label: &'static str, text: String| Slice::ready(label, text.into_bytes());
    let files = [
        File { name: OVF, bytes: text("OVF", ovf) },
        File { name: MANIFEST, bytes: text("digests of an OVA", digests) },
        File { name: DISK, bytes: disk },
    ];
    tar(&files, identity.time)
}

/// The description, the disk that it names, and the SHA-256 of the disk's file.
pub(super) fn parts(
    image: &Image,
    identity: &Identity,
    name: &str,
    packer: &Packer,
) -> Result<(String, Slice, String)> {
    let container = Package::Ova.container()?;
    let mut spool =
        ToSpool { spool: packer.spool("the disk of an OVA")?, at: 0, hash: Sha256::new(), fault: None };
    let written = container.stream(image, identity, &mut spool, &packer.options());
    if let Some(fault) = spool.fault.take() {
        return Err(fault);
    }
    written?;
    let ToSpool { mut spool, at, hash, .. } = spool;
    spool.extend(at);
    let disk = spool.finish()?.whole();
    let ovf = description(name, image.length().get(), disk.length().get());
    Ok((ovf, disk, to_hex(&hash.finalize())))
}

/// A stream into a spool, with its digest.
struct ToSpool {
    spool: Spool,
    at: u64,
    hash: Sha256,
    /// Why the spool refused bytes.
    fault: Option<Error>,
}

impl Write for ToSpool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.spool.keep(bytes, self.at) {
            self.fault = Some(error);
            return Err(io::Error::other("the spool is full"));
        }
        self.hash.update(bytes);
        self.at += u64_of(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Text inside of an element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The description: OVF 1.0 with the hardware numbers of CIM_ResourceAllocationSettingData (DSP1041; 3 is a processor, 4
/// memory, 6 a SCSI controller, 10 a network card, 17 a disk).
fn description(name: &str, capacity: u64, size: u64) -> String {
    let name = escaped(name);
    let item = |lines: &[(&str, &str)]| {
        let lines = lines.iter().map(|(key, value)| format!("        <rasd:{key}>{value}</rasd:{key}>\n"));
        format!("      <Item>\n{}      </Item>\n", lines.collect::<String>())
    };
    let items = [
        item(&[
            ("AllocationUnits", "hertz * 10^6"),
            ("Description", "Number of Virtual CPUs"),
            ("ElementName", "1 virtual CPU"),
            ("InstanceID", "1"),
            ("ResourceType", "3"),
            ("VirtualQuantity", "1"),
        ]),
        item(&[
            ("AllocationUnits", "byte * 2^20"),
            ("Description", "Memory Size"),
            ("ElementName", "1024 MB of memory"),
            ("InstanceID", "2"),
            ("ResourceType", "4"),
            ("VirtualQuantity", "1024"),
        ]),
        item(&[
            ("Address", "0"),
            ("Description", "SCSI Controller"),
            ("ElementName", "SCSI Controller 0"),
            ("InstanceID", "3"),
            ("ResourceSubType", "lsilogic"),
            ("ResourceType", "6"),
        ]),
        item(&[
            ("AddressOnParent", "0"),
            ("ElementName", "Hard Disk 1"),
            ("HostResource", "ovf:/disk/disk"),
            ("InstanceID", "4"),
            ("Parent", "3"),
            ("ResourceType", "17"),
        ]),
        item(&[
            ("AddressOnParent", "0"),
            ("AutomaticAllocation", "true"),
            ("Connection", "network"),
            ("ElementName", "Network adapter 1"),
            ("InstanceID", "5"),
            ("ResourceSubType", "E1000"),
            ("ResourceType", "10"),
        ]),
    ];
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References>
    <File ovf:href="{DISK}" ovf:id="file" ovf:size="{size}"/>
  </References>
  <DiskSection>
    <Info>Virtual disks</Info>
    <Disk ovf:capacity="{capacity}" ovf:diskId="disk" ovf:fileRef="file" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <NetworkSection>
    <Info>Networks</Info>
    <Network ovf:name="network">
      <Description>The network of the first adapter</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id="{name}">
    <Info>A virtual machine</Info>
    <Name>{name}</Name>
    <OperatingSystemSection ovf:id="101">
      <Info>The operating system: Linux, 64 bits</Info>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{name}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType>
      </System>
{}    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"#,
        items.concat()
    )
}
