//! Products of int8 rows with an int16 query, in whole numbers: the same on every processor.
#![allow(unsafe_code, reason = "processor instructions, chosen when the program runs")]

/// The product of each row with `query`. `rows` has as many rows of the query's length as `out` has places; no product may
/// exceed 32 bits.
///
/// # Panics
/// When the lengths do not fit.
pub fn rows(rows: &[i8], query: &[i16], out: &mut [i32]) {
    assert_eq!(Some(rows.len()), query.len().checked_mul(out.len()), "rows of another length");
    #[cfg(target_arch = "x86_64")]
    {
        let avx512 = is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        if avx512 {
            // SAFETY: the processor has it, and the lengths were compared.
            return unsafe { x86::avx512(rows, query, out) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has it, and the lengths were compared.
            return unsafe { x86::avx2(rows, query, out) };
        }
        if is_x86_feature_detected!("sse4.1") {
            // SAFETY: the processor has it, and the lengths were compared.
            return unsafe { x86::sse41(rows, query, out) };
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        // SAFETY: the lengths were compared.
        unsafe { arm::neon(rows, query, out) }
    }
    #[cfg(not(target_arch = "aarch64"))]
    portable(rows, query, out);
}

/// Rows that are worked on side by side.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const ROWS: usize = 4;

#[cfg(any(not(target_arch = "aarch64"), test))]
fn portable(rows: &[i8], query: &[i16], out: &mut [i32]) {
    for (out, row) in out.iter_mut().zip(rows.chunks_exact(query.len().max(1))) {
        *out = product(row, query);
    }
}

#[inline(always)]
fn product(row: &[i8], query: &[i16]) -> i32 {
    row.iter().zip(query).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{ROWS, product};
    use std::arch::x86_64::*;

    /// How far ahead of the rows that are worked on memory is asked for, bytes.
    const AHEAD: usize = 8192;

    /// # Safety
    /// `rows` has `out.len()` rows of `query.len()`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    pub unsafe fn avx512(rows: &[i8], query: &[i16], out: &mut [i32]) {
        let dim = query.len();
        let rest = (1_u32 << (dim % 32)).wrapping_sub(1);
        let (blocks, last) = out.as_chunks_mut::<ROWS>();
        let whole = blocks.len() * ROWS;
        for (number, out) in blocks.iter_mut().enumerate() {
            // SAFETY: the caller's; the last columns are read under a mask.
            unsafe {
                let first = rows.as_ptr().add(number * ROWS * dim);
                for line in (0..ROWS * dim).step_by(64) {
                    _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(AHEAD + line));
                }
                let mut sums = [_mm512_setzero_si512(); ROWS];
                for at in (0..dim / 32 * 32).step_by(32) {
                    let q = _mm512_loadu_si512(query.as_ptr().add(at).cast());
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let row = _mm256_loadu_si256(first.add(r * dim + at).cast());
                        *sum = _mm512_dpwssd_epi32(*sum, _mm512_cvtepi8_epi16(row), q);
                    }
                }
                if rest != 0 {
                    let at = dim / 32 * 32;
                    let q = _mm512_maskz_loadu_epi16(rest, query.as_ptr().add(at));
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let row = _mm256_maskz_loadu_epi8(rest, first.add(r * dim + at));
                        *sum = _mm512_dpwssd_epi32(*sum, _mm512_cvtepi8_epi16(row), q);
                    }
                }
                _mm_storeu_si128(out.as_mut_ptr().cast(), totals(sums));
            }
        }
        for (out, row) in last.iter_mut().zip(rows[whole * dim..].chunks_exact(dim.max(1))) {
            *out = product(row, query);
        }
    }

    /// The total of each, which together take hardly more steps than one.
    #[target_feature(enable = "avx2,avx512f")]
    fn totals(sums: [__m512i; ROWS]) -> __m128i {
        let halves = sums.map(|sum| _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum)));
        let [a, b, c, d] = halves;
        let quarters = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
        _mm_add_epi32(_mm256_castsi256_si128(quarters), _mm256_extracti128_si256::<1>(quarters))
    }

    /// # Safety
    /// `rows` has `out.len()` rows of `query.len()`.
    #[target_feature(enable = "avx2")]
    pub unsafe fn avx2(rows: &[i8], query: &[i16], out: &mut [i32]) {
        let whole = query.len() / 16 * 16;
        for (out, row) in out.iter_mut().zip(rows.chunks_exact(query.len().max(1))) {
            // SAFETY: `row` and `query` have `whole` values.
            unsafe {
                let mut sums = _mm256_setzero_si256();
                for at in (0..whole).step_by(16) {
                    let q = _mm256_loadu_si256(query.as_ptr().add(at).cast());
                    let bytes = _mm256_cvtepi8_epi16(_mm_loadu_si128(row.as_ptr().add(at).cast()));
                    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(bytes, q));
                }
                let half = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
                *out = total(half) + product(&row[whole..], &query[whole..]);
            }
        }
    }

    /// # Safety
    /// `rows` has `out.len()` rows of `query.len()`.
    #[target_feature(enable = "sse4.1")]
    pub unsafe fn sse41(rows: &[i8], query: &[i16], out: &mut [i32]) {
        let whole = query.len() / 8 * 8;
        for (out, row) in out.iter_mut().zip(rows.chunks_exact(query.len().max(1))) {
            // SAFETY: `row` and `query` have `whole` values.
            unsafe {
                let mut sums = _mm_setzero_si128();
                for at in (0..whole).step_by(8) {
                    let q = _mm_loadu_si128(query.as_ptr().add(at).cast());
                    let bytes = _mm_cvtepi8_epi16(_mm_loadl_epi64(row.as_ptr().add(at).cast()));
                    sums = _mm_add_epi32(sums, _mm_madd_epi16(bytes, q));
                }
                *out = total(sums) + product(&row[whole..], &query[whole..]);
            }
        }
    }

    #[target_feature(enable = "sse2")]
    fn total(sums: __m128i) -> i32 {
        let pair = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b1110>(sums));
        _mm_cvtsi128_si32(_mm_add_epi32(pair, _mm_shuffle_epi32::<1>(pair)))
    }
}

/// NEON belongs to every processor of this architecture.
#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{ROWS, product};
    use std::arch::aarch64::*;

    /// # Safety
    /// `rows` has `out.len()` rows of `query.len()`.
    pub unsafe fn neon(rows: &[i8], query: &[i16], out: &mut [i32]) {
        let dim = query.len();
        let whole = dim / 16 * 16;
        let (blocks, last) = out.as_chunks_mut::<ROWS>();
        let before_last = blocks.len() * ROWS * dim;
        for (out, rows) in blocks.iter_mut().zip(rows.chunks_exact((ROWS * dim).max(1))) {
            // SAFETY: each row and `query` have `whole` values.
            unsafe {
                let mut sums = [vdupq_n_s32(0); ROWS];
                for at in (0..whole).step_by(16) {
                    let [q, q_high] = [0, 8].map(|half| vld1q_s16(query.as_ptr().add(at + half)));
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let bytes = vld1q_s8(rows.as_ptr().add(r * dim + at));
                        let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
                        *sum = vmlal_s16(*sum, vget_low_s16(low), vget_low_s16(q));
                        *sum = vmlal_high_s16(*sum, low, q);
                        *sum = vmlal_s16(*sum, vget_low_s16(high), vget_low_s16(q_high));
                        *sum = vmlal_high_s16(*sum, high, q_high);
                    }
                }
                let [a, b, c, d] = sums;
                vst1q_s32(out.as_mut_ptr(), vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)));
            }
            if whole < dim {
                for (out, row) in out.iter_mut().zip(rows.chunks_exact(dim)) {
                    *out += product(&row[whole..], &query[whole..]);
                }
            }
        }
        for (out, row) in last.iter_mut().zip(rows[before_last..].chunks_exact(dim.max(1))) {
            *out = product(row, query);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_gives_the_same_integers() {
        for (count, dim) in [(1, 1), (3, 31), (4, 32), (9, 33), (5, 128), (8, 200), (13, 257)] {
            let rows_of: Vec<i8> = (0..count * dim).map(|i| ((i * 37 + 11) % 255) as i8).collect();
            let most = (i32::MAX as usize / (127 * dim)).min(32_767) as i32;
            let query: Vec<i16> = (0..dim).map(|i| ((i as i32 * 7919) % (2 * most + 1) - most) as i16).collect();
            let (mut expected, mut found) = (vec![0; count], vec![0; count]);
            portable(&rows_of, &query, &mut expected);
            rows(&rows_of, &query, &mut found);
            assert_eq!(found, expected, "{count} x {dim}");
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has it, and the lengths fit.
                unsafe { x86::avx2(&rows_of, &query, &mut found) };
                assert_eq!(found, expected, "{count} x {dim}");
            }
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("sse4.1") {
                found.fill(0);
                // SAFETY: the processor has it, and the lengths fit.
                unsafe { x86::sse41(&rows_of, &query, &mut found) };
                assert_eq!(found, expected, "{count} x {dim}");
            }
        }
    }
}
