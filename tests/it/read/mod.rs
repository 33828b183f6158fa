//! The reader of filesystems: what the program, mke2fs, mkfs.fat and the kernel wrote, compared with what the kernel and
//! the tools of each filesystem show; damage, which it has to see; and what it refuses.

mod damage;
mod ext;
mod fat;
mod hostile;
mod view;

pub(crate) use view::{assert_clean, opened, remarks, slice, view};
