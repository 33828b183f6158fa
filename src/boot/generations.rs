//! Generations of profiles, and the system that boots by default. They hold store paths while a system is
//! described, and the systems themselves while a menu is made.

use std::collections::BTreeSet;

use super::bootspec::System;
use crate::calendar;
use crate::error::{Error, Kind, Result};
use crate::text::printable;

/// A generation of a profile; `S` is what is known about its system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation<S = System> {
    /// The profile it belongs to; `None` is the system profile itself.
    pub profile: Option<String>,
    /// Its number, from 1.
    pub number: u32,
    /// When it was made, in seconds since 1970. Menus show the day in UTC.
    pub date: i64,
    /// What boots.
    pub system: S,
}

impl<S> Generation<S> {
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

/// The generations of all profiles, and the default system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generations<S = System> {
    default: S,
    /// The system profile first, then the others by name; the newest generation of each first.
    generations: Vec<Generation<S>>,
}

impl<S> Generations<S> {
    /// The generations of a menu. `default` boots if nobody chooses; it is usually the system of one of them.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for two generations with one number, a number of 0, and a profile whose name
    /// contains anything except letters, digits, `_`, `-`, `.` and `+`, or ends with `-link` like the name of
    /// a generation.
    pub fn new(default: S, generations: Vec<Generation<S>>) -> Result<Self> {
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

    /// A system profile with the `earlier` systems, the oldest first, and then `newest`, which boots. They
    /// count from 1. A generation that equals the one before it is omitted, as with `nix-env --set`.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for more than `u32` counts.
    pub fn profile(earlier: Vec<S>, newest: S, date: i64) -> Result<Self>
    where
        S: Clone + PartialEq,
    {
        let mut systems = earlier;
        systems.push(newest.clone());
        systems.dedup();
        let numbered = systems.into_iter().enumerate().map(|(before, system)| {
            let number = u32::try_from(before).ok().and_then(|before| before.checked_add(1));
            let number = number.ok_or_else(|| Error::new(Kind::Manifest, "too many generations"))?;
            Ok(Generation { profile: None, number, date, system })
        });
        Self::new(newest, numbered.collect::<Result<_>>()?)
    }

    /// The same generations with the results of `read` for their systems. If the default system is not one of
    /// them, it is read as well.
    ///
    /// # Errors
    /// The errors of `read`.
    pub fn read<T: Clone>(&self, mut read: impl FnMut(&S) -> Result<T>) -> Result<Generations<T>>
    where
        S: PartialEq,
    {
        let mut generations = Vec::new();
        // The oldest first, so that warnings of `read` come in the order in which the generations were made.
        for Generation { profile, number, date, system } in self.generations.iter().rev() {
            let system = read(system)?;
            generations.push(Generation { profile: profile.clone(), number: *number, date: *date, system });
        }
        generations.reverse();
        let own = self.generations.iter().position(|generation| generation.system == self.default);
        let default = match own.and_then(|own| generations.get(own)) {
            Some(generation) => generation.system.clone(),
            None => read(&self.default)?,
        };
        Ok(Generations { default, generations })
    }

    /// The system that boots if nobody chooses.
    #[must_use]
    pub const fn default_system(&self) -> &S {
        &self.default
    }

    /// The profiles, the system profile first: the name of each and its newest `limit` generations, newest first.
    #[must_use]
    pub fn profiles(
        &self,
        limit: Option<usize>,
    ) -> impl DoubleEndedIterator<Item = (Option<&str>, &[Generation<S>])> {
        let groups: Vec<_> = self.generations.chunk_by(|a, b| a.profile == b.profile).collect();
        groups.into_iter().filter_map(move |group| {
            let shown = &group[..group.len().min(limit.unwrap_or(usize::MAX))];
            shown.first().map(|first| (first.profile.as_deref(), shown))
        })
    }

    /// The newest `limit` generations of the system profile, newest first.
    #[must_use]
    pub fn system_profile(&self, limit: Option<usize>) -> &[Generation<S>] {
        self.profiles(limit).find(|(profile, _)| profile.is_none()).map_or(&[], |(_, shown)| shown)
    }
}

impl Generations {
    /// A single system, as generation 1 of the system profile.
    #[must_use]
    pub fn single(system: System, date: i64) -> Self {
        let generation = Generation { profile: None, number: 1, date, system: system.clone() };
        Self { default: system, generations: vec![generation] }
    }

    /// Whether `system` is the default one: whether its init lies in the default toplevel.
    #[must_use]
    pub fn is_default(&self, system: &System) -> bool {
        let (folder, _) = system.init.rsplit_once('/').unwrap_or_default();
        folder == self.default.toplevel
    }
}

/// Refuses a name of a profile that cannot be part of the name of an entry.
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
    fn a_profile_counts_from_one_and_nothing_is_made_twice_in_a_row() {
        let shown = |generations: &Generations<&str>| -> Vec<(u32, String)> {
            let profile = generations.system_profile(None).iter();
            profile.map(|generation| (generation.number, generation.system.to_owned())).collect()
        };
        let list = |items: &[(u32, &str)]| -> Vec<(u32, String)> {
            items.iter().map(|(number, name)| (*number, (*name).to_owned())).collect()
        };
        let profile = Generations::profile(vec!["a", "a", "b"], "b", 7).unwrap();
        assert_eq!((shown(&profile), *profile.default_system()), (list(&[(2, "b"), (1, "a")]), "b"));
        assert_eq!(profile.system_profile(Some(1))[0].day(), "1970-01-01");
        let back = Generations::profile(vec!["a", "b"], "a", 0).unwrap();
        assert_eq!((shown(&back), *back.default_system()), (list(&[(3, "a"), (2, "b"), (1, "a")]), "a"));
        assert_eq!(shown(&Generations::profile(Vec::new(), "x", 0).unwrap()), list(&[(1, "x")]));

        let mut order = Vec::new();
        let read = back.read(|name| {
            order.push((*name).to_owned());
            Ok(format!("{name}!"))
        });
        let read = read.unwrap();
        assert_eq!((order, read.default_system().as_str()), (vec!["a".into(), "b".into(), "a".into()], "a!"));
        assert_eq!(read.system_profile(None)[1].system, "b!");
        let error = back.read(|_| Err::<(), _>(Error::new(Kind::Source, "no"))).unwrap_err();
        assert_eq!(error.what(), "no");
        let other =
            Generations::new("z", vec![Generation { profile: None, number: 1, date: 0, system: "a" }]);
        assert_eq!(other.unwrap().read(|name| Ok((*name).to_owned())).unwrap().default_system(), "z");
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
