//! What can be booted in the files of a root: kernels with their initrds, and what the system calls itself.
//!
//! Sources: Debian's and Fedora's kernel packages, mkinitcpio and Alpine's mkinitfs for the names below `/boot`; kernel-install(8)
//! for those below `/usr/lib/modules`; os-release(5).

use std::cmp::Ordering;

use crate::boot::uki::Part;
use crate::error::{Error, Kind, Result};
use crate::text::printable;
use crate::tree::View;

/// What the name of a kernel in `/boot` begins with; what follows is its release.
const KERNELS: [&str; 6] = ["vmlinuz", "vmlinux", "Image", "bzImage", "zImage", "kernel"];

/// Where the modules of a kernel are, and in some distributions the kernel.
const MODULES: [&str; 2] = ["/usr/lib/modules", "/lib/modules"];

/// What is not a kernel but begins like one.
/// `vmlinux` compressed as a whole is for debuggers.
const OTHERS: [&str; 7] = [".old", ".bak", ".hmac", ".sig", ".gz", ".xz", ".zst"];

/// A kernel that was found.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// Its release; empty if its name does not say it.
    pub(super) version: String,
    pub(super) kernel: Part,
    pub(super) initrds: Vec<Part>,
    pub(super) devicetree: Option<Part>,
    /// The folder with the devicetrees of all machines, in the root.
    pub(super) devicetrees: Option<String>,
}

/// A file of the root.
pub(super) fn part(view: View<'_>, path: &str) -> Result<Option<Part>> {
    Ok(view.file(path)?.map(|slice| Part::Inside { path: path.to_owned(), slice }))
}

/// The kernels of the root, the newest first.
///
/// # Errors
/// [`Kind::Source`] where there is none, with what is there instead.
pub(super) fn kernels(view: View<'_>) -> Result<Vec<Kernel>> {
    let mut found: Vec<Kernel> = Vec::new();
    for name in view.names("/boot") {
        let Some(version) = release_in(&name) else { continue };
        let path = format!("/boot/{name}");
        if view.is_file(&path) && found.iter().all(|known| known.version != version) {
            found.extend(kernel(view, &path, version)?);
        }
    }
    for folder in MODULES {
        for version in view.names(folder) {
            let path = format!("{folder}/{version}/vmlinuz");
            // Arch Linux copies it to /boot under the name of its package, which this file says.
            let package = view.text(&format!("{folder}/{version}/pkgbase"))?;
            let package = package.as_deref().map_or(version.as_str(), str::trim);
            let is_known =
                found.iter().any(|known| [version.as_str(), package].contains(&known.version.as_str()));
            if view.is_file(&path) && !is_known {
                found.extend(kernel(view, &path, &version)?);
            }
        }
    }
    // A name without a release leads to one that has it, or is the only one.
    if found.iter().any(|kernel| !kernel.version.is_empty()) {
        found.retain(|kernel| !kernel.version.is_empty());
    }
    found.sort_by(|a, b| newer(&a.version, &b.version));
    if found.is_empty() { Err(missing(view)) } else { Ok(found) }
}

/// The release that the name of a kernel in `/boot` says; empty for a name that says none.
fn release_in(name: &str) -> Option<&str> {
    if OTHERS.iter().any(|suffix| name.ends_with(suffix)) {
        return None;
    }
    KERNELS.iter().find_map(|begin| match name.strip_prefix(begin)? {
        "" => Some(""),
        rest => rest.strip_prefix('-'),
    })
}

fn kernel(view: View<'_>, path: &str, version: &str) -> Result<Option<Kernel>> {
    let Some(kernel) = part(view, path)? else { return Ok(None) };
    let initrd = initrd_names(version).into_iter().find(|path| view.is_file(path));
    let devicetrees = [
        format!("/usr/lib/linux-image-{version}"),
        format!("/boot/dtbs/{version}"),
        format!("/boot/dtb-{version}"),
        format!("/usr/lib/modules/{version}/dtb"),
    ];
    Ok(Some(Kernel {
        version: version.to_owned(),
        kernel,
        initrds: initrd.map_or(Ok(None), |path| part(view, &path))?.into_iter().collect(),
        devicetree: None,
        devicetrees: devicetrees.into_iter().find(|path| !version.is_empty() && view.is_directory(path)),
    }))
}

/// The names that the initrd of a kernel may have.
fn initrd_names(version: &str) -> Vec<String> {
    let dashed = if version.is_empty() { String::new() } else { format!("-{version}") };
    let mut names = vec![
        format!("/boot/initrd.img{dashed}"),
        format!("/boot/initrd{dashed}.img"),
        format!("/boot/initramfs{dashed}.img"),
        format!("/boot/initramfs{dashed}"),
        format!("/boot/initrd{dashed}"),
    ];
    if !version.is_empty() {
        for file in ["initrd", "initrd.img", "initramfs.img"] {
            names.extend(MODULES.iter().map(|folder| format!("{folder}/{version}/{file}")));
        }
    }
    names
}

/// The order of releases, the newest first. Fedora's kernels to rescue a system are the last.
fn newer(a: &str, b: &str) -> Ordering {
    let rescue = |version: &str| version.contains("rescue");
    rescue(a).cmp(&rescue(b)).then_with(|| compare(b, a)).then_with(|| a.cmp(b))
}

/// Compares runs of digits as numbers, and what is between them by its bytes.
fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() && !b.is_empty() {
        let digits = a[0].is_ascii_digit() && b[0].is_ascii_digit();
        let end =
            |text: &[u8]| text.iter().position(|byte| byte.is_ascii_digit() != digits).unwrap_or(text.len());
        let ((first, rest_a), (second, rest_b)) = (a.split_at(end(a).max(1)), b.split_at(end(b).max(1)));
        let order = match digits {
            true => {
                let strip =
                    |text: &'_ [u8]| -> usize { text.iter().take_while(|byte| **byte == b'0').count() };
                let (first, second) = (&first[strip(first)..], &second[strip(second)..]);
                first.len().cmp(&second.len()).then_with(|| first.cmp(second))
            }
            false => first.cmp(second),
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    a.len().cmp(&b.len())
}

fn missing(view: View<'_>) -> Error {
    let list = |folder: &str| {
        let names = view.names(folder);
        let shown: Vec<String> = names.iter().take(8).map(|name| printable(name.as_bytes())).collect();
        match (view.is_directory(folder), shown.as_slice()) {
            (false, _) => format!("no {folder}"),
            (true, []) => format!("nothing in {folder}"),
            (true, shown) => {
                let more = if names.len() > shown.len() { ", …" } else { "" };
                format!("{}{more} in {folder}", shown.join(", "))
            }
        }
    };
    Error::new(Kind::Source, "there is no kernel in the contents of the root")
        .expected("/boot/vmlinuz*, /boot/Image*, or /usr/lib/modules/*/vmlinuz")
        .found(format!("{}, and {}", list("/boot"), list("/usr/lib/modules")))
        .hint("give a file of this machine by `kernel`, or install a kernel in the tree")
}

/// What a system calls itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Release {
    /// For people: `Debian GNU/Linux 12 (bookworm)`.
    pub(super) title: String,
    /// The beginning of names: `debian`.
    pub(super) id: String,
}

/// What the os-release of the root says; a given `title` goes before its own.
///
/// # Errors
/// [`Kind::Source`] for a root without os-release, where no title is given.
pub(super) fn release(view: View<'_>, title: Option<&str>) -> Result<Release> {
    let text =
        ["/etc/os-release", "/usr/lib/os-release"].into_iter().find_map(|path| view.text(path).transpose());
    let (text, there) = match text.transpose()? {
        Some(text) => (text, true),
        None => (String::new(), false),
    };
    let value = |key: &str| {
        // As in a shell, the last counts.
        let value = text.lines().rev().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
        Some(unquoted(value)).filter(|value| !value.is_empty())
    };
    let own = value("PRETTY_NAME").or_else(|| value("NAME")).or_else(|| there.then(|| "Linux".to_owned()));
    let title = title.map(str::to_owned).or(own).ok_or_else(|| {
        Error::new(Kind::Source, "the root does not say which system it is")
            .expected("/etc/os-release or /usr/lib/os-release in its contents")
            .hint("give the title of the menu by `title`")
    })?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let id = value("ID").filter(|id| id.chars().all(plain)).unwrap_or_else(|| "linux".to_owned());
    Ok(Release { title, id })
}

/// A value of os-release(5): as a shell would read it.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    let inner = quote.and_then(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    match (inner, quote) {
        (Some(inner), Some('"')) => {
            let mut text = String::new();
            let mut chars = inner.chars();
            while let Some(c) = chars.next() {
                text.extend(if c == '\\' { chars.next() } else { Some(c) });
            }
            text
        }
        (Some(inner), _) => inner.to_owned(),
        (None, _) => value.to_owned(),
    }
}

#[cfg(test)]
#[path = "find_tests.rs"]
mod tests;
