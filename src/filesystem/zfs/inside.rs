//! Filesystems in volumes: what is below a directory of the contents becomes an image that a volume has.

use std::sync::Arc;

use uuid::Uuid;

use super::data::{Volume, Volumes};
use super::division::Division;
use super::parameters::Parameters;
use crate::error::{Result, Warning};
use crate::filesystem::{Placement, Size};
use crate::identity;
use crate::pour::Packer;
use crate::tree::{Builder, Tree};
use crate::units::Bytes;

/// Builds the filesystems of all volumes that have one.
///
/// # Errors
/// Those of the filesystems, whose contents may not fit the volume.
pub(super) fn build(
    tree: &Arc<Tree>,
    parameters: &Parameters,
    division: &Division,
    packer: &Packer,
) -> Result<(Volumes, Vec<Warning>)> {
    let (mut volumes, mut warnings) = (Vec::new(), Vec::new());
    for (number, dataset) in (0..).zip(&parameters.datasets) {
        let (Some(spec), Some((size, _))) = (&dataset.filesystem, dataset.volume()) else { continue };
        let contents = match division.root(number)? {
            Some(top) => tree.below(top)?,
            None => Builder::new(parameters.time).finish(1)?,
        };
        let half = |name: &str| parameters.ids.number(&format!("filesystem in {} {name}", dataset.name));
        let at = Placement {
            size: Size::Fixed(Bytes::new(size)),
            time: parameters.time,
            ..Placement::alone(identity::filesystem_uuid(Uuid::from_u64_pair(half("high"), half("low"))))
        };
        let built = spec
            .build(Some(&Arc::new(contents)), &at, &packer.another())
            .map_err(|error| error.about("datasets"))?;
        warnings.extend(
            built.warnings.into_iter().map(|Warning(text)| Warning(format!("{}: {text}", dataset.name))),
        );
        volumes.push((Volume { dataset: number, image: built.image }, parameters.manner(dataset)));
    }
    Ok((volumes, warnings))
}
