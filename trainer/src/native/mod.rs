//! What tch does not hand through of libtorch: a few functions in C++, and their safe side. As tch's own operators do,
//! they panic where libtorch fails, out of memory above all; `main` makes a message of that.
#![allow(unsafe_code)] // Calls into C++. Every pointer handed over is a live tensor's, and is not kept.

use std::ffi::{CStr, c_char, c_int};
use tch::nn::BatchNorm;
use tch::{Device, Kind, TchError, Tensor};

/// A C++ `at::Tensor`; `C_tensor` of torch-sys under another name.
type Raw = torch_sys::C_tensor;

unsafe extern "C" {
    fn salad_last_error() -> *const c_char;
    fn salad_leaky_relu(x: *const Raw, slope: f64) -> *mut Raw;
    fn salad_norm_activation(
        x: *const Raw,
        weight: *const Raw,
        bias: *const Raw,
        running_mean: *const Raw,
        running_variance: *const Raw,
        momentum: f64,
        epsilon: f64,
        slope: f64,
    ) -> *mut Raw;
    fn salad_rims(x: *const Raw, outputs: *mut *mut Raw) -> c_int;
    fn salad_from_quarters(
        cells: *const Raw,
        top: *const Raw,
        bottom: *const Raw,
        left: *const Raw,
        right: *const Raw,
    ) -> *mut Raw;
    fn salad_to_device(x: *const Raw, device: c_int) -> *mut Raw;
    fn salad_upsampled(x: *const Raw) -> *mut Raw;
    fn salad_pinned(x: *const Raw) -> *mut Raw;
    fn salad_forget_gradient(x: *const Raw) -> c_int;
    fn salad_fused_adam(
        parameters: *const *const Raw,
        gradients: *const *const Raw,
        means: *const *const Raw,
        squares: *const *const Raw,
        n: usize,
        steps: *const Raw,
        rate: f64,
        beta1: f64,
        beta2: f64,
        decay: f64,
        epsilon: f64,
    ) -> c_int;
    fn salad_autocast_bf16(cuda: c_int, on: c_int) -> c_int;
    fn salad_allow_tf32(on: c_int);
    #[cfg(test)]
    fn salad_tf32() -> c_int;
}

/// max(x, slope x), for slopes from 0 to below 1.
pub fn leaky_relu(x: &Tensor, slope: f64) -> Tensor {
    // SAFETY: see the top of the file.
    owned(unsafe { salad_leaky_relu(x.as_ptr(), slope) })
}

/// PyTorch's rate of the running statistics.
const MOMENTUM: f64 = 0.1;

/// Batch norm in training mode, with `epsilon`, and the leaky ReLU after it (`slope` 0 is ReLU, 1 none), as one operator
/// with its own gradient: half the memory traffic of two. `x` is \[n, channels, height, width\] in f32 or bf16 on the CPU,
/// and is taken and given channels last; the running statistics of `norm` are brought up to date.
pub fn norm_activation(x: &Tensor, norm: &BatchNorm, epsilon: f64, slope: f64) -> Tensor {
    let optional = |t: &Option<Tensor>| t.as_ref().map_or(std::ptr::null(), Tensor::as_ptr);
    // SAFETY: see the top of the file; null stands for a tensor that there is not.
    owned(unsafe {
        salad_norm_activation(
            x.as_ptr(),
            optional(&norm.ws),
            optional(&norm.bs),
            norm.running_mean.as_ptr(),
            norm.running_var.as_ptr(),
            MOMENTUM,
            epsilon,
            slope,
        )
    })
}

/// `x` \[n, c, h, w\] itself, its first and last row \[n, c, 1, w\], its first and last column \[n, c, h, 1\]. All five have
/// to go into the loss, the first by way of one operator.
pub fn rims(x: &Tensor) -> [Tensor; 5] {
    let mut outputs = [std::ptr::null_mut(); 5];
    // SAFETY: see the top of the file; there is room for five.
    done(unsafe { salad_rims(x.as_ptr(), outputs.as_mut_ptr()) });
    outputs.map(owned)
}

/// An image \[n, c, 2 h, 2 w\] of `cells` \[n, 4 c, h, w\], whose channels are (row, column, c) of four pixels; top and bottom
/// \[n, c, 2, 2 w\], left and right \[n, c, 2 h, 2\] of `rims` are added to it. On the CPU, f32.
pub fn from_quarters(cells: &Tensor, rims: &[Tensor; 4]) -> Tensor {
    let [top, bottom, left, right] = rims.each_ref().map(Tensor::as_ptr);
    // SAFETY: see the top of the file.
    owned(unsafe { salad_from_quarters(cells.as_ptr(), top, bottom, left, right) })
}

/// A new f32 tensor on the CPU of this size, its values as `fill` writes them: it gets them as zeros, row by row.
pub fn filled(size: &[i64], fill: impl FnOnce(&mut [f32])) -> Tensor {
    let tensor = Tensor::zeros(size, (Kind::Float, Device::Cpu));
    // SAFETY: the tensor is new, contiguous and nobody else's, and holds so many floats.
    fill(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) });
    tensor
}

/// A copy on `device`, or the tensor itself where it is there. From pinned memory this does not wait for the copy.
pub fn to_device(x: &Tensor, device: Device) -> Tensor {
    let number = match device {
        Device::Cuda(n) => c_int::try_from(n).unwrap_or(c_int::MAX),
        _ => -1,
    };
    // SAFETY: see the top of the file.
    owned(unsafe { salad_to_device(x.as_ptr(), number) })
}

/// `x` \[n, c, h, w\] at twice the side, bilinear, corners not aligned; in x's own type, within [`Bf16`] too.
pub fn upsampled(x: &Tensor) -> Tensor {
    // SAFETY: see the top of the file.
    owned(unsafe { salad_upsampled(x.as_ptr()) })
}

/// A copy that a GPU can take without anybody waiting; needs one.
pub fn pinned(x: &Tensor) -> Tensor {
    // SAFETY: see the top of the file.
    owned(unsafe { salad_pinned(x.as_ptr()) })
}

/// Drops the gradient of `x`, so that the next backward pass writes it anew.
pub fn forget_gradient(x: &mut Tensor) {
    // SAFETY: see the top of the file.
    done(unsafe { salad_forget_gradient(x.as_mut_ptr()) });
}

/// What Adam's step is made with.
#[derive(Debug, Clone, Copy)]
pub struct AdamStep {
    /// Learning rate.
    pub rate: f64,
    /// Rate at which the mean of the gradients forgets.
    pub beta1: f64,
    /// Rate at which the mean of their squares forgets.
    pub beta2: f64,
    /// L2 weight decay.
    pub decay: f64,
    /// What keeps the denominator from zero.
    pub epsilon: f64,
}

/// One step of Adam over `parameters` in one kernel, in place. `means` and `squares` are the optimiser's state, `steps` a
/// scalar f32 tensor on the same device with the number of steps, this one included. The four lists are equally long.
pub fn fused_adam(
    parameters: &[Tensor],
    gradients: &[Tensor],
    means: &[Tensor],
    squares: &[Tensor],
    steps: &Tensor,
    step: AdamStep,
) {
    let n = parameters.len();
    assert!([gradients, means, squares].iter().all(|list| list.len() == n), "Adam's lists differ in length");
    let pointers = |list: &[Tensor]| list.iter().map(Tensor::as_ptr).collect::<Vec<_>>();
    let lists = [parameters, gradients, means, squares].map(pointers);
    let [p, g, m, s] = lists.each_ref().map(Vec::as_ptr);
    let AdamStep { rate, beta1, beta2, decay, epsilon } = step;
    // SAFETY: see the top of the file; each list holds n pointers.
    done(unsafe { salad_fused_adam(p, g, m, s, n, steps.as_ptr(), rate, beta1, beta2, decay, epsilon) });
}

/// While it lives, this thread's operators on one kind of device run in bf16 where libtorch holds that to be safe.
#[derive(Debug)]
pub struct Bf16 {
    cuda: bool,
}

impl Bf16 {
    /// Begins, for CUDA's operators or for the CPU's.
    pub fn begin(cuda: bool) -> Bf16 {
        // SAFETY: sets state of this thread.
        unsafe { salad_autocast_bf16(cuda.into(), 1) };
        Bf16 { cuda }
    }
}

impl Drop for Bf16 {
    fn drop(&mut self) {
        // SAFETY: sets state of this thread.
        unsafe { salad_autocast_bf16(self.cuda.into(), 0) };
    }
}

/// Whether CUDA's convolutions of f32 may round to 10 bits (TF32); its matrix products never may.
pub fn allow_tf32(on: bool) {
    // SAFETY: sets a flag of libtorch.
    unsafe { salad_allow_tf32(on.into()) }
}

/// While it lives, CUDA's convolutions of f32 may round to 10 bits.
#[derive(Debug)]
pub struct Tf32(());

impl Tf32 {
    /// Begins.
    pub fn begin() -> Tf32 {
        allow_tf32(true);
        Tf32(())
    }
}

impl Drop for Tf32 {
    fn drop(&mut self) {
        allow_tf32(false);
    }
}

/// The tensor that C++ made, now ours.
fn owned(raw: *mut Raw) -> Tensor {
    if raw.is_null() {
        fail()
    }
    // SAFETY: it was made by `new at::Tensor`, which is what tch frees.
    unsafe { Tensor::from_ptr(raw) }
}

fn done(flag: c_int) {
    if flag == 0 {
        fail()
    }
}

#[allow(clippy::panic, reason = "what tch does where an operator fails")]
fn fail() -> ! {
    // SAFETY: a string of this thread that lives until the next call.
    let words = unsafe { CStr::from_ptr(salad_last_error()) }.to_string_lossy().into_owned();
    panic!("{:?}", TchError::Torch(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::nn;

    /// Values without order from -1.5 to 1.5, the same each time.
    fn channels_last(size: [i64; 4]) -> Tensor {
        let count = Tensor::arange(size.iter().product::<i64>(), (Kind::Double, Device::Cpu));
        let values: Tensor = ((count + 1.0) * 78.233).square().sin() * 1.5;
        values.to_kind(Kind::Float).view([size[0], size[2], size[3], size[1]]).permute([0, 3, 1, 2])
    }

    fn furthest(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    /// Batch norm with a scale and a shift for each channel, or with neither.
    fn norm(channels: i64, affine: bool) -> BatchNorm {
        let config = nn::BatchNormConfig { affine, ..Default::default() };
        let norm = nn::batch_norm2d(nn::VarStore::new(Device::Cpu).root(), channels, config);
        let ramp = Tensor::linspace(-1.0, 1.0, channels, (Kind::Float, Device::Cpu));
        tch::no_grad(|| {
            let _ = norm.ws.as_ref().map(|w| w.shallow_clone().copy_(&(&ramp * 2.0 + 0.3)));
            let _ = norm.bs.as_ref().map(|b| b.shallow_clone().copy_(&ramp));
        });
        norm
    }

    /// Output, running statistics, gradients of weight and bias, and, last, of the input.
    fn seen(x: &Tensor, dy: &Tensor, norm: &BatchNorm, f: impl Fn(&Tensor, &BatchNorm) -> Tensor) -> Vec<Tensor> {
        let x = x.copy().set_requires_grad(true);
        let y = f(&x, norm);
        (&y * dy).sum(Kind::Float).backward();
        let mut all = vec![y.detach(), norm.running_mean.copy(), norm.running_var.copy()];
        all.extend([&norm.ws, &norm.bs].into_iter().flatten().map(Tensor::grad));
        all.push(x.grad());
        all
    }

    #[test]
    fn norm_and_activation_are_what_libtorchs_two_are() {
        // Narrow and wide, one block and many, a last block that is not full, one place only; no scale and shift.
        let cases = [([5, 3, 7, 9], true), ([2, 16, 40, 40], true), ([3, 200, 5, 5], true), ([6, 8, 1, 1], false)];
        for (size, affine) in cases {
            for slope in [0.0, 0.1, 1.0] {
                let (x, dy) = (channels_last(size) * 3.0 + 5.0, channels_last(size));
                let ours = seen(&x, &dy, &norm(size[1], affine), |x, norm| norm_activation(x, norm, 1e-5, slope));
                let mut theirs = seen(&x, &dy, &norm(size[1], affine), |x, norm| {
                    let y = nn::ModuleT::forward_t(norm, x, true);
                    if slope < 1.0 { leaky_relu(&y, slope) } else { y }
                });
                // Where the value is at the kink itself, rounding decides which slope it has.
                let kink = nn::ModuleT::forward_t(&norm(size[1], affine), &x, true).abs().lt(1e-4);
                if let (Some(theirs), Some(ours)) = (theirs.last_mut(), ours.last()) {
                    *theirs = ours.where_self(&kink, theirs);
                }
                for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
                    let scale = b.abs().max().double_value(&[]).max(1.0);
                    assert!(furthest(a, b) < 2e-5 * scale, "{size:?} slope {slope}, value {i}: {}", furthest(a, b));
                }
            }
        }
    }

    #[test]
    fn threads_change_no_bit_of_a_norm() {
        let (x, dy) = (channels_last([4, 24, 40, 40]), channels_last([4, 24, 40, 40]));
        let before = tch::get_num_threads();
        let [one, three] = [1, 3].map(|threads| {
            tch::set_num_threads(threads);
            seen(&x, &dy, &norm(24, true), |x, norm| norm_activation(x, norm, 1e-5, 0.1))
        });
        tch::set_num_threads(before);
        assert_eq!(one, three);
    }

    #[test]
    fn in_bf16_a_norm_is_as_close_as_bf16_is() {
        let (x, dy) = (channels_last([4, 32, 20, 20]).to_kind(Kind::BFloat16), channels_last([4, 32, 20, 20]));
        let of = |x: &Tensor| seen(x, &dy, &norm(32, true), |x, norm| norm_activation(x, norm, 1e-5, 0.1));
        let (half, wide) = (of(&x), of(&x.to_kind(Kind::Float)));
        assert_eq!(half[0].kind(), Kind::BFloat16);
        for (i, (a, b)) in half.iter().zip(&wide).enumerate() {
            let scale = b.abs().max().double_value(&[]);
            assert!(furthest(&a.to_kind(Kind::Float), b) < 0.02 * scale, "value {i}");
        }
    }

    #[test]
    fn autocast_gives_bf16_while_it_lives() {
        let x = Tensor::randn([4, 4], (Kind::Float, Device::Cpu));
        let guard = Bf16::begin(false);
        assert_eq!(x.matmul(&x).kind(), Kind::BFloat16);
        drop(guard);
        assert_eq!(x.matmul(&x).kind(), Kind::Float);
    }

    #[test]
    fn tf32_is_for_convolutions_and_ends_with_its_guard() {
        // SAFETY: reads two flags of libtorch.
        let flags = || unsafe { salad_tf32() };
        let guard = Tf32::begin();
        assert_eq!(flags(), 2);
        drop(guard);
        assert_eq!(flags(), 0);
    }

    #[test]
    fn a_forgotten_gradient_is_gone() {
        let mut x = Tensor::from_slice(&[1f32, 2.0]).set_requires_grad(true);
        x.sum(Kind::Float).backward();
        assert!(x.grad().defined());
        forget_gradient(&mut x);
        assert!(!x.grad().defined());
    }

    #[test]
    fn what_fails_says_libtorchs_words() {
        let norm = nn::batch_norm2d(nn::VarStore::new(Device::Cpu).root(), 3, nn::BatchNormConfig::default());
        let x = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        let panic = std::panic::catch_unwind(|| norm_activation(&x, &norm, 1e-5, 0.0)).unwrap_err();
        let words = panic.downcast_ref::<String>().unwrap();
        assert!(
            words.contains("Torch(") && words.contains("ChannelsLast") || words.contains("channels_last"),
            "{words}"
        );
    }
}
