//! Compiles what tch does not hand through of libtorch (src/native), and puts libtorch's folder on the run path of the
//! trainer and its tests, so that `cargo run` and `cargo test` need no environment. RUNPATH rather than RPATH:
//! LD_LIBRARY_PATH still wins, which is how a binary meets another libtorch.

use std::path::PathBuf;

fn main() {
    let sources = ["src/native/native.cpp", "src/native/norm.cpp", "src/native/interleave.cpp"];
    for file in sources.iter().chain(&["build.rs", "src/native/native.h"]) {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    let Some(lib) = std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        return println!("cargo:warning=torch-sys names no libtorch: run `make setup`");
    };
    let lib = lib.canonicalize().unwrap_or(lib);
    let include = lib.join("../include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .flag("-fopenmp")
        // libtorch's headers warn.
        .warnings(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .files(sources)
        .compile("salad_native");
    println!("cargo:rustc-link-lib=gomp");
    println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{}", lib.display());
}
