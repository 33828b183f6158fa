//! The places of the bitmaps and inode tables of new groups.

use std::ops::Range;

use crate::filesystem::ext4::format::features::incompat;
use crate::filesystem::ext4::geometry::{Placed, Run};
use crate::filesystem::ext4::read::Layout;
use crate::units::usize_of;

/// The places of the new groups `groups`, one after the other. With flex_bg, those of all new groups of a flex group lie
/// together behind the first of them.
pub(super) fn place(layout: &Layout, groups: Range<u64>) -> Vec<Placed> {
    let together = match layout.superblock.s_log_groups_per_flex {
        _ if !layout.incompatible(incompat::FLEX_BG) => 1,
        log => 1_u64.checked_shl(log.into()).unwrap_or(u64::MAX),
    };
    let mut placed = Vec::with_capacity(usize_of(groups.end - groups.start));
    let mut first = groups.start;
    while first < groups.end {
        let end = (first / together * together).saturating_add(together).min(groups.end);
        match packed(layout, first..end) {
            Some(all) => placed.extend(all),
            None => placed.extend((first..end).filter_map(|own| packed(layout, own..own + 1)).flatten()),
        }
        first = end;
    }
    placed
}

/// The structures of these groups side by side; `None` if they need more than the groups have.
fn packed(layout: &Layout, groups: Range<u64>) -> Option<Vec<Placed>> {
    let mut placed = vec![Placed::default(); usize_of(groups.end - groups.start)];
    let end = layout.group_end(groups.end - 1);
    let mut next = layout.group_start(groups.start);
    let mut take = |length: u64| {
        let start = free_run(layout, next, length);
        next = start + length;
        (next <= end).then_some(start)
    };
    for group in &mut placed {
        group.block_bitmap = take(1)?;
    }
    for group in &mut placed {
        group.inode_bitmap = take(1)?;
    }
    for group in &mut placed {
        group.inode_table = take(layout.table_blocks())?;
    }
    Some(placed)
}

/// The first place from `from` on where `length` blocks lie beside the superblocks and descriptors of groups.
fn free_run(layout: &Layout, from: u64, length: u64) -> u64 {
    let group_of = |block: u64| (block - layout.first) / layout.blocks_per_group;
    let mut start = from;
    loop {
        let last = group_of(start + length.max(1) - 1);
        let meets = |group: &u64| {
            let head = layout.group_start(*group);
            start < head + layout.head(*group) && head < start + length
        };
        // The last obstacle decides where the next try begins.
        match (group_of(start)..=last).rev().find(meets) {
            Some(group) => start = layout.group_start(group) + layout.head(group),
            None => return start,
        }
    }
}

/// The runs of blocks that new groups take, ascending and without overlap.
pub(super) fn runs(layout: &Layout, groups: Range<u64>, placed: &[Placed]) -> Vec<Run> {
    let heads = groups.map(|group| Run { start: layout.group_start(group), length: layout.head(group) });
    let own = placed.iter().flat_map(|own| {
        let run = |start, length| Run { start, length };
        [run(own.block_bitmap, 1), run(own.inode_bitmap, 1), run(own.inode_table, layout.table_blocks())]
    });
    let mut runs: Vec<Run> = heads.chain(own).filter(|run| run.length > 0).collect();
    runs.sort_unstable_by_key(|run| run.start);
    runs
}
