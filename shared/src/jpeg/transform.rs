//! Blocks of coefficients back to pixels, at 8, 4, 2 or 1 of them for each 8 of the picture, in each direction on its own.

/// cos(n pi / 16) for n from 0 to 8.
const COSINES: [f32; 9] =
    [1.0, 0.980_785_25, 0.923_879_5, 0.831_469_6, 0.707_106_77, 0.555_570_24, 0.382_683_43, 0.195_090_32, 0.0];

/// For `N` pixels: what each of the first `N` coefficients adds to each pixel.
const fn waves<const N: usize>() -> [[f32; N]; N] {
    let mut waves = [[0.0; N]; N];
    let mut wave = 0;
    while wave < N {
        let mut pixel = 0;
        while pixel < N {
            let angle = (2 * pixel + 1) * wave * (8 / N) % 32;
            let angle = if angle > 16 { 32 - angle } else { angle };
            let cosine = if angle > 8 { -COSINES[16 - angle] } else { COSINES[angle] };
            waves[wave][pixel] = cosine * if wave == 0 { COSINES[4] / 2.0 } else { 0.5 };
            pixel += 1;
        }
        wave += 1;
    }
    waves
}

/// Turns a block, rows of 8 coefficients of which only the first `used` rows and columns are not zero, into pixels about 0
/// at the start of `out`, whose rows are `stride` apart.
pub(super) type Transform = fn(block: &[f32; 64], used: usize, out: &mut [f32], stride: usize);

/// How many rows and columns are used where the last coefficient that is not zero has this place in the file's order.
pub(super) fn used(last: usize) -> usize {
    // The diagonals have 1, 2, 3 and so on.
    const DIAGONALS: [u8; 64] = {
        let mut diagonals = [8; 64];
        let (mut place, mut diagonal) = (0, 1);
        while diagonal < 8 {
            let mut length = 0;
            while length < diagonal {
                diagonals[place] = diagonal;
                (place, length) = (place + 1, length + 1);
            }
            diagonal += 1;
        }
        diagonals
    };
    DIAGONALS.get(last).map_or(8, |&used| used.into())
}

/// The transform to blocks of `width` x `height` pixels, where there is one.
pub(super) fn transform(width: usize, height: usize) -> Option<Transform> {
    Some(match (width, height) {
        (1, 1) => inverse::<1, 1>,
        (1, 2) => inverse::<1, 2>,
        (1, 4) => inverse::<1, 4>,
        (2, 1) => inverse::<2, 1>,
        (2, 2) => inverse::<2, 2>,
        (2, 4) => inverse::<2, 4>,
        (2, 8) => inverse::<2, 8>,
        (4, 1) => inverse::<4, 1>,
        (4, 2) => inverse::<4, 2>,
        (4, 4) => inverse::<4, 4>,
        (4, 8) => inverse::<4, 8>,
        (8, 2) => inverse::<8, 2>,
        (8, 4) => inverse::<8, 4>,
        (8, 8) => inverse::<8, 8>,
        _ => return None,
    })
}

/// The first coefficients are what a picture of so many pixels fewer has itself, but for a factor. Most blocks have few: a
/// number of them that the compiler knows becomes code without loops.
fn inverse<const W: usize, const H: usize>(block: &[f32; 64], used: usize, out: &mut [f32], stride: usize) {
    match used {
        0..=1 => inverse_of::<W, H, 1>(block, out, stride),
        2 => inverse_of::<W, H, 2>(block, out, stride),
        3..=4 => inverse_of::<W, H, 4>(block, out, stride),
        _ => inverse_of::<W, H, 8>(block, out, stride),
    }
}

#[inline(always)]
fn inverse_of<const W: usize, const H: usize, const USED: usize>(block: &[f32; 64], out: &mut [f32], stride: usize) {
    let rows: [[f32; W]; H] = [0; H].map({
        let mut rows = block.chunks_exact(8);
        move |_| rows.next().and_then(|row| row.first_chunk()).copied().unwrap_or([0.0; W])
    });
    let columns = transposed(&sums::<W, H, USED>(&rows));
    let pixels = transposed(&sums::<H, W, USED>(&columns));
    for (y, row) in pixels.iter().enumerate() {
        if let Some(place) = out.get_mut(y * stride..).and_then(|out| out.first_chunk_mut()) {
            *place = *row;
        }
    }
}

/// One direction, for `L` lines beside each other: from the first `USED` coefficients to pixels.
#[inline(always)]
fn sums<const L: usize, const N: usize, const USED: usize>(coefficients: &[[f32; L]; N]) -> [[f32; L]; N] {
    let waves = const { waves::<N>() };
    let mut pixels = [[0.0; L]; N];
    for pixel in 0..N.div_ceil(2) {
        let total = |first: usize| {
            let used = N.min(USED);
            if first >= used {
                return [0.0; L];
            }
            let mut sums = coefficients[first].map(|coefficient| waves[first][pixel] * coefficient);
            for wave in (first + 2..used).step_by(2) {
                let share = waves[wave][pixel];
                sums.iter_mut().zip(&coefficients[wave]).for_each(|(sum, coefficient)| *sum += share * coefficient);
            }
            sums
        };
        // Waves with even numbers are the same from both ends, the others have the opposite sign.
        let (even, odd) = (total(0), total(1));
        for lane in 0..L {
            pixels[N - 1 - pixel][lane] = even[lane] - odd[lane];
            pixels[pixel][lane] = even[lane] + odd[lane];
        }
    }
    pixels
}

#[inline(always)]
fn transposed<const W: usize, const H: usize>(rows: &[[f32; W]; H]) -> [[f32; H]; W] {
    let mut columns = [[0.0; H]; W];
    for (y, row) in rows.iter().enumerate() {
        for (x, value) in row.iter().enumerate() {
            columns[x][y] = *value;
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    #[test]
    fn blocks_are_what_the_formula_says() {
        let mut random = fastrand::Rng::with_seed(1);
        for last in [0, 1, 5, 30, 63] {
            let used = used(last);
            let inside = |i: usize| i / 8 < used && i % 8 < used;
            let block: [f32; 64] = std::array::from_fn(|i| if inside(i) { random.f32() * 200.0 - 100.0 } else { 0.0 });
            for (width, height) in [(1, 1), (2, 2), (4, 4), (8, 8), (2, 4), (8, 4), (4, 8), (1, 2)] {
                let mut out = vec![0.0; 10 * height];
                transform(width, height).unwrap()(&block, used, &mut out, 10);
                // ITU-T T.81, A.3.3, with as many waves as there are pixels.
                let share = |wave: usize, pixel: usize, pixels: usize| {
                    let scale = if wave == 0 { 0.5_f64.sqrt() } else { 1.0 };
                    scale / 2.0 * ((2 * pixel + 1) as f64 * wave as f64 * PI / (2 * pixels) as f64).cos()
                };
                for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
                    let of =
                        |u: usize, v: usize| f64::from(block[v * 8 + u]) * share(u, x, width) * share(v, y, height);
                    let expected: f64 =
                        (0..width).flat_map(|u| (0..height).map(move |v| (u, v))).map(|(u, v)| of(u, v)).sum();
                    assert!(
                        (f64::from(out[y * 10 + x]) - expected).abs() < 1e-3,
                        "{width} x {height}, {last}: {x} {y}"
                    );
                }
            }
        }
    }

    #[test]
    fn there_are_no_others() {
        assert!(transform(8, 1).is_none() && transform(16, 8).is_none() && transform(3, 3).is_none());
    }
}
