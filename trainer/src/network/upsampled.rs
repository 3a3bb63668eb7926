//! Up-sampling, and convolutions after it without it.

use crate::native;
use tch::nn::{self, Module};
use tch::{Device, Kind, Tensor};

/// Outputs up to which [`in_quarters`] is the faster way.
const FEW: i64 = 4;

/// `x` \[n, c, h, w\] at twice the side, bilinear, corners not aligned.
pub(super) fn twice(x: &Tensor) -> Tensor {
    native::upsampled(x)
}

/// A convolution of stride 1 that keeps the size, over `x` at twice the side; up to rounding the same as one after the
/// other, in the cheapest order.
pub(super) fn convolution(x: &Tensor, conv: &nn::Conv2D) -> Tensor {
    let (outputs, _, kernel, _) = conv.ws.size4().unwrap_or_default();
    match &conv.bs {
        // The weights of up-sampling sum to one, so that it commutes with what is done to each place by itself.
        _ if kernel == 1 => twice(&conv.forward(x)),
        Some(bias) if kernel == 3 && outputs <= FEW && x.device() == Device::Cpu && x.kind() == Kind::Float => {
            in_quarters(x, &conv.ws, bias)
        }
        _ => conv.forward(&twice(x)),
    }
}

/// Rows: what the pixels before, at and after a place weigh for the even pixel, then for the odd one. Columns: the three
/// rows (or columns) of the large kernel.
const INNER: [[f32; 3]; 6] =
    [[0.75, 0.25, 0.0], [0.25, 0.75, 0.75], [0.0, 0.0, 0.25], [0.25, 0.0, 0.0], [0.75, 0.75, 0.25], [0.0, 0.25, 0.75]];
/// What the first place weighs besides, for the even pixel and the odd one.
const FIRST: [[f32; 3]; 2] = [[-0.25, 0.25, 0.0], [0.25, 0.0, 0.0]];
/// What the last place weighs besides.
const LAST: [[f32; 3]; 2] = [[0.0, 0.0, 0.25], [0.0, 0.25, -0.25]];

/// The convolution with `weight` \[o, c, 3, 3\] and `bias` \[o\], zeros around, of `x` \[n, c, h, w\] at twice the side:
/// \[n, o, 2 h, 2 w\].
///
/// Each of its pixels is a sum over 3 x 3 places of the small map, with weights that depend on whether row and column are
/// even or odd. So one convolution of the small map with four times the outputs has all of them. Processors compute 16
/// channels as fast as 3: for the last step of a decoder, at full size and to a picture's few channels, this takes a third of
/// the time.
///
/// Up-sampling repeats the outermost row and the convolution sees zeros beyond, which the sum over the small map misses
/// along the rims: there the difference is added.
fn in_quarters(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    let (n, _, height, width) = x.size4().unwrap_or_default();
    let (outputs, inputs, ..) = weight.size4().unwrap_or_default();
    let [inner, first, last] = [matrix(&INNER), matrix(&FIRST), matrix(&LAST)];
    let [x, top, bottom, left, right] = native::rims(x);
    let kernel = |rows: &Tensor, columns: &Tensor| rows.matmul(weight).matmul(&columns.tr());

    // [o, c, (row, tap), (column, tap)] to [(row, column, o), c, tap, tap].
    let cells = kernel(&inner, &inner).view([outputs, inputs, 2, 3, 2, 3]).permute([2, 4, 0, 1, 3, 5]);
    let cells = cells.reshape([4 * outputs, inputs, 3, 3]);
    let cells = x.conv2d(&cells, Some(bias.repeat([4])), [1, 1], [1, 1], [1, 1], 1);

    // Along a row the rim is what the plain way makes of that row, up-sampled to its full length: [n, (row, o), 1, 2 w].
    let row = |line: &Tensor, rim: &Tensor| {
        let line = line.upsample_bilinear2d([1, 2 * width], false, None, None);
        let kernel = rim.matmul(weight).permute([2, 0, 1, 3]).reshape([2 * outputs, inputs, 1, 3]);
        let rim = line.conv2d(&kernel, None::<Tensor>, [1, 1], [0, 1], [1, 1], 1);
        rim.view([n, 2, outputs, 2 * width]).transpose(1, 2)
    };
    // Along a column the corners are in the rows' rims already: [n, (row, column, o), h, 1].
    let column = |line: &Tensor, rim: &Tensor| {
        let kernel = kernel(&inner, rim).view([outputs, inputs, 2, 3, 2]).permute([2, 4, 0, 1, 3]);
        let kernel = kernel.reshape([4 * outputs, inputs, 3, 1]);
        let rim = line.conv2d(&kernel, None::<Tensor>, [1, 1], [1, 0], [1, 1], 1);
        rim.view([n, 2, 2, outputs, height]).permute([0, 3, 4, 1, 2]).reshape([n, outputs, 2 * height, 2])
    };
    let rims = [row(&top, &first), row(&bottom, &last), column(&left, &first), column(&right, &last)];
    native::from_quarters(&cells, &rims)
}

fn matrix<const N: usize>(rows: &[[f32; 3]; N]) -> Tensor {
    Tensor::from_slice(rows.as_flattened()).view([N as i64, 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters_make_the_convolution_of_the_large_map() {
        tch::manual_seed(4);
        for (channels, outputs, height, width) in [(16, 3, 12, 8), (4, 1, 2, 3), (3, 3, 1, 1)] {
            let random = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu)).set_requires_grad(true);
            let (weight, bias) = (random(&[outputs, channels, 3, 3]), random(&[outputs]));
            let x = random(&[2, height, width, channels]);
            let dy = Tensor::randn([2, outputs, 2 * height, 2 * width], (Kind::Float, Device::Cpu));
            let seen = |f: &dyn Fn(&Tensor) -> Tensor| {
                let y = f(&x.permute([0, 3, 1, 2]));
                let mut all = Tensor::run_backward(&[(&y * &dy).sum(Kind::Float)], &[&x, &weight, &bias], false, false);
                all.push(y.detach());
                all
            };
            let plain = seen(&|x| twice(x).conv2d(&weight, Some(&bias), [1, 1], [1, 1], [1, 1], 1));
            let ours = seen(&|x| in_quarters(x, &weight, &bias));
            for (i, (a, b)) in ours.iter().zip(&plain).enumerate() {
                let off = (a - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[]);
                assert!(off < 1e-5, "{channels} to {outputs} channels, value {i}: {off}");
            }
        }
    }
}
