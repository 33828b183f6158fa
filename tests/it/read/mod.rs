//! The reader of filesystems: the output of the program, mke2fs, mkfs.fat and the kernel, compared with the
//! kernel and the tools of each filesystem; damage that it must find; and what it refuses.

mod damage;
mod erofs;
mod ext;
mod fat;
mod hostile;
mod look;
mod planted;
pub(crate) mod view;

pub(crate) use view::{assert_clean, opened, remarks, slice, view};
