//! The version of a libtorch, read from its headers.

use std::fmt;
use std::fs;
use std::path::Path;

/// The version that the bindings (crate `tch` 0.24) are made for: major and minor.
pub const WANTED: (u32, u32) = (2, 11);

/// Where the version stands, newest place first, relative to the folder that holds `include/`.
const HEADERS: [&str; 2] = ["include/torch/headeronly/version.h", "include/torch/csrc/api/include/torch/version.h"];

/// Version of a libtorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
}

impl Version {
    /// Reads `TORCH_VERSION_MAJOR`, `_MINOR` and `_PATCH` from the text of a header. `None` if one is missing.
    pub fn from_header(text: &str) -> Option<Version> {
        Some(Version {
            major: define(text, "TORCH_VERSION_MAJOR")?,
            minor: define(text, "TORCH_VERSION_MINOR")?,
            patch: define(text, "TORCH_VERSION_PATCH")?,
        })
    }

    /// Version of the libtorch in `folder`, the one that holds `include/`. `None` if no header says.
    pub fn of(folder: &Path) -> Option<Version> {
        HEADERS.iter().find_map(|header| Version::from_header(&fs::read_to_string(folder.join(header)).ok()?))
    }

    /// Whether the bindings work with it.
    pub fn is_wanted(&self) -> bool {
        (self.major, self.minor) == WANTED
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The number of `#define NAME number`.
fn define(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut words = line.trim().strip_prefix('#')?.split_whitespace();
        (words.next()? == "define" && words.next()? == name).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_three_numbers() {
        let header = "#pragma once\n#define TORCH_VERSION_MAJOR 2\n#  define TORCH_VERSION_MINOR  11\n\
                      #define TORCH_VERSION_PATCH 0\n#define TORCH_VERSION \"2.11.0\"\n";
        let version = Version::from_header(header).unwrap();
        assert_eq!(version, Version { major: 2, minor: 11, patch: 0 });
        assert!(version.is_wanted());
        assert_eq!(version.to_string(), "2.11.0");
    }

    #[test]
    fn a_header_without_all_numbers_has_no_version() {
        assert_eq!(Version::from_header(""), None);
        assert_eq!(Version::from_header("#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 11\n"), None);
        assert_eq!(
            Version::from_header(
                "#define TORCH_VERSION_MAJOR two\n#define TORCH_VERSION_MINOR 11\n#define TORCH_VERSION_PATCH 0"
            ),
            None
        );
    }

    #[test]
    fn only_2_11_will_do() {
        for (minor, wanted) in [(1, false), (10, false), (11, true), (12, false), (110, false)] {
            assert_eq!(Version { major: 2, minor, patch: 3 }.is_wanted(), wanted, "2.{minor}");
        }
        assert!(!Version { major: 1, minor: 11, patch: 0 }.is_wanted());
    }
}
