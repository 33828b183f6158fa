//! What `docker save` writes: `manifest.json` names the configuration and the layers of each image by their paths in the
//! archive (Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset Format").

use serde::Deserialize;

use super::super::damaged;
use super::super::digest::{Checked, Digest};
use super::super::input::read_small;
use super::{Blobs, LARGEST_JSON, Layer, Wanted, content_digests, list, parse};
use crate::error::Result;
use crate::image::Slice;
use crate::option::option;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Image {
    fn names(&self) -> &[String] {
        self.repo_tags.as_deref().unwrap_or_default()
    }

    fn is_named(&self, wanted: &str) -> bool {
        self.names().iter().any(|name| {
            // docker.io/library/trial:latest is trial:latest to its user.
            name.strip_suffix(wanted).is_some_and(|before| before.is_empty() || before.ends_with('/'))
                || name.rsplit_once(':').is_some_and(|(before, tag)| tag == wanted || before == wanted)
        })
    }
}

/// The layers of the image that is wanted, the lowest first.
pub(super) fn layers(blobs: &Blobs, manifest: &Slice, wanted: &Wanted<'_>) -> Result<Vec<Layer>> {
    let what = "the manifest of the image";
    let images: Vec<Image> = parse::<Vec<Image>>(&read_small(manifest, LARGEST_JSON, what)?, what)?;
    let found = list(images.iter().flat_map(Image::names).cloned());
    let named = |image: &Image| wanted.image.is_none_or(|name| image.is_named(name));
    let mut left: Vec<Image> = images.into_iter().filter(named).collect();
    let image = match (left.pop(), left.is_empty()) {
        (Some(image), true) => image,
        (None, _) => return Err(damaged("there is no such image").found(found)),
        (Some(_), false) => {
            return Err(damaged("there are several images")
                .found(found)
                .hint(format!("name one with {}", option("image"))));
        }
    };
    let name = "the configuration of the image";
    let config = read_small(&blobs.need(&image.config, name)?, LARGEST_JSON, name)?;
    // Its name is its digest.
    let stem = image.config.rsplit('/').next().unwrap_or_default();
    let stem = stem.strip_suffix(".json").unwrap_or(stem);
    if let Ok(digest) = Digest::parse(&format!("sha256:{stem}")) {
        digest.check(&config, name)?;
    }
    let contents = content_digests(&config, image.layers.len(), wanted)?;
    let layers = image.layers.into_iter().zip(contents);
    let layer = |(path, content): (String, Digest)| {
        let bytes = blobs.need(&path, "a layer")?;
        Ok(Layer { name: path, bytes, checked: Checked { whole: None, content: Some(content) } })
    };
    layers.map(layer).collect()
}
