//! What a shared library needs, as the system's loader sees it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::output_of;

/// File name of a library, as in `libtorch_cpu.so`.
pub(crate) fn library(name: &str) -> String {
    format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

/// One line of the loader: a library's name and where it is, or `None` if it was not found.
type Needed = (String, Option<PathBuf>);

/// Everything that `library` needs, directly or not. `None` where there is no `ldd` or it cannot read the file.
fn needed(library: &Path) -> Option<Vec<Needed>> {
    Some(parse(&output_of(Command::new("ldd").arg(library).env("LC_ALL", "C"))?))
}

/// Reads `name => path (address)` and `name => not found`.
fn parse(text: &str) -> Vec<Needed> {
    let lines = text.lines().filter_map(|line| line.trim().split_once(" => "));
    lines
        .map(|(name, place)| {
            let path = place.rsplit_once(" (0x").map_or(place, |(path, _)| path);
            (name.to_string(), path.starts_with('/').then(|| PathBuf::from(path)))
        })
        .collect()
}

/// Names of the libraries that `library` needs and the loader does not find.
pub(crate) fn missing(library: &Path) -> Vec<String> {
    let needed = needed(library).unwrap_or_default();
    needed.into_iter().filter(|(_, path)| path.is_none()).map(|(name, _)| name).collect()
}

/// Libraries that `library` needs and that are not the system's own, with where they are.
pub(crate) fn companions(library: &Path) -> Vec<(String, PathBuf)> {
    const SYSTEM: [&str; 4] = ["/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/"];
    let needed = needed(library).unwrap_or_default();
    let found = needed.into_iter().filter_map(|(name, path)| Some((name, path?)));
    found.filter(|(_, path)| !SYSTEM.iter().any(|folder| path.starts_with(folder))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_loader_says() {
        let text = "\tlinux-vdso.so.1 (0x00007f86)\n\tlibc10.so => /a b/lib/libc10.so (0x00007f86)\n\
                    \tlibcudart.so.13 => not found\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f86)\n";
        let expected = [
            ("libc10.so".to_string(), Some(PathBuf::from("/a b/lib/libc10.so"))),
            ("libcudart.so.13".to_string(), None),
        ];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn what_is_no_library_needs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libtorch_cpu.so");
        std::fs::write(&file, "text").unwrap();
        assert_eq!(missing(&file), Vec::<String>::new());
        assert_eq!(companions(&file), Vec::new());
    }
}
