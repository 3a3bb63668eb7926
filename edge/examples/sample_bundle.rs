//! Writes the tests' tiny bundle to a file, for scripts that need some bundle and no trainer: `sample_bundle FILE.salad`.

#![allow(clippy::unwrap_used, reason = "made of the tests' support")]

#[path = "../tests/support/mod.rs"]
mod support;

fn main() -> anyhow::Result<()> {
    let path = std::env::args_os().nth(1).ok_or_else(|| anyhow::anyhow!("usage: sample_bundle FILE.salad"))?;
    Ok(support::bundle().write(path.as_ref())?)
}
