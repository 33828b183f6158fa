//! The length of a disk that all of its files can hold.

use crate::container::{Container, Lengths, SectorSize};
use crate::disk::{Disk, Form};
use crate::error::{Error, Kind, Result, Warning};
use crate::package::Package;
use crate::units::Bytes;

/// The smallest length from `length` on that a disk in all `forms` can have.
pub(super) fn of(forms: &[Form], length: Bytes, sector_size: SectorSize) -> Result<Bytes> {
    let mut step = 1;
    for form in forms {
        for own in steps(form, sector_size) {
            step = common(step, own)?;
        }
    }
    let least = forms.iter().map(|form| {
        let package = form.package.map_or(Bytes::ZERO, |package| package.disk_length(Bytes::ZERO));
        form.container.disk_length(Bytes::ZERO, sector_size).max(package)
    });
    let least = least.max().unwrap_or_default().max(length).get();
    let rounded =
        least.checked_next_multiple_of(step).map(Bytes::new).filter(|length| *length <= Bytes::LIMIT);
    let length = rounded.ok_or_else(|| too_long(step))?;
    forms.iter().filter_map(|form| form.package).try_for_each(|package| package.check_length(length))?;
    Ok(length)
}

/// What the length of a disk in this form is a multiple of.
fn steps(form: &Form, sector_size: SectorSize) -> impl Iterator<Item = u64> {
    let package = form.package.map(|package| package.lengths().step);
    let multiple = form.size_multiple.map(Bytes::get);
    [Some(form.container.step(sector_size)), package, multiple].into_iter().flatten()
}

fn too_long(step: u64) -> Error {
    Error::new(Kind::Capacity, "no disk has a length that all of its files can hold")
        .about("size")
        .expected("multiples that fit together")
        .found(format!("multiples of {step} bytes"))
}

/// The least common multiple.
fn common(a: u64, b: u64) -> Result<u64> {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).checked_mul(b).filter(|step| *step > 0).ok_or_else(|| too_long(a.max(b)))
}

/// Refuses a disk that this form cannot hold.
pub(super) fn check(form: &Form, disk: &Disk, sector_size: SectorSize) -> Result<()> {
    let container = &form.container;
    container.check_sector_size(sector_size).map_err(|error| error.about("sector_size"))?;
    if matches!(disk.sector_size, 1024 | 2048) && *container != Container::Raw {
        let error = Error::new(Kind::Usage, "only a raw image has sectors of this size");
        return Err(error.found(disk.sector_size).about("sector_size"));
    }
    if let Some(package) = form.package.filter(|package| package.is_of_512() && disk.sector_size != 512) {
        return Err(Error::new(Kind::Usage, format!("{package} has only disks with sectors of 512 bytes"))
            .about("sector_size")
            .expected(512)
            .found(disk.sector_size));
    }
    // A size that is given is the length of the disk in every file, or an error.
    let Some(size) = disk.size else { return Ok(()) };
    container.check_length(size, sector_size)?;
    if let Some(package) = form.package {
        package.lengths().check(size, || format!("{package} takes no disk of exactly this length"))?;
    }
    let Some(multiple) = form.size_multiple.map(Bytes::get) else { return Ok(()) };
    let what = || "the size of the disk is not the multiple that is asked for".to_owned();
    Lengths { step: multiple, least: multiple }.check(size, what)
}

/// The warning that a bare filesystem of `length` becomes longer in this form, if it does: zeros follow it.
pub(super) fn lengthened(form: &Form, length: Bytes, sector_size: SectorSize) -> Option<Warning> {
    let package = |package: Package| package.lengths().lengthened(length, package);
    form.container.lengthened(length, sector_size).or_else(|| form.package.and_then(package))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Format;
    use crate::units::{GIB, MIB};

    #[test]
    fn a_length_is_one_that_all_files_hold() {
        let multiple = |bytes| Form { size_multiple: Some(Bytes::new(bytes)), ..Form::default() };
        let google = Form { package: Some(Package::Gce), ..Form::default() };
        let qcow2 = Form { container: Container::of(Format::Qcow2), ..Form::default() };
        for (forms, length, expected) in [
            (vec![], 700, Some(700)),
            (vec![Form::default(), qcow2.clone()], 700, Some(1024)),
            (vec![qcow2.clone(), google.clone()], 700, Some(GIB)),
            (vec![multiple(3 * MIB), multiple(2 * MIB)], MIB, Some(6 * MIB)),
            (vec![google, multiple(3 * MIB)], GIB + 1, Some(3 * GIB)),
            (vec![multiple(u64::MAX), multiple(u64::MAX - 1)], 1, None),
        ] {
            let found = of(&forms, Bytes::new(length), SectorSize::B512).ok().map(Bytes::get);
            assert_eq!(found, expected, "{forms:?}");
        }
    }
}
