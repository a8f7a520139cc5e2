//! The plugins of this repository as components and as dynamic libraries.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::root;

/// The target that plugins are built for as components.
pub const COMPONENT_TARGET: &str = "wasm32-wasip2";

/// The files of one plugin crate.
#[derive(Clone, Debug)]
pub struct Forms {
    /// The crate, for example `ranker-elo`.
    pub package: String,
    /// The component.
    pub component: PathBuf,
    /// The dynamic library.
    pub library: PathBuf,
}

/// Every plugin crate of `plugins/` in both forms, built once per test process in release, in `target/forms`.
///
/// # Panics
/// When they do not build.
pub fn all() -> &'static [Forms] {
    static FORMS: OnceLock<Vec<Forms>> = OnceLock::new();
    FORMS.get_or_init(|| {
        let packages: Vec<String> = fs::read_dir(root().join("plugins"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|folder| {
                let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
                manifest.contains("cdylib")
            })
            .map(|folder| folder.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        let mut packages = packages;
        packages.sort();
        let target = root().join("target/forms");
        build(&packages, &target, Some(COMPONENT_TARGET));
        build(&packages, &target, None);
        let file = |package: &str| package.replace('-', "_");
        packages
            .iter()
            .map(|package| Forms {
                package: package.clone(),
                component: target.join(COMPONENT_TARGET).join("release").join(format!("{}.wasm", file(package))),
                library: target.join("release").join(format!(
                    "{}{}{}",
                    env::consts::DLL_PREFIX,
                    file(package),
                    env::consts::DLL_SUFFIX
                )),
            })
            .collect()
    })
}

fn build(packages: &[String], target: &Path, triple: Option<&str>) {
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(root()).args(["build", "--quiet", "--release", "--lib", "--target-dir"]).arg(target);
    build.args(packages.iter().flat_map(|package| ["--package", package]));
    if let Some(triple) = triple {
        build.args(["--target", triple]);
    }
    let hint = "`cargo setup` adds what is missing, for example the target wasm32-wasip2";
    assert!(build.status().unwrap().success(), "the plugins do not build for {triple:?}; {hint}");
}

/// The forms by package.
pub fn by_package() -> BTreeMap<&'static str, &'static Forms> {
    all().iter().map(|forms| (forms.package.as_str(), forms)).collect()
}
