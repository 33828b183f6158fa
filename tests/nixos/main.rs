//! NixOS systems: a closure that real Nix builds in its sandbox from Debian's packages, imaged in every layout, judged by
//! the tools of the formats, by Nix itself on the written root, and by booting it.

#[cfg(test)]
mod boot;
#[cfg(test)]
mod closure;
#[cfg(test)]
mod contents;
#[cfg(test)]
mod digests;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod function;
#[cfg(test)]
mod layouts;
#[cfg(test)]
mod loaders;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod root;
#[cfg(test)]
mod same;
#[cfg(test)]
mod sandbox;
#[cfg(test)]
mod strange;
#[cfg(test)]
#[path = "../it/support/mod.rs"]
#[expect(dead_code, reason = "shared with the proof of whole images, which uses all of it")]
mod support;
#[cfg(test)]
mod tiny;
