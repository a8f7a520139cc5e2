//! Checks libtorch's version, compiles `shim/`, and tells the linker where libtorch will be at run time.
//!
//! A build script's linker arguments reach only its own crate's binaries and tests. So the folder is also passed on as
//! metadata: a crate that depends on this one reads `DEP_METAREWARD_TORCH_LIBTORCH_LIB` in its build script and emits
//! the same `-Wl,-rpath` argument.

use std::{env, fs, path::Path, process};

const WANTED: &str = "2.11";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let Some(folder) = env::var_os("DEP_TCH_LIBTORCH_LIB") else {
        fail("torch-sys did not say where libtorch is: set LIBTORCH to its folder, or run `cargo setup`");
    };
    let folder = Path::new(&folder);
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let root = folder.parent().unwrap_or(Path::new("/"));
    let header = root.join("include/torch/headeronly/version.h");
    println!("cargo:rerun-if-changed={}", header.display());
    let text = match fs::read_to_string(&header) {
        Ok(text) => text,
        Err(error) => {
            fail(&format!("libtorch in {} has no readable torch/headeronly/version.h: {error}", root.display()))
        }
    };
    let part = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(&format!("#define TORCH_VERSION_{name} ")))
            .map(|value| value.trim().to_owned())
            .unwrap_or_default()
    };
    let version = format!("{}.{}", part("MAJOR"), part("MINOR"));
    if version == "." {
        fail(&format!(
            "{} holds no libtorch headers: set LIBTORCH to its folder, or run `cargo setup`",
            root.display()
        ));
    }
    if version != WANTED {
        fail(&format!(
            "libtorch in {} is version {version}; this crate needs {WANTED}: point LIBTORCH at one, or unset it and run \
             `cargo setup`",
            root.display()
        ));
    }
    println!("cargo:rerun-if-changed=shim");
    cc::Build::new()
        .cpp(true)
        .pic(true)
        .flag("-std=c++17")
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        // libtorch's headers are not ours to mend.
        .warnings(false)
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        // Declarations of Gloo, whose headers do not come with libtorch.
        .include("shim/gloo")
        .define("USE_C10D_GLOO", None)
        .file("shim/attention.cpp")
        .file("shim/group.cpp")
        .file("shim/optimizer.cpp")
        .compile("metareward_torch_shim");
    println!("cargo:rustc-env=METAREWARD_LIBTORCH_VERSION={version}.{}", part("PATCH"));
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.display());
    println!("cargo:libtorch_lib={}", folder.display());
}

fn fail(message: &str) -> ! {
    println!("cargo:warning={message}");
    eprintln!("{message}");
    process::exit(1)
}
