//! The files of the hostile plugins: built from `tests/hostile-plugins`, cut, and edited byte by byte.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use metareward_host::{Source, hash_file};
use metareward_tests::root;

/// The folder with all files, which are built once per process.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = root().join("target/hostile/files");
        fs::create_dir_all(&folder).unwrap();
        let kinds = ["ranker", "selector", "meta-judge", "describes", "reaches"];
        let packages: Vec<String> = kinds.iter().map(|kind| format!("--package=hostile-{kind}")).collect();
        let mut arguments = vec!["--target", "wasm32-wasip2"];
        arguments.extend(packages.iter().map(String::as_str));
        build(&arguments);
        for kind in kinds {
            let built = format!("wasm32-wasip2/release/hostile_{}.wasm", kind.replace('-', "_"));
            take(&built, &folder.join(format!("{kind}.wasm")));
        }
        build(&["--target", "wasm32-wasip2", "--package=hostile-reaches", "--features=sockets"]);
        take("wasm32-wasip2/release/hostile_reaches.wasm", &folder.join("sockets.wasm"));
        build(&["--package=hostile-ranker", "--package=hostile-table"]);
        for kind in ["ranker", "table"] {
            let name = env::consts::DLL_PREFIX.to_owned() + "hostile_" + kind + env::consts::DLL_SUFFIX;
            take(&format!("release/{name}"), &folder.join(format!("{kind}.so")));
        }
        build(&["--package=hostile-table", "--features=holes"]);
        let name = env::consts::DLL_PREFIX.to_owned() + "hostile_table" + env::consts::DLL_SUFFIX;
        take(&format!("release/{name}"), &folder.join("holes.so"));
        folder
    })
}

fn build(arguments: &[&str]) {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root().join("tests/hostile-plugins")).args(["build", "--quiet", "--release"]);
    cargo.arg("--target-dir").arg(root().join("target/hostile")).args(arguments);
    let status = cargo.status().unwrap();
    assert!(status.success(), "{cargo:?} failed; `rustup target add wasm32-wasip2` brings what components need");
}

fn take(built: &str, to: &Path) {
    fs::copy(root().join("target/hostile").join(built), to).unwrap();
}

/// The bytes of a file in the folder.
pub fn bytes(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

/// Writes a file into the folder.
pub fn write(name: &str, bytes: &[u8]) {
    fs::write(folder().join(name), bytes).unwrap();
}

/// A file in the folder, pinned to what it is now.
pub fn pinned(name: &str) -> Source {
    Source { plugin: name.to_owned(), sha256: Some(hash_file(&folder().join(name)).unwrap()) }
}

/// A copy named `to` in which every `from` is `by`, which is as long.
pub fn edit(name: &str, to: &str, from: &[u8], by: &[u8]) {
    assert_eq!(from.len(), by.len());
    let mut bytes = bytes(name);
    let mut found = false;
    for start in 0..=bytes.len() - from.len() {
        if bytes[start..].starts_with(from) {
            bytes[start..start + by.len()].copy_from_slice(by);
            found = true;
        }
    }
    assert!(found, "{:?} is not in {name}", String::from_utf8_lossy(from));
    write(to, &bytes);
}

/// A copy that does what is wrong with this number.
pub fn with_mode(name: &str, mode: u32) -> String {
    let (stem, ending) = name.rsplit_once('.').unwrap();
    let to = format!("{stem}-{mode}.{ending}");
    edit(name, &to, b"hostile-mode:000", format!("hostile-mode:{mode:03}").as_bytes());
    to
}

/// A copy of the first `length` bytes.
pub fn cut(name: &str, to: &str, length: usize) {
    write(to, &bytes(name)[..length]);
}
