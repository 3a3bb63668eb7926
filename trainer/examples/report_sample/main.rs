//! Writes reports of made-up runs, to look at while working on the page:
//! `cargo run --release -p salad-trainer --example report_sample -- FOLDER`

mod sample;

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).context("name the folder to write the pages to")?;
    let folder = std::path::Path::new(&folder);
    for (name, data) in [("full.html", sample::full()), ("normal-only.html", sample::without_test_set())] {
        let path = folder.join(name);
        salad_shared::atomic::write(&path, salad_trainer::report::render(&data).as_bytes())
            .with_context(|| format!("{}: cannot be written", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}
