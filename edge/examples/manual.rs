//! Writes the manual pages and the shells' completions that the packages carry: `manual OUT` makes OUT/man1/*.1,
//! OUT/salad-edge.bash, OUT/_salad-edge (zsh) and OUT/salad-edge.fish.

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use salad_edge::cli::Cli;
use std::fs;
use std::path::PathBuf;

fn main() -> anyhow::Result<()> {
    let out: PathBuf = std::env::args_os().nth(1).context("usage: manual OUT")?.into();
    let pages = out.join("man1");
    fs::create_dir_all(&pages)?;
    let mut command = Cli::command().name("salad-edge");
    clap_mangen::generate_to(command.clone(), &pages)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "salad-edge", &out)?;
    }
    Ok(())
}
