//! Bundles that were cut short, changed, or put together wrongly are refused, on the command line too.

use crate::harness::refuse;
use crate::harness::trained::{edge, unet};
use salad_shared::bundle::Bundle;
use salad_shared::manifest::Form;

#[test]
fn truncated_at_every_64th_byte() {
    let bytes = std::fs::read(&edge().bundle).unwrap();
    for cut in (0..bytes.len()).step_by(64) {
        assert!(Bundle::from_bytes(&bytes[..cut]).is_err(), "cut at {cut} of {}", bytes.len());
    }
}

#[test]
fn every_97th_byte_flipped_in_turn() {
    let mut bytes = std::fs::read(&edge().bundle).unwrap();
    for at in (0..bytes.len()).step_by(97) {
        bytes[at] ^= 0x5A;
        assert!(Bundle::from_bytes(&bytes).is_err(), "byte {at} flipped");
        bytes[at] ^= 0x5A;
    }
}

#[test]
fn the_edge_says_what_is_wrong_and_with_which_file() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(&edge().bundle).unwrap();
    let broken = dir.path().join("broken.salad");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for (content, expected) in [
        (&bytes[..bytes.len() / 2], vec!["broken.salad"]),
        (&bytes[..100], vec!["broken.salad"]),
        (&[], vec!["broken.salad"]),
        (&flipped, vec!["broken.salad"]),
    ] {
        std::fs::write(&broken, content).unwrap();
        for command in ["inspect", "score"] {
            let args = [command, broken.to_str().unwrap(), "picture.png"];
            refuse("salad-edge", &args[..if command == "inspect" { 2 } else { 3 }], &expected);
        }
    }
    refuse("salad-edge", &["inspect", "/no/such.salad"], &["/no/such.salad"]);
    // Another file's content is not shown.
    std::fs::write(&broken, "\u{1b}[31msecret words of another file".repeat(100)).unwrap();
    let refused = refuse("salad-edge", &["inspect", broken.to_str().unwrap()], &["not a tar archive"]);
    assert!(!refused.stderr.contains("secret"), "{}", refused.stderr);
}

#[test]
fn the_encoder_of_another_network_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mixed.salad");
    let (ours, other) = (Bundle::read(&edge().bundle).unwrap(), Bundle::read(&unet().bundle).unwrap());
    let mut smaller = ours.clone();
    smaller.manifest.input.width = 32;
    smaller.manifest.input.height = 32;
    let mut nonsense = ours.clone();
    nonsense.encoder_f32 = b"not a graph".to_vec();
    nonsense.encoder_int8 = vec![0xFF; 4096];
    for (bundle, expected) in [(&smaller, "encoder"), (&nonsense, "encoder")] {
        bundle.write(&path).unwrap();
        for form in [Form::F32, Form::Int8] {
            let picture = edge().data.join("test/good/000.png");
            let args = ["score", path.to_str().unwrap(), picture.to_str().unwrap(), "--form", &form.to_string()];
            refuse("salad-edge", &args, &["mixed.salad", expected]);
        }
    }
    // The same input and embedding, so that nothing tells the graphs apart but their weights: that is a valid bundle.
    let mut swapped = ours;
    swapped.encoder_f32 = other.encoder_f32;
    assert!(swapped.to_bytes().is_ok());
}
