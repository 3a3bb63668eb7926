//! A frame in int8 takes no memory: not for the encoder, the search among prototypes or the decision. (Decoding a JPEG does,
//! for the frame's own pixels and for nothing else; and resizing, in the library that does it: its coefficients, some
//! kilobytes.)
#![allow(clippy::unwrap_used, reason = "a test program")]

use salad_edge::decision::{Decision, DecisionParams};
use salad_edge::model::{FormChoice, Model};
use salad_shared::bank::FloatBank;
use salad_shared::decoder::Decoder;
use salad_shared::preprocess::InputSpec;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;
use support::quantized::{SIDE, shape_of_every_node, with_every_node};

mod support;

/// Counts what this thread asks for.
struct Counting;

thread_local!(static ASKED: Cell<u64> = const { Cell::new(0) });

#[allow(unsafe_code, reason = "an allocator; all it does is to count and to pass on")]
// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_smaller_picture_takes_memory_for_its_pixels_only() {
    let jpeg = support::frame(320, [200, 10, 10]).to_jpeg(85);
    let mut decoder = Decoder::covering(128, 128);
    for round in 0..3 {
        ASKED.set(0);
        assert_eq!(decoder.decode(&jpeg).unwrap().frame.width(), 160);
        assert!(round == 0 || ASKED.get() == 1, "round {round} asked {} times", ASKED.get());
    }
}

#[test]
fn a_frame_takes_no_memory_after_the_first() {
    for places in [false, true] {
        let shape = shape_of_every_node(places);
        let mut bundle = support::bundle();
        bundle.manifest.input = InputSpec { width: SIDE as u32, height: SIDE as u32, channels: 3 };
        bundle.manifest.encoder.embedding_dim = shape[1] as u32;
        bundle.manifest.patches = places.then(|| support::grid(6, 4));
        bundle.encoder_int8 = with_every_node(1, 3, places).finish(shape, 3);
        let rows = ndarray::Array2::from_shape_fn((50, shape[1] as usize), |(i, j)| ((i * 7 + j) % 11) as f32 / 20.0);
        bundle.bank_int8 = FloatBank::new(rows).quantize();
        let model = Model::load(&bundle, FormChoice::Int8).unwrap();
        assert_ne!(model.engine(), "tract");
        let mut scorer = model.scorer().unwrap();
        let second = Duration::from_secs(1);
        let mut decision = Decision::new(DecisionParams {
            threshold: 0.1,
            release_threshold: 0.1,
            window_frames: 5,
            trigger_frames: 3,
            cooldown: second,
            update_interval: second,
            max_gap: second,
        });
        let frames = [[200, 10, 10], [148, 148, 148], [1, 2, 3]].map(|colour| support::frame(SIDE as u32, colour));
        for round in 0..3 {
            ASKED.set(0);
            for (i, frame) in frames.iter().enumerate() {
                let score = scorer.score(frame).unwrap().score;
                decision.step(score, second * (round * 3 + i as u32));
            }
            assert!(round == 0 || ASKED.get() == 0, "round {round} of places {places} asked {} times", ASKED.get());
        }
    }
}
