//! Which supplements are put into their targets: as many as fit (systemd `context_unmerge_and_allocate_partitions`).

use std::collections::BTreeSet;

use super::definition::Definition;
use super::make::Made;
use super::plan::Plan;
use crate::error::{Error, Kind, Result};

/// How many disks are tried: all choices among six supplements.
const MOST: usize = 1 << 6;

/// The supplements that stand apart from their targets, by their numbers.
type Apart = BTreeSet<usize>;

/// The disk with some supplements apart, as it takes for everything to fit: in the order of systemd, one more at a time and depth
/// first. Where nothing helps, that on which
/// definitions of the fewest priorities come to nothing.
///
/// # Errors
/// As `make`, which makes the disk; where nothing fits, as it does with all supplements in their targets.
pub(super) fn fitting(definitions: &[Definition], make: impl Fn(&Apart) -> Result<Made>) -> Result<Made> {
    let target = |number: &usize| target(definitions, definitions.get(*number)?);
    let mut supplements: Vec<usize> =
        (0..definitions.len()).filter(|number| target(number).is_some()).collect();
    supplements.sort_by_key(target);
    let first = make(&Apart::new());
    if supplements.is_empty() || !wants_better(&first) {
        return first;
    }
    let mut search = Search { supplements, make, tried: BTreeSet::new(), best: first, made: 0 };
    search.below(&Apart::new())?;
    search.best
}

/// Refuses a disk where a supplement is in a target that is there and cannot grow: nothing is done to such a target.
///
/// # Errors
/// [`Kind::Capacity`], with the supplement.
pub(super) fn check(definitions: &[Definition], plan: &Plan) -> Result<()> {
    for part in plan.parts.iter().filter(|part| part.merged) {
        let Some(own) = part.definition.and_then(|number| definitions.get(number)) else { continue };
        let Some(target) = target(definitions, own) else { continue };
        if !plan.parts.iter().any(|part| part.definition == Some(target)) {
            let error = Error::new(Kind::Capacity, "the partition that a supplement is for cannot grow");
            return Err(own.place(error, "SupplementFor"));
        }
    }
    Ok(())
}

/// The number of the definition that `supplement` is for.
fn target(definitions: &[Definition], supplement: &Definition) -> Option<usize> {
    let name = supplement.supplement_for.as_deref()?;
    definitions.iter().position(|definition| definition.name() == name)
}

/// Whether something of a disk did not fit.
fn wants_better(made: &Result<Made>) -> bool {
    match made {
        Ok(made) => made.lost.is_some(),
        Err(error) => error.kind() == Kind::Capacity,
    }
}

struct Search<F> {
    supplements: Vec<usize>,
    make: F,
    tried: BTreeSet<Apart>,
    best: Result<Made>,
    /// How many disks were tried.
    made: usize,
}

impl<F: Fn(&Apart) -> Result<Made>> Search<F> {
    /// Tries one supplement more apart, each in turn, and then two and more. Returns whether everything fits, or enough was tried.
    fn below(&mut self, apart: &Apart) -> Result<bool> {
        let with = |number: &usize| apart.iter().chain([number]).copied().collect::<Apart>();
        let more: Vec<Apart> =
            self.supplements.iter().filter(|number| !apart.contains(number)).map(with).collect();
        let more: Vec<Apart> = more.into_iter().filter(|apart| self.tried.insert(apart.clone())).collect();
        for apart in &more {
            if self.made == MOST {
                return Ok(true);
            }
            self.made += 1;
            match (self.make)(apart) {
                Ok(made) if self.best.as_ref().is_ok_and(|best| best.lost <= made.lost) => {}
                Ok(made) => {
                    let fits = made.lost.is_none();
                    self.best = Ok(made);
                    if fits {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() != Kind::Capacity && self.best.is_err() => return Err(error),
                Err(_) => {}
            }
        }
        for apart in &more {
            if self.below(apart)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
