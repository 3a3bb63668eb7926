//! x86-64: dot products of four bytes in one instruction where there is one, else pairs of products.
#![allow(unsafe_code, reason = "processor instructions; Window::new has checked what is read")]

use super::{LANES, Path, Quad, Registers, Sums};
use crate::integer::conv::{Layer, run_layer};
use std::arch::x86_64::*;

pub fn is_available(path: Path) -> bool {
    let avx2 = is_x86_feature_detected!("avx2");
    match path {
        Path::Avx512 => {
            avx2 && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
        }
        Path::AvxVnni => avx2 && is_x86_feature_detected!("avxvnni"),
        Path::Avx2 => avx2,
        _ => false,
    }
}

/// Runs a layer on an available path.
pub fn run(path: Path, layer: &Layer, input: &[u8], output: &mut [u8]) {
    // SAFETY: is_available, which the caller asked.
    unsafe {
        match path {
            Path::Avx512 => run_avx512(layer, input, output),
            Path::AvxVnni => run_avx_vnni(layer, input, output),
            _ => run_avx2(layer, input, output),
        }
    }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn run_avx512(layer: &Layer, input: &[u8], output: &mut [u8]) {
    // 24 accumulators at most, the weights, and a pixel's bytes: of 32 registers.
    run_layer::<Avx512, 14, 12, 6>(layer, input, output);
}

#[target_feature(enable = "avx2,avxvnni")]
fn run_avx_vnni(layer: &Layer, input: &[u8], output: &mut [u8]) {
    // Of 16 registers.
    run_layer::<Halves<Vnni>, 6, 3, 1>(layer, input, output);
}

#[target_feature(enable = "avx2")]
fn run_avx2(layer: &Layer, input: &[u8], output: &mut [u8]) {
    run_layer::<Halves<Pairs>, 5, 2, 1>(layer, input, output);
}

/// Sixteen channels in a register of 512 bits.
struct Avx512;

impl Registers for Avx512 {
    type Sums = __m512i;
    type Weights = __m512i;
    type Bytes = __m512i;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: the caller's, here and below.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn weights(quad: *const Quad) -> __m512i {
        unsafe { _mm512_load_si512(quad.cast()) }
    }

    #[inline(always)]
    unsafe fn bytes(at: *const u8) -> __m512i {
        unsafe { _mm512_set1_epi32(at.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512i, bytes: __m512i, weights: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, bytes, weights) }
    }

    #[inline(always)]
    unsafe fn store(sums: __m512i) -> Sums {
        let mut out = Sums([0; LANES]);
        unsafe { _mm512_store_si512(out.0.as_mut_ptr().cast(), sums) };
        out
    }
}

/// Sixteen channels in two registers of 256 bits.
struct Halves<D>(D);

/// Adds products of four bytes each to eight sums.
trait Dot {
    /// # Safety
    /// The processor has AVX2 and what the implementation says.
    unsafe fn add(sums: __m256i, bytes: __m256i, weights: __m256i) -> __m256i;
}

/// AVX-VNNI.
struct Vnni;

impl Dot for Vnni {
    #[inline(always)]
    unsafe fn add(sums: __m256i, bytes: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_dpbusd_avx_epi32(sums, bytes, weights) }
    }
}

/// AVX2 alone: products of pairs in 16 bits. The pixel gives its sign to the weight, so that one factor is unsigned; with
/// weights of -127 to 127 no pair exceeds 2 x 128 x 127, which 16 bits hold.
struct Pairs;

impl Dot for Pairs {
    #[inline(always)]
    unsafe fn add(sums: __m256i, bytes: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the caller's.
        unsafe {
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(bytes), _mm256_sign_epi8(weights, bytes));
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
}

impl<D: Dot> Registers for Halves<D> {
    type Sums = [__m256i; 2];
    type Weights = [__m256i; 2];
    type Bytes = __m256i;

    #[inline(always)]
    unsafe fn zero() -> [__m256i; 2] {
        // SAFETY: the caller's, here and below.
        unsafe { [_mm256_setzero_si256(); 2] }
    }

    #[inline(always)]
    unsafe fn weights(quad: *const Quad) -> [__m256i; 2] {
        let halves: *const __m256i = quad.cast();
        unsafe { [_mm256_load_si256(halves), _mm256_load_si256(halves.add(1))] }
    }

    #[inline(always)]
    unsafe fn bytes(at: *const u8) -> __m256i {
        unsafe { _mm256_set1_epi32(at.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn add(sums: [__m256i; 2], bytes: __m256i, weights: [__m256i; 2]) -> [__m256i; 2] {
        unsafe { [D::add(sums[0], bytes, weights[0]), D::add(sums[1], bytes, weights[1])] }
    }

    #[inline(always)]
    unsafe fn store(sums: [__m256i; 2]) -> Sums {
        let mut out = Sums([0; LANES]);
        let halves: *mut __m256i = out.0.as_mut_ptr().cast();
        unsafe {
            _mm256_store_si256(halves, sums[0]);
            _mm256_store_si256(halves.add(1), sums[1]);
        }
        out
    }
}

const _: () = assert!(size_of::<Quad>() == 64 && align_of::<Quad>() == 64 && size_of::<Sums>() == 64);
