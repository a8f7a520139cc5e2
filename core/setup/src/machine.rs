//! What the machine is: system, C library, threads, disk, wasm targets. Asked of the usual programs, so that nothing
//! here needs more than the standard library.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Compilation targets that plugins are built for.
pub const WASM_TARGETS: [&str; 2] = ["wasm32-wasip2", "wasm32-unknown-unknown"];

/// The oldest glibc that the wheels run on.
pub const OLDEST_GLIBC: (u32, u32) = (2, 28);

/// What set-up reads from its environment. A parameter, so that a test can put what it likes there.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `LIBTORCH`: a libtorch of the user's own.
    pub libtorch: Option<PathBuf>,
    /// `VIRTUAL_ENV`: the Python environment in use.
    pub virtual_env: Option<PathBuf>,
    /// `CONDA_PREFIX`: the conda environment in use.
    pub conda_prefix: Option<PathBuf>,
    /// `PATH`: where programs are looked for.
    pub path: OsString,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Environment {
        let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Environment {
            libtorch: folder("LIBTORCH"),
            virtual_env: folder("VIRTUAL_ENV"),
            conda_prefix: folder("CONDA_PREFIX"),
            path: std::env::var_os("PATH").unwrap_or_default(),
        }
    }

    /// The first file called `name` on `PATH`.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.path).map(|folder| folder.join(name)).find(|file| file.is_file())
    }
}

/// What a program prints; `None` if it cannot be started or fails.
pub(crate) fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Operating system and processor, as in `linux x86_64`.
pub fn system() -> String {
    format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)
}

/// Version of the GNU C library. `None` on systems with another one.
pub fn glibc() -> Option<(u32, u32)> {
    parse_glibc(&output_of(Command::new("getconf").arg("GNU_LIBC_VERSION"))?)
}

/// Reads `glibc 2.36`.
fn parse_glibc(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some((digits(major)?, digits(minor)?))
}

/// Threads that this process may use at once; 1 if the system does not say.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| threads.get())
}

/// Free bytes where `folder` lies, or where it would lie. `None` if the system does not say.
pub fn free_disk(folder: &Path) -> Option<u64> {
    let folder = std::path::absolute(folder).ok()?;
    let existing = folder.ancestors().find(|folder| folder.is_dir())?;
    parse_df(&output_of(Command::new("df").arg("-Pk").arg(existing).env("LC_ALL", "C"))?)
}

/// Reads the fourth column of the second line of `df -Pk`, which is in KiB. Columns are counted from the one with a per
/// cent sign, since a device's name may hold blanks.
fn parse_df(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.lines().nth(1)?.split_whitespace().collect();
    let capacity = words.iter().position(|word| word.ends_with('%'))?;
    words.get(capacity.checked_sub(1)?)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The wasm targets, and whether the Rust toolchain of `root` can build for them. Asked of the toolchain's own
/// folder, so that it is right without rustup too.
pub fn wasm_targets(root: &Path) -> Vec<(&'static str, bool)> {
    let sysroot = output_of(Command::new("rustc").args(["--print", "sysroot"]).current_dir(root));
    let libraries = sysroot.map(|folder| Path::new(folder.trim()).join("lib/rustlib"));
    let installed = |target: &str| libraries.as_ref().is_some_and(|folder| folder.join(target).join("lib").is_dir());
    WASM_TARGETS.iter().map(|target| (*target, installed(target))).collect()
}

/// Bytes as people write them, as in `1.5 GiB`.
pub fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_glibc() {
        assert_eq!(parse_glibc("glibc 2.36\n"), Some((2, 36)));
        assert_eq!(parse_glibc("glibc 2.28.9000"), Some((2, 28)));
        assert_eq!(parse_glibc("musl 1.2"), None);
        assert_eq!(parse_glibc(""), None);
    }

    #[test]
    fn reads_free_kibibytes() {
        let header = "Filesystem     1024-blocks     Used Available Capacity Mounted on\n";
        assert_eq!(
            parse_df(&format!("{header}/dev/vda  263000000 17000000  78643200      19% /\n")),
            Some(78_643_200 << 10)
        );
        assert_eq!(parse_df(&format!("{header}my share  100 60  40      60% /mnt/a b\n")), Some(40 << 10));
        assert_eq!(parse_df(header), None);
        assert_eq!(parse_df(&format!("{header}% 1\n")), None);
    }

    #[test]
    fn asks_about_a_folder_that_is_not_there_yet() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(free_disk(&folder.path().join("not/yet")).is_some(), free_disk(folder.path()).is_some());
    }

    #[test]
    fn programs_are_found_in_the_order_of_path() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("b/tool"), "").unwrap();
        let path = std::env::join_paths([folder.path().join("a"), folder.path().join("b")]).unwrap();
        let environment = Environment { path, ..Environment::default() };
        assert_eq!(environment.program("tool"), Some(folder.path().join("b/tool")));
        std::fs::write(folder.path().join("a/tool"), "").unwrap();
        assert_eq!(environment.program("tool"), Some(folder.path().join("a/tool")));
        assert_eq!(environment.program("other"), None);
    }
}
