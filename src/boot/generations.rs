//! The systems of a menu: generations of profiles, and the one that boots by default.

use std::collections::BTreeSet;

use super::bootspec::System;
use crate::calendar;
use crate::error::{Error, Kind, Result};
use crate::text::printable;

/// One generation of a system profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The profile it belongs to; `None` is the system profile itself.
    pub profile: Option<String>,
    /// Its number, from 1.
    pub number: u32,
    /// When it was made, in seconds since 1970: menus show the day, in UTC.
    pub date: i64,
    /// What boots.
    pub system: System,
}

impl Generation {
    /// The day it was made, `YYYY-MM-DD`.
    #[must_use]
    pub fn day(&self) -> String {
        calendar::date(self.date)
    }

    /// The minute it was made, `YYYY-MM-DD HH:MM`.
    #[must_use]
    pub fn minute(&self) -> String {
        calendar::minute(self.date)
    }
}

/// All systems of a menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generations {
    default: System,
    /// The system profile first, then the others by name; the newest generation of each first.
    generations: Vec<Generation>,
}

impl Generations {
    /// The generations of a menu in whose absence of a choice `default` boots, which is mostly that of one of them.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for two generations with one number, a number of 0, and the name of a profile that holds
    /// anything but letters, digits, `_`, `-`, `.` and `+`, or ends with `-link` as a generation's name does.
    pub fn new(default: System, generations: Vec<Generation>) -> Result<Self> {
        let mut seen = BTreeSet::new();
        for generation in &generations {
            let named = generation.profile.as_deref().unwrap_or("system");
            if let Some(profile) = &generation.profile {
                check_profile(profile)?;
            }
            if generation.number == 0 {
                return Err(Error::new(Kind::Manifest, "a generation has the number 0")
                    .expected("numbers from 1")
                    .found(format!("profile {named}")));
            }
            if !seen.insert((generation.profile.as_deref(), generation.number)) {
                return Err(Error::new(Kind::Manifest, "two generations have one number")
                    .found(format!("profile {named}, generation {}", generation.number)));
            }
        }
        let mut generations = generations;
        generations.sort_by(|a, b| (&a.profile, b.number).cmp(&(&b.profile, a.number)));
        Ok(Self { default, generations })
    }

    /// A single system, as generation 1 of the system profile.
    #[must_use]
    pub fn single(system: System, date: i64) -> Self {
        let generation = Generation { profile: None, number: 1, date, system: system.clone() };
        Self { default: system, generations: vec![generation] }
    }

    /// The system that boots where nobody chooses.
    #[must_use]
    pub const fn default_system(&self) -> &System {
        &self.default
    }

    /// The profiles, the system profile first: the name of each and its newest `limit` generations, newest first.
    #[must_use]
    pub fn profiles(
        &self,
        limit: Option<usize>,
    ) -> impl DoubleEndedIterator<Item = (Option<&str>, &[Generation])> {
        let groups: Vec<_> = self.generations.chunk_by(|a, b| a.profile == b.profile).collect();
        groups.into_iter().filter_map(move |group| {
            let shown = &group[..group.len().min(limit.unwrap_or(usize::MAX))];
            shown.first().map(|first| (first.profile.as_deref(), shown))
        })
    }

    /// The newest `limit` generations of the system profile, newest first.
    #[must_use]
    pub fn system_profile(&self, limit: Option<usize>) -> &[Generation] {
        self.profiles(limit).find(|(profile, _)| profile.is_none()).map_or(&[], |(_, shown)| shown)
    }

    /// Whether `system` is the default one: whether its init lies in the default toplevel.
    #[must_use]
    pub fn is_default(&self, system: &System) -> bool {
        let (folder, _) = system.init.rsplit_once('/').unwrap_or_default();
        folder == self.default.toplevel
    }
}

/// Refuses the name of a profile that could not stand in the name of an entry.
fn check_profile(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.+".contains(&byte);
    if name.is_empty() || name.ends_with("-link") || !name.bytes().all(plain) {
        return Err(Error::new(Kind::Manifest, "this is no name of a system profile")
            .expected("letters, digits, `_`, `-`, `.` and `+`, and no `-link` at the end")
            .found(printable(name.as_bytes())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::system;
    use super::*;

    fn generation(profile: Option<&str>, number: u32) -> Generation {
        Generation { profile: profile.map(str::to_owned), number, date: 0, system: system("a") }
    }

    #[test]
    fn the_newest_comes_first_and_the_system_profile_before_all() {
        let list = vec![
            generation(Some("b"), 2),
            generation(None, 9),
            generation(Some("a"), 1),
            generation(None, 10),
            generation(None, 1),
        ];
        let all = Generations::new(system("a"), list).unwrap();
        let numbers = |limit| -> Vec<(Option<&str>, Vec<u32>)> {
            all.profiles(limit)
                .map(|(name, shown)| (name, shown.iter().map(|g| g.number).collect()))
                .collect()
        };
        assert_eq!(numbers(None), [(None, vec![10, 9, 1]), (Some("a"), vec![1]), (Some("b"), vec![2])]);
        assert_eq!(numbers(Some(2)), [(None, vec![10, 9]), (Some("a"), vec![1]), (Some("b"), vec![2])]);
        assert_eq!(numbers(Some(0)), []);
        assert_eq!(all.system_profile(Some(1)).len(), 1);
        assert!(all.is_default(&system("a")) && !all.is_default(&system("b")));
    }

    #[test]
    fn what_is_no_list_of_generations_is_refused() {
        for (list, text) in [
            (
                vec![generation(None, 1), generation(None, 1)],
                "two generations have one number\n  found: profile system, generation 1",
            ),
            (
                vec![generation(Some("a"), 0)],
                "a generation has the number 0\n  expected: numbers from 1\n  found: profile a",
            ),
            (
                vec![generation(Some("a/b"), 1)],
                "this is no name of a system profile\n  expected: letters, digits, `_`, `-`, `.` and `+`, and no \
                 `-link` at the end\n  found: a/b",
            ),
        ] {
            assert_eq!(Generations::new(system("a"), list).unwrap_err().to_string(), text);
        }
        assert!(Generations::new(system("a"), vec![generation(Some("x-1-link"), 1)]).is_err());
        assert!(Generations::new(system("a"), vec![generation(Some(""), 1)]).is_err());
    }
}
