//! A volume's options and its placement in one struct with `Default`, for tests that change one of many.

use std::sync::Arc;

use diskwright::error::Result;
use diskwright::filesystem::fat::{self, FatType, Times};
use diskwright::filesystem::{Filesystem, Placement, Size};
use diskwright::tree::{Time, Tree};
use diskwright::units::{Bytes, Sectors};
use diskwright::values::VolumeId;
use uuid::Uuid;

/// What a volume is to be.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) size: Size,
    pub(crate) free: Bytes,
    pub(crate) label: Option<String>,
    pub(crate) volume_id: u32,
    pub(crate) fat: Option<FatType>,
    pub(crate) sector_size: u64,
    pub(crate) sectors_per_cluster: Option<u8>,
    pub(crate) hidden_sectors: Sectors,
    pub(crate) time: Time,
    pub(crate) times: Option<Times>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            size: Size::Auto,
            free: Bytes::ZERO,
            label: None,
            volume_id: 0,
            fat: None,
            sector_size: 512,
            sectors_per_cluster: None,
            hidden_sectors: Sectors::ZERO,
            time: Time::default(),
            times: None,
        }
    }
}

/// Builds it.
pub(crate) fn build(tree: &Arc<Tree>, options: &Options) -> Result<Filesystem> {
    let cluster = |sectors: u8| Bytes::new(u64::from(sectors) * options.sector_size);
    let own = fat::Options {
        label: options.label.clone(),
        volume_id: Some(VolumeId(options.volume_id)),
        free: Some(options.free),
        fat: options.fat.map(Into::into),
        cluster_size: options.sectors_per_cluster.map(cluster),
        times: options.times,
    };
    let at = Placement {
        size: options.size,
        offset: options.hidden_sectors.bytes(options.sector_size),
        sector_size: options.sector_size,
        time: options.time,
        ..Placement::alone(Uuid::nil())
    };
    fat::build(tree, &own, &at)
}
