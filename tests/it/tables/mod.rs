//! The proof of partition tables: foreign tools read them, judge them, and write the same bytes.

mod bytes;
mod damage;
mod identity;
mod judges;
mod layouts;
mod random;
mod record;
mod refusals;
mod request;
mod sums;
pub(crate) mod tools;
