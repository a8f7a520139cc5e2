//! A symmetric positive definite system, solved in place.

/// Least pivot, as a share of the matrix's own entry on the diagonal: below it there is only rounding.
const LEAST_PIVOT: f64 = 1e-15;

/// Solves A·x = b by Cholesky's factorisation. `matrix` holds the lower triangle of A, row by row, and becomes its
/// factor; `vector` holds b and becomes x. Where rounding hides that A is positive definite, a matrix that is a little
/// larger is solved instead. Returns false, with both in ruins, where A is not positive definite.
pub(super) fn solve(matrix: &mut [f64], vector: &mut [f64]) -> bool {
    let n = vector.len();
    for j in 0..n {
        let (before, row_and_after) = matrix.split_at_mut((j + 1) * n);
        let row = &before[j * n..];
        let least = LEAST_PIVOT * row[j];
        let pivot = row[j] - dot(&row[..j], &row[..j]);
        if !(pivot.is_finite() && row[j] > 0.0 && pivot > -1e6 * least) {
            return false;
        }
        let pivot = pivot.max(least).sqrt();
        let scale = 1.0 / pivot;
        for below in row_and_after.chunks_exact_mut(n) {
            below[j] = (below[j] - dot(&row[..j], &below[..j])) * scale;
        }
        before[j * n + j] = pivot;
    }
    for i in 0..n {
        let row = &matrix[i * n..i * n + i];
        vector[i] = (vector[i] - dot(row, &vector[..i])) / matrix[i * n + i];
    }
    for i in (0..n).rev() {
        let mut value = vector[i];
        for j in i + 1..n {
            value -= matrix[j * n + i] * vector[j];
        }
        vector[i] = value / matrix[i * n + i];
    }
    vector.iter().all(|value| value.is_finite())
}

/// Σ a_i·b_i in four sums at a time: a chain of additions would wait for itself. The order is written out, so that the
/// bits are the same in every form of a plugin.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<4>();
    let (b, b_rest) = b.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let mut sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    for (a, b) in a_rest.iter().zip(b_rest) {
        sum += a * b;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_adds_up() {
        let numbers: Vec<f64> = (1..=11).map(f64::from).collect();
        for length in 0..=11 {
            let expected: f64 = numbers[..length].iter().map(|number| number * number).sum();
            assert_eq!(dot(&numbers[..length], &numbers[..length]), expected);
        }
    }

    #[test]
    fn solves_and_refuses() {
        let mut matrix = [4.0, 0.0, 0.0, 2.0, 5.0, 0.0, -2.0, 1.0, 6.0];
        // A = [[4,2,-2],[2,5,1],[-2,1,6]], x = [1,-2,3].
        let mut vector = [4.0 - 4.0 - 6.0, 2.0 - 10.0 + 3.0, -2.0 - 2.0 + 18.0];
        assert!(solve(&mut matrix, &mut vector));
        for (found, expected) in vector.iter().zip([1.0, -2.0, 3.0]) {
            assert!((found - expected).abs() < 1e-14);
        }
        assert!(!solve(&mut [1.0, 0.0, 1.0, 0.999], &mut [1.0, 1.0]));
        assert!(!solve(&mut [0.0], &mut [1.0]));
        assert!(!solve(&mut [f64::NAN], &mut [1.0]));
    }
}
