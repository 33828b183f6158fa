//! Every on-disk structure that is written or read here, as it is declared. docs/formats is tested against
//! this list.

use crate::wire::Structure;

/// All structures, with the page of docs/formats that describes them. A format adds its `STRUCTURES` here.
#[must_use]
pub fn all() -> Vec<(&'static str, Structure)> {
    let pages: [(&str, &[Structure]); 15] = [
        ("ext4", crate::filesystem::ext4::STRUCTURES),
        ("fat", crate::filesystem::fat::STRUCTURES),
        ("erofs", crate::filesystem::erofs::STRUCTURES),
        ("squashfs", crate::filesystem::squashfs::STRUCTURES),
        ("swap", crate::filesystem::swap::STRUCTURES),
        ("zfs", crate::filesystem::zfs::STRUCTURES),
        ("tables", crate::table::format::STRUCTURES),
        ("qcow2", crate::container::qcow2::STRUCTURES),
        ("vhd", crate::container::vhd::STRUCTURES),
        ("vdi", crate::container::vdi::STRUCTURES),
        ("vmdk", crate::container::vmdk::STRUCTURES),
        ("vhdx", crate::container::vhdx::STRUCTURES),
        ("verity", crate::verity::STRUCTURES),
        ("uki", crate::boot::pe::STRUCTURES),
        ("nbd", crate::serve::STRUCTURES),
    ];
    let with_page = |(page, structures): (&'static str, &'static [Structure])| {
        structures.iter().map(move |structure| (page, *structure))
    };
    pages.into_iter().flat_map(with_page).collect()
}
