//! The blocks of a file without extents: twelve pointers in its inode, and blocks of pointers to more, in up to three levels
//! (kernel.org, ext4, "Direct/Indirect Block Addressing").

use super::extent::FileRun;
use super::form::{DIRECT, Form};

/// A block of pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node {
    /// How many levels of blocks of pointers are below it.
    pub(super) level: u32,
    /// The first block of the file that it leads to.
    pub(super) first: u64,
}

impl Node {
    /// What its pointer number `slot` leads to: a block of the file, or another block of pointers.
    pub(super) fn below(self, form: &Form, slot: u64) -> Result<Self, u64> {
        match self.level.checked_sub(1) {
            None => Err(self.first + slot),
            Some(level) => Ok(Self { level, first: self.first + slot * form.pointers().pow(self.level) }),
        }
    }
}

/// The blocks of pointers that an inode itself can lead to.
pub(super) fn tops(form: &Form) -> [Node; 3] {
    let each = form.pointers();
    let node = |level, first| Node { level, first };
    [node(0, DIRECT), node(1, DIRECT + each), node(2, DIRECT + each + each * each)]
}

/// The blocks of pointers of a file with these runs, sorted.
pub(super) fn nodes(form: &Form, runs: &[FileRun]) -> Vec<Node> {
    let each = form.pointers();
    let mut nodes = Vec::new();
    for run in runs {
        for top in tops(form) {
            let end = top.first + each.pow(top.level + 1);
            let (from, to) = (run.logical.max(top.first), (run.logical + run.run.length).min(end));
            if from >= to {
                continue;
            }
            for level in 0..=top.level {
                let width = each.pow(level + 1);
                let within = (from - top.first) / width..=(to - 1 - top.first) / width;
                nodes.extend(within.map(|number| Node { level, first: top.first + number * width }));
            }
        }
    }
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystem::ext4::extent::FileBlocks;
    use crate::filesystem::ext4::form::Revision;

    fn form() -> Form {
        Form { block: 1024, ..Form::of(Revision::Ext2) }
    }

    #[test]
    fn every_level_begins_where_the_one_before_ends() {
        let count = |length: u64| nodes(&form(), &FileBlocks::single(form(), 1, length).runs).len();
        // 256 pointers of a block: 12 direct, 256, 256², 256³.
        for (length, nodes) in [
            (12, 0),
            (13, 1),
            (12 + 256, 1),
            (12 + 256 + 1, 3),
            (12 + 256 + 257, 4),
            (12 + 256 + 65_536, 1 + 1 + 256),
            (12 + 256 + 65_536 + 1, 1 + 1 + 256 + 3),
        ] {
            assert_eq!(count(length), nodes, "{length} blocks");
        }
    }

    #[test]
    fn holes_have_no_blocks_of_pointers() {
        let mut blocks = FileBlocks::single(form(), 1, 1);
        let mut far = FileBlocks::single(form(), 9, 1).runs[0];
        far.logical = 12 + 256 + 65_536 + 70_000;
        blocks.runs.push(far);
        let found = nodes(&form(), &blocks.runs);
        assert_eq!(found.len(), 3);
        let top = tops(&form())[2];
        assert_eq!(found[2], top);
        assert_eq!(top.below(&form(), 1), Ok(found[1]));
        assert_eq!(found[0].below(&form(), 3), Err(found[0].first + 3));
    }
}
