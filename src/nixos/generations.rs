//! The generations of the system profile.

use crate::nix::StorePath;

/// The systems of a profile, the oldest first, numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Generations(Vec<StorePath>);

impl Generations {
    /// `earlier` systems, the oldest first, and then `system`. A generation that is the same as the one before it is not
    /// made, as `nix-env --set` does not make it.
    pub(super) fn new(earlier: Vec<StorePath>, system: StorePath) -> Self {
        let mut systems = earlier;
        systems.push(system);
        systems.dedup();
        Self(systems)
    }

    /// Number and system of each, the oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &StorePath)> {
        (1..).zip(&self.0).collect::<Vec<_>>().into_iter()
    }

    /// The number of the newest, which is the one that boots.
    pub(super) fn newest(&self) -> u64 {
        crate::units::u64_of(self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_count_from_one_and_none_is_made_twice_in_a_row() {
        let path = |name: &str| {
            format!("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-{name}").parse::<StorePath>().unwrap()
        };
        let generations = Generations::new(vec![path("a"), path("a"), path("b")], path("b"));
        assert_eq!(generations.iter().collect::<Vec<_>>(), [(1, &path("a")), (2, &path("b"))]);
        assert_eq!(generations.newest(), 2);
        assert_eq!(Generations::new(Vec::new(), path("x")).newest(), 1);
    }
}
