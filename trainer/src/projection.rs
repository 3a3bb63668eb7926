//! Embeddings on a plane: the two principal directions.

use crate::network::to_tensor;
use ndarray::{Array2, Axis, concatenate};
use tch::{Kind, TchError, Tensor};

/// Points on the plane of the two directions in which embeddings vary most.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    /// \[x, y\] of each row, in the rows' order.
    pub points: Vec<[f32; 2]>,
    /// Share of the variance along x and y, 0..=1.
    pub explained: [f32; 2],
}

/// Projects the rows of `first` and then `second` (\[n, d\] and \[m, d\], n + m >= 2) onto their principal plane.
pub fn principal_plane(first: &Array2<f32>, second: &Array2<f32>) -> Result<Plane, TchError> {
    let shape = |e: ndarray::ShapeError| TchError::Shape(e.to_string());
    let all = concatenate(Axis(0), &[first.view(), second.view()]).map_err(shape)?;
    let rows = to_tensor(&all);
    let centred = &rows - rows.f_mean_dim([0].as_slice(), true, Kind::Float)?;
    let (_, singular, directions) = centred.f_svd(true, true)?; // directions: [d, min(n + m, d)]
    // The sign of a direction is arbitrary: the larger coordinates are made positive.
    let plane = directions.f_tr()?.f_narrow(0, 0, 2)?;
    let sign = plane.f_sum_dim_intlist([1].as_slice(), true, Kind::Float)?.f_ge(0.0)?;
    let sign: Tensor = sign.f_to_kind(Kind::Float)? * 2.0 - 1.0;
    let flat = Vec::<f32>::try_from(&centred.f_matmul(&(plane * sign).f_tr()?)?.f_contiguous()?.f_view(-1)?)?;
    let squares = Vec::<f32>::try_from(&singular.square())?;
    let total = squares.iter().sum::<f32>().max(f32::MIN_POSITIVE);
    Ok(Plane {
        points: flat.chunks_exact(2).map(|p| [p[0], p[1]]).collect(),
        explained: [0, 1].map(|i| squares.get(i).copied().unwrap_or(0.0) / total),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_longest_direction_comes_first() {
        let plane = principal_plane(
            &array![[0.0, 0.0, 1.0], [0.0, 4.0, 1.0], [0.0, -4.0, 1.0]],
            &array![[1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]],
        )
        .unwrap();
        assert_eq!(plane.points.len(), 5);
        assert!((plane.points[1][0].abs() - 4.0).abs() < 1e-5, "{plane:?}");
        assert!((plane.points[3][1].abs() - 1.0).abs() < 1e-5, "{plane:?}");
        assert!((plane.explained[0] - 32.0 / 34.0).abs() < 1e-5);
    }
}
