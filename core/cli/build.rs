//! Tells the linker where libtorch lies, so that the binary starts without `LD_LIBRARY_PATH`, and takes the templates of
//! `plugin new` into the binary.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-env-changed=DEP_METAREWARD_TORCH_LIBTORCH_LIB");
    if let Ok(folder) = env::var("DEP_METAREWARD_TORCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg-bins=-Wl,-rpath,{folder}");
    }
    // A binary that was carried to another machine finds the libraries in a folder beside itself.
    println!("cargo:rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/libtorch/lib");

    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut code = fs::File::create(out.join("templates.rs"))?;
    embed(&mut code, "FILES", &here.join("templates"))?;
    embed(&mut code, "WIT", &here.join("../../plugins/wit/since-v0.1.0"))?;
    Ok(())
}

/// Writes a constant of (path below `root`, text) of all files in it, sorted.
fn embed(code: &mut fs::File, name: &str, root: &Path) -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let own = folder == root && name == "README.md";
            if own || name.starts_with('.') || ["__pycache__", "node_modules"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    writeln!(code, "const {name}: &[(&str, &str)] = &[")?;
    for path in files {
        let below = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
        writeln!(code, "    ({below:?}, include_str!({:?})),", path.display().to_string())?;
    }
    writeln!(code, "];")?;
    Ok(())
}
