//! The numbers that are random in other pools: GUIDs and salts. Here they derive from the id of the pool.

use uuid::Uuid;

use crate::identity;

/// What the numbers of a pool derive from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids(pub(super) Uuid);

impl Ids {
    /// The number of something, which is not 0.
    pub(super) fn number(self, what: &str) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.salt(what);
        u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
    }

    /// The salt of something.
    pub(super) fn salt(self, what: &str) -> [u8; 32] {
        identity::pool_part(self.0, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_has_a_number_of_its_own() {
        let (one, other) = (Ids(Uuid::nil()), Ids(Uuid::from_u128(1)));
        assert_eq!(one.number("pool"), one.number("pool"));
        assert_ne!(one.number("pool"), one.number("vdev"));
        assert_ne!(one.number("pool"), other.number("pool"));
        assert_eq!(one.number("pool").to_be_bytes(), one.salt("pool")[..8]);
    }
}
