//! The reader of filesystems: what the program, mke2fs, mkfs.fat and the kernel wrote, compared with what the kernel and
//! the tools of each filesystem show; damage, which it has to see; and what it refuses.

mod damage;
mod erofs;
mod ext;
mod fat;
mod hostile;
pub(crate) mod view;
