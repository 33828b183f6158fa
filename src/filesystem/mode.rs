//! The mode of an inode, whose numbers every filesystem of Linux stores alike (include/uapi/linux/stat.h).

use crate::tree::{Content, NodeId, Tree};

/// The bits of a mode that hold the file type, and the file types.
pub(super) const MODE_TYPE: u16 = 0xf000;
pub(super) const MODE_FIFO: u16 = 0x1000;
pub(super) const MODE_CHARACTER: u16 = 0x2000;
pub(super) const MODE_DIRECTORY: u16 = 0x4000;
pub(super) const MODE_BLOCK: u16 = 0x6000;
pub(super) const MODE_FILE: u16 = 0x8000;
pub(super) const MODE_SYMLINK: u16 = 0xa000;
pub(super) const MODE_SOCKET: u16 = 0xc000;

/// The file type and permissions of a node; of a further name, those of its file.
pub(super) fn mode(tree: &Tree, node: NodeId) -> u16 {
    let node = tree.node(tree.source(node));
    let kind = match node.content {
        Content::Directory => MODE_DIRECTORY,
        Content::File { .. } | Content::Text { .. } | Content::Slice { .. } | Content::Link { .. } => {
            MODE_FILE
        }
        Content::Symlink { .. } => MODE_SYMLINK,
        Content::CharacterDevice { .. } => MODE_CHARACTER,
        Content::BlockDevice { .. } => MODE_BLOCK,
        Content::Fifo => MODE_FIFO,
        Content::Socket => MODE_SOCKET,
    };
    kind | node.meta.mode
}

/// The file type of a mode as directory entries repeat it (include/linux/fs_types.h).
pub(super) const fn file_type(mode: u16) -> u8 {
    match mode & MODE_TYPE {
        MODE_FILE => 1,
        MODE_DIRECTORY => 2,
        MODE_CHARACTER => 3,
        MODE_BLOCK => 4,
        MODE_FIFO => 5,
        MODE_SOCKET => 6,
        MODE_SYMLINK => 7,
        _ => 0,
    }
}
