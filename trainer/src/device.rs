//! Where tensors live, and the one program for CPU and CUDA.
#![allow(unsafe_code)] // Loading libtorch_cuda.so runs its constructors.

use std::os::unix::process::CommandExt;
use tch::{Cuda, Device};

/// Settings that libgomp and malloc read before `main`: threads that wait do not spin, which on a busy machine costs
/// several times over, and the large blocks of each step are kept rather than given back and faulted in again.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("OMP_WAIT_POLICY", "passive"),
    ("MALLOC_MMAP_THRESHOLD_", "2000000000"),
    ("MALLOC_TRIM_THRESHOLD_", "4000000000"),
];

/// Starts the program again with settings that libgomp and malloc read before `main`, unless they are there already; what
/// the user has set stays.
pub fn settle_environment() {
    let missing: Vec<_> = ENVIRONMENT.into_iter().filter(|(key, _)| std::env::var_os(key).is_none()).collect();
    if missing.is_empty() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let e = std::process::Command::new(program).args(std::env::args_os().skip(1)).envs(missing).exec();
        log::debug!("training goes on without {ENVIRONMENT:?}: {e}");
    }
}

/// Loads libtorch's CUDA half where it is installed. To be called before anything else of libtorch: its first question
/// about CUDA is remembered.
pub fn load_cuda() -> bool {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: the library is libtorch's own, and its constructors only register kernels; it stays loaded for good.
    match unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) } {
        Ok(library) => {
            std::mem::forget(library);
            true
        }
        Err(e) => {
            log::debug!("no CUDA: {e}");
            false
        }
    }
}

/// The device that `name` asks for: `auto`, `cpu`, `cuda` or `cuda:N`.
pub fn parse(name: &str) -> Result<Device, String> {
    let number = match name {
        "auto" => return Ok(Device::cuda_if_available()),
        "cpu" => return Ok(Device::Cpu),
        "cuda" => 0,
        other => {
            let number = other.strip_prefix("cuda:").and_then(|n| n.parse::<usize>().ok());
            number.ok_or_else(|| format!("train.device = {other:?}: has to be auto, cpu, cuda or cuda:N"))?
        }
    };
    let found = Cuda::device_count();
    if (number as i64) < found {
        Ok(Device::Cuda(number))
    } else {
        Err(format!(
            "train.device = {name:?}: libtorch sees {found} CUDA devices; install its CUDA set (LIBTORCH_KIND=cuda make \
             setup) and a driver, or use train.device = \"cpu\""
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_understood() {
        assert_eq!(parse("cpu"), Ok(Device::Cpu));
        assert!(parse("gpu").unwrap_err().contains("train.device"));
        assert!(parse("cuda:99").unwrap_err().contains("cuda:99"));
    }
}
