//! A symmetric positive definite system that is known only by what it does to a vector.

/// Room for the vectors of [`solve`].
#[derive(Clone, Debug, Default)]
pub(super) struct Room {
    diagonal: Vec<f64>,
    residual: Vec<f64>,
    preconditioned: Vec<f64>,
    direction: Vec<f64>,
    image: Vec<f64>,
}

impl Room {
    /// Where the matrix's diagonal goes before [`solve`].
    pub(super) fn diagonal(&mut self, n: usize) -> &mut [f64] {
        self.diagonal.resize(n, 0.0);
        &mut self.diagonal
    }
}

/// Solves A·x = b by conjugate gradients, preconditioned with the diagonal of A, until the residual is `tolerance` times as
/// long as b, or for `most` steps. `times` computes A·v; `vector` holds b and becomes x. Whenever it stops, xᵀA·x = xᵀb.
pub(super) fn solve(
    room: &mut Room,
    times: impl Fn(&[f64], &mut [f64]),
    vector: &mut [f64],
    tolerance: f64,
    most: usize,
) {
    let n = vector.len();
    let Room { diagonal, residual, preconditioned, direction, image } = room;
    residual.clear();
    residual.extend_from_slice(vector);
    vector.fill(0.0);
    preconditioned.clear();
    preconditioned.extend(residual.iter().zip(diagonal.iter()).map(|(r, d)| r / d));
    direction.clone_from(preconditioned);
    image.resize(n, 0.0);
    let goal = tolerance * tolerance * product(residual, residual);
    let mut progress = product(residual, preconditioned);
    for _ in 0..most {
        if product(residual, residual) <= goal {
            break;
        }
        times(direction, image);
        let curvature = product(direction, image);
        if !(curvature.is_finite() && curvature > 0.0) {
            break;
        }
        let length = progress / curvature;
        for i in 0..n {
            vector[i] += length * direction[i];
            residual[i] -= length * image[i];
            preconditioned[i] = residual[i] / diagonal[i];
        }
        let next = product(residual, preconditioned);
        let share = next / progress;
        progress = next;
        for (direction, preconditioned) in direction.iter_mut().zip(preconditioned.iter()) {
            *direction = preconditioned + share * *direction;
        }
    }
}

fn product(a: &[f64], b: &[f64]) -> f64 {
    let mut sum = 0.0;
    for (a, b) in a.iter().zip(b) {
        sum += a * b;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_what_it_only_sees_the_effect_of() {
        // A = [[4,2,-2],[2,5,1],[-2,1,6]], x = [1,-2,3].
        let rows = [[4.0, 2.0, -2.0], [2.0, 5.0, 1.0], [-2.0, 1.0, 6.0]];
        let times = |v: &[f64], out: &mut [f64]| {
            for (out, row) in out.iter_mut().zip(&rows) {
                *out = product(row, v);
            }
        };
        let mut room = Room::default();
        room.diagonal(3).copy_from_slice(&[4.0, 5.0, 6.0]);
        let mut vector = [-6.0, -5.0, 14.0];
        solve(&mut room, times, &mut vector, 1e-14, 10);
        for (found, expected) in vector.iter().zip([1.0, -2.0, 3.0]) {
            assert!((found - expected).abs() < 1e-12);
        }
        // After one step too, xᵀA·x = xᵀb.
        let b = [-6.0, -5.0, 14.0];
        let mut vector = b;
        solve(&mut room, times, &mut vector, 0.0, 1);
        let mut image = [0.0; 3];
        times(&vector, &mut image);
        assert!((product(&vector, &image) - product(&vector, &b)).abs() < 1e-12);
    }
}
