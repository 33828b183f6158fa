//! The proof of partition tables: foreign tools read them, judge them, and write the same bytes.

#[cfg(test)]
mod bytes;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod judges;
#[cfg(test)]
mod layouts;
#[cfg(test)]
mod random;
#[cfg(test)]
mod record;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod request;
#[cfg(test)]
mod sums;
#[cfg(test)]
mod tools;
