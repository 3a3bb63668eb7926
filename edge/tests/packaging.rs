//! What the packages carry beside the program.
#![allow(clippy::unwrap_used, reason = "a test program")]

use clap::CommandFactory;
use salad_edge::cli::Cli;
use salad_edge::config::Config;
use std::fs;

#[test]
fn the_services_configuration_is_whole_and_stays_inside_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("model.salad"), "x").unwrap();
    let text = include_str!("../packaging/service.toml");
    let file = folder.path().join("edge.toml");
    fs::write(&file, text.replace("/var/lib/salad-edge", folder.path().to_str().unwrap())).unwrap();
    let config = Config::read(&file).unwrap();
    assert!(config.camera.source.is_live() && config.bundle.starts_with(folder.path()));
    assert!(config.event_log.unwrap().starts_with(folder.path()));
    assert!(config.snapshots.unwrap().dir.starts_with(folder.path()));
}

#[test]
fn the_unit_starts_what_the_program_understands_with_the_bundle_that_the_configuration_names() {
    let unit = include_str!("../packaging/salad-edge.service");
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap();
    Cli::command().try_get_matches_from(value("ExecStart").split(' ')).unwrap();
    assert!(include_str!("../packaging/debian/conffiles").contains(value("ExecStart").rsplit(' ').next().unwrap()));
    assert!(value("ExecReload").contains("kill -HUP $MAINPID"));
    let bundle = format!("bundle = \"{}\"", value("ConditionPathExists"));
    assert!(include_str!("../packaging/service.toml").contains(&bundle));
}
