//! Tells the linker where libtorch lies, so that the binary starts without `LD_LIBRARY_PATH`.

fn main() {
    println!("cargo:rerun-if-env-changed=DEP_METAREWARD_TORCH_LIBTORCH_LIB");
    if let Ok(folder) = std::env::var("DEP_METAREWARD_TORCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg-bins=-Wl,-rpath,{folder}");
    }
    // A binary that was carried to another machine finds the libraries in a folder beside itself.
    println!("cargo:rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/libtorch/lib");
}
