//! Several runs that differ in their seed alone: means over seeds, with Student's t intervals.

use crate::{
    Figure, Interval,
    table::{Intervals, Row, Table},
};

/// Mean of one value per seed, with its t interval at `level`: mean ± t · s / √n. `n` counts the seeds. Without an interval
/// for one seed; `None` for none, or where a value is not finite.
pub fn mean_over_seeds(values: &[f64], level: f64) -> Option<Figure> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let interval = (values.len() > 1).then(|| {
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let error = (squares / (n - 1.0)).sqrt() / n.sqrt();
        let freedom = u32::try_from(values.len() - 1).unwrap_or(u32::MAX);
        let half = student_t(level, freedom) * error;
        Interval { low: mean - half, high: mean + half }
    });
    Some(Figure { value: mean, interval, n: values.len(), prompts: 0 })
}

/// The table of runs that differ in their seed alone: every figure is the mean over the seeds that have it, every change
/// the mean of the changes within each seed. Rows are told apart by name. One table stays as it is, intervals over
/// prompts included; `None` of none.
pub fn over_seeds(tables: &[Table]) -> Option<Table> {
    let (first, rest) = tables.split_first()?;
    if rest.is_empty() {
        return Some(first.clone());
    }
    let mut names: Vec<&str> = Vec::new();
    for row in tables.iter().flat_map(|table| &table.rows) {
        if !names.contains(&row.name.as_str()) {
            names.push(&row.name);
        }
    }
    let rows = names.iter().map(|name| {
        let of: Vec<&Row> = tables.iter().filter_map(|table| table.rows.iter().find(|row| row.name == *name)).collect();
        let merged = |figures: &dyn Fn(&Row) -> &[Option<Figure>]| {
            let column = |place: usize| {
                let found: Vec<Figure> = of.iter().filter_map(|row| *figures(row).get(place)?).collect();
                let values: Vec<f64> = found.iter().map(|figure| figure.value).collect();
                let figure = mean_over_seeds(&values, first.level)?;
                Some(Figure { prompts: found.iter().map(|figure| figure.prompts).sum(), ..figure })
            };
            (0..first.columns.len()).map(column).collect::<Vec<_>>()
        };
        Row { name: (*name).to_owned(), cells: merged(&|row| &row.cells), changes: merged(&|row| &row.changes) }
    });
    let base = first.rows.get(first.base).and_then(|base| names.iter().position(|name| *name == base.name));
    let mut notes: Vec<String> = first.notes.clone();
    // What one seed's run showed is not what all did.
    notes.retain(|note| tables.iter().all(|table| table.notes.contains(note)));
    Some(Table {
        title: format!("{}, mean over {} seeds", first.title, tables.len()),
        rows: rows.collect(),
        base: base.unwrap_or(0),
        intervals: Intervals::Seeds,
        notes,
        ..first.clone()
    })
}

/// The t for which `level` of Student's distribution with so many degrees of freedom lies between −t and t.
fn student_t(level: f64, freedom: u32) -> f64 {
    let (mut low, mut high) = (0.0, std::f64::consts::FRAC_PI_2);
    // The share is a rising function of the angle; 100 halvings leave nothing of a double's digits.
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if share_within(middle, freedom) < level {
            low = middle;
        } else {
            high = middle;
        }
    }
    low.tan() * f64::from(freedom).sqrt()
}

/// Share of Student's distribution between ±√ν · tan(angle), in closed form for whole ν (Abramowitz and Stegun 1964,
/// 26.7.3 and 26.7.4).
fn share_within(angle: f64, freedom: u32) -> f64 {
    let (sine, cosine) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    let mut term = if odd { cosine } else { 1.0 };
    let mut sum = if freedom == 1 { 0.0 } else { term };
    // The factors are 2/3, 4/5 … up to (ν − 3)/(ν − 2) for odd ν, and 1/2, 3/4 … for even.
    let mut above = if odd { 2 } else { 1 };
    while above + 3 <= freedom {
        term *= cosine * cosine * f64::from(above) / f64::from(above + 1);
        sum += term;
        above += 2;
    }
    if odd { (angle + sine * sum) * std::f64::consts::FRAC_2_PI } else { sine * sum }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_are_those_of_printed_tables() {
        // Two-sided 95 % and 99 %, to three digits, as printed in any textbook.
        let expected = [
            (1, 12.706, 63.657),
            (2, 4.303, 9.925),
            (3, 3.182, 5.841),
            (4, 2.776, 4.604),
            (5, 2.571, 4.032),
            (9, 2.262, 3.250),
            (10, 2.228, 3.169),
            (29, 2.045, 2.756),
            (30, 2.042, 2.750),
            (120, 1.980, 2.617),
        ];
        for (freedom, at_95, at_99) in expected {
            assert!((student_t(0.95, freedom) - at_95).abs() < 6e-4, "{freedom}: {}", student_t(0.95, freedom));
            assert!((student_t(0.99, freedom) - at_99).abs() < 6e-4, "{freedom}: {}", student_t(0.99, freedom));
        }
    }

    #[test]
    fn few_seeds_and_none() {
        assert_eq!(mean_over_seeds(&[], 0.95), None);
        assert_eq!(mean_over_seeds(&[f64::NAN, 1.0], 0.95), None);
        let one = mean_over_seeds(&[2.0], 0.95).unwrap();
        assert_eq!((one.value, one.interval, one.n), (2.0, None, 1));
        let three = mean_over_seeds(&[1.0, 2.0, 3.0], 0.95).unwrap();
        let interval = three.interval.unwrap();
        assert!((interval.high - (2.0 + 4.302_653 / 3f64.sqrt())).abs() < 1e-5, "{interval:?}");
    }

    proptest! {
        #[test]
        fn the_interval_is_around_the_mean_and_scales(values in proptest::collection::vec(-50.0f64..50.0, 2..8), scale in 0.1f64..9.0) {
            let figure = mean_over_seeds(&values, 0.95).unwrap();
            let interval = figure.interval.unwrap();
            prop_assert!(interval.contains(figure.value));
            let wider = mean_over_seeds(&values, 0.99).unwrap().interval.unwrap();
            prop_assert!(wider.low <= interval.low && interval.high <= wider.high);
            let scaled: Vec<f64> = values.iter().map(|value| value * scale).collect();
            let of_scaled = mean_over_seeds(&scaled, 0.95).unwrap().interval.unwrap();
            prop_assert!((of_scaled.high - interval.high * scale).abs() < 1e-9 * scale.max(1.0) * (1.0 + interval.high.abs()));
        }

        #[test]
        fn more_freedom_narrows(freedom in 1u32..200, level in 0.5f64..0.995) {
            prop_assert!(student_t(level, freedom) > student_t(level, freedom + 1));
        }
    }
}
