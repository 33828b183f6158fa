//! What the tests share: trees, judges, and the machines that judge.

pub(crate) mod compare;
pub(crate) mod cpio;
pub(crate) mod debugfs;
pub(crate) mod ext4;
pub(crate) mod fat;
pub(crate) mod guest;
pub(crate) mod kernel;
pub(crate) mod nix;
pub(crate) mod pinned;
pub(crate) mod program;
pub(crate) mod random;
pub(crate) mod snapshot;
pub(crate) mod table;
pub(crate) mod tools;
pub(crate) mod tree;
pub(crate) mod volume;
