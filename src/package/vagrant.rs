//! Boxes of Vagrant (developer.hashicorp.com/vagrant/docs/boxes/format): a tar in gzip with metadata.json, a Vagrantfile, and
//! what the provider takes. For libvirt that is box.img, a qcow2 (vagrant-libvirt, example_box/README.md); for VirtualBox
//! box.ovf with the disk that it names (docs/providers/virtualbox/boxes).

use super::ova;
use super::tar::{File, archive};
use crate::container::{Container, Format, Identity};
use crate::error::Result;
use crate::identity::container_part;
use crate::image::{Image, Slice};
use crate::pour::Packer;
use crate::units::GIB;

/// What runs the machines of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// The plugin vagrant-libvirt.
    Libvirt,
    /// VirtualBox.
    VirtualBox,
}

/// The box with the disk `image`, before gzip.
pub(super) fn bundle(
    provider: Provider,
    image: &Image,
    identity: &Identity,
    name: &str,
    packer: &Packer,
) -> Result<Image> {
    match provider {
        Provider::Libvirt => libvirt(image, identity),
        Provider::VirtualBox => virtualbox(image, identity, name, packer),
    }
}

fn text(label: &'static str, text: String) -> Slice {
    Slice::ready(label, text.into_bytes())
}

fn libvirt(image: &Image, identity: &Identity) -> Result<Image> {
    // In GiB, and no smaller than the disk.
    let size = image.length().get().div_ceil(GIB).max(1);
    let metadata = format!(
        "{{\n  \"provider\": \"libvirt\",\n  \"format\": \"qcow2\",\n  \"virtual_size\": {size}\n}}\n"
    );
    let vagrantfile = "Vagrant.configure(\"2\") do |config|\n  config.vm.provider :libvirt do |libvirt|\n    \
                       libvirt.driver = \"kvm\"\n  end\nend\n";
    let disk = Container::of(Format::Qcow2).wrap(image, identity)?;
    let files = [
        File { name: "metadata.json", bytes: text("metadata of a box", metadata) },
        File { name: "Vagrantfile", bytes: text("Vagrantfile", vagrantfile.to_owned()) },
        File { name: "box.img", bytes: disk.whole() },
    ];
    archive(&files, identity.time)
}

fn virtualbox(image: &Image, identity: &Identity, name: &str, packer: &Packer) -> Result<Image> {
    let (ovf, disk, _) = ova::parts(image, identity, name, packer)?;
    let mac = container_part(identity.seed, "vagrant-mac");
    let [a, b, c, ..] = *mac.as_bytes();
    // Vagrant looks for the network card by this address; 080027 is VirtualBox's own range.
    let vagrantfile = format!(
        "Vagrant.configure(\"2\") do |config|\n  config.vm.base_mac = \"080027{a:02X}{b:02X}{c:02X}\"\nend\n"
    );
    let files = [
        File {
            name: "metadata.json",
            bytes: text("metadata of a box", "{\n  \"provider\": \"virtualbox\"\n}\n".to_owned()),
        },
        File { name: "Vagrantfile", bytes: text("Vagrantfile", vagrantfile) },
        File { name: "box.ovf", bytes: text("OVF", ovf) },
        File { name: ova::DISK, bytes: disk },
    ];
    archive(&files, identity.time)
}
