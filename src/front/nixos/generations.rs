//! The generations of the system profile.

use crate::nix::StorePath;

/// The systems of a profile, the oldest first, numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Generations {
    earlier: Vec<StorePath>,
    current: StorePath,
}

impl Generations {
    /// `earlier` systems, the oldest first, and then `system`. A generation that is the same as the one before it is not
    /// made, as `nix-env --set` does not make it.
    pub(super) fn new(earlier: Vec<StorePath>, system: StorePath) -> Self {
        let mut earlier = earlier;
        earlier.dedup();
        earlier.pop_if(|last| *last == system);
        Self { earlier, current: system }
    }

    /// Number and system of each, the oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &StorePath)> {
        let all: Vec<_> = (1..).zip(self.earlier.iter().chain([&self.current])).collect();
        all.into_iter()
    }

    /// The newest, which is the one that boots.
    pub(super) fn current(&self) -> &StorePath {
        &self.current
    }

    /// The number of the newest.
    pub(super) fn newest(&self) -> u64 {
        crate::units::u64_of(self.earlier.len()) + 1
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
