//! Fuzz target: whatever the bytes are, reading a bundle does not panic, and what it accepts it would write again.
#![no_main]

mod container;
mod seeds;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use salad_shared::bundle::Bundle;

/// Most that one part may grow to, bytes.
const MAX_PART: usize = 4096;

fuzz_target!(
    init: {
        // libFuzzer calls this before it reads its folders.
        let folder = std::env::var_os("SEEDS").expect("SEEDS names the folder of the first inputs");
        seeds::write(folder.as_ref()).expect("the first inputs can be written");
    },
    |bytes: &[u8]| read_and_write(bytes)
);

// Bytes changed at random end at the hashes. So three times in four one part is changed and the container made good
// again: manifest, tensors and calibration are then what is fuzzed.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed % 4 != 0
        && let Some(changed) = container::take_apart(&data[..size]).and_then(|parts| change(parts, seed / 4))
        && changed.len() <= max_size
    {
        data[..changed.len()].copy_from_slice(&changed);
        return changed.len();
    }
    fuzzer_mutate(data, size, max_size)
});

fn read_and_write(bytes: &[u8]) {
    if let Ok(bundle) = Bundle::from_bytes(bytes) {
        let again = bundle.to_bytes().expect("a bundle that was read can be written");
        assert!(again == bytes, "what was read would be written differently");
    }
}

/// One part changed, and now and then left out, doubled or exchanged with the next.
fn change(mut parts: Vec<container::Part>, seed: u32) -> Option<Vec<u8>> {
    let count = parts.len();
    let chosen = seed as usize / 64 % count;
    match seed % 64 {
        0 => drop(parts.remove(chosen)),
        1 => parts.insert(chosen, parts[chosen].clone()),
        2 => parts.swap(chosen, (chosen + 1) % count),
        _ => {
            let content = &mut parts[chosen].1;
            let size = content.len();
            let most = (size + 64).min(size.max(MAX_PART));
            content.resize(most, 0);
            let size = fuzzer_mutate(content, size, most);
            content.truncate(size);
        }
    }
    container::put_together(&parts)
}
