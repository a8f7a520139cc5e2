//! A symmetric positive definite system, solved in place.

/// Solves A·x = b by Cholesky's factorisation. `matrix` holds the lower triangle of A, row by row, and becomes its
/// factor; `vector` holds b and becomes x. Returns false, with both in ruins, where A is not positive definite in
/// the numbers that a computer has.
pub(crate) fn solve(matrix: &mut [f64], vector: &mut [f64]) -> bool {
    let n = vector.len();
    for j in 0..n {
        let (before, row_and_after) = matrix.split_at_mut((j + 1) * n);
        let row = &before[j * n..];
        let mut pivot = row[j];
        for value in &row[..j] {
            pivot -= value * value;
        }
        if !(pivot.is_finite() && pivot > 0.0) {
            return false;
        }
        let pivot = pivot.sqrt();
        let scale = 1.0 / pivot;
        for below in row_and_after.chunks_exact_mut(n) {
            let mut value = below[j];
            for (a, b) in row[..j].iter().zip(&below[..j]) {
                value -= a * b;
            }
            below[j] = value * scale;
        }
        before[j * n + j] = pivot;
    }
    for i in 0..n {
        let mut value = vector[i];
        for (j, solved) in vector[..i].iter().enumerate() {
            value -= matrix[i * n + j] * solved;
        }
        vector[i] = value / matrix[i * n + i];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_and_refuses() {
        let mut matrix = [4.0, 0.0, 0.0, 2.0, 5.0, 0.0, -2.0, 1.0, 6.0];
        // A = [[4,2,-2],[2,5,1],[-2,1,6]], x = [1,-2,3].
        let mut vector = [4.0 - 4.0 - 6.0, 2.0 - 10.0 + 3.0, -2.0 - 2.0 + 18.0];
        assert!(solve(&mut matrix, &mut vector));
        for (found, expected) in vector.iter().zip([1.0, -2.0, 3.0]) {
            assert!((found - expected).abs() < 1e-14);
        }
        assert!(!solve(&mut [1.0, 0.0, 1.0, 1.0], &mut [1.0, 1.0]));
        assert!(!solve(&mut [f64::NAN], &mut [1.0]));
    }
}
