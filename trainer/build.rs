//! Puts libtorch's folder on the run path of the trainer and its tests, so that `cargo run` and `cargo test` need no
//! environment. RUNPATH rather than RPATH: LD_LIBRARY_PATH still wins, which is how a binary meets another libtorch.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    if let Some(lib) = std::env::var_os("DEP_TCH_LIBTORCH_LIB") {
        let lib = std::path::PathBuf::from(lib);
        let lib = lib.canonicalize().unwrap_or(lib);
        println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{}", lib.display());
    }
}
