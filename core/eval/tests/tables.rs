//! The table and what it says in words: every claim follows from an interval.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_api::PromptId;
use metareward_eval::{Bootstrap, COLUMNS, Measurements, ModelMeasurements, Table, in_words, main_table};

/// A model whose answers have these points on each of 40 prompts, four answers each, and whose judge gives the oracle's
/// points plus what `judge` says.
fn model(name: &str, points: impl Fn(usize, usize) -> f64, judge: impl Fn(usize, usize) -> f64) -> ModelMeasurements {
    let mut model = ModelMeasurements { name: name.into(), ..ModelMeasurements::default() };
    for prompt in 0..40 {
        let id = PromptId(format!("p{prompt:02}"));
        for answer in 0..4 {
            model.points.push(&id, points(prompt, answer));
            model.lengths.push(&id, 30.0 + ((prompt * 7 + answer * 3) % 11) as f64);
            // All models judge the same answers.
            let oracle = ((prompt + answer * 2) % 6) as f64;
            model.judge(
                &id,
                &[judge(prompt, answer), judge(prompt, answer)],
                usize::from(answer == 3 && prompt < 4),
                Some(oracle),
            );
        }
    }
    model
}

fn measurements() -> Measurements {
    let fair = |prompt: usize, answer: usize| ((prompt + answer * 2) % 6) as f64;
    let noisy = move |prompt: usize, answer: usize| {
        if (prompt + answer).is_multiple_of(3) { 2.0 } else { fair(prompt, answer) }
    };
    Measurements {
        models: vec![
            model("seed", |prompt, answer| ((prompt + answer) % 5) as f64, noisy),
            model("M1", |prompt, answer| 1.0 + ((prompt + answer) % 5) as f64, fair),
            // Different in detail and alike on the whole.
            model("M2", |prompt, answer| ((prompt + answer + prompt % 3) % 5) as f64, |_, _| 5.0),
        ],
        base: 0,
        full_points: 5.0,
        length_unit: "characters".into(),
    }
}

fn table() -> Table {
    main_table(&measurements(), &Bootstrap { draws: 300, ..Bootstrap::default() })
}

#[test]
fn cells_are_what_the_measurements_say() {
    let table = table();
    let cell = |row: usize, key: &str| table.rows[row].cells[table.column(key).unwrap()];
    assert_eq!(table.columns.len(), COLUMNS.len());
    assert_eq!(cell(0, "points").unwrap().value, 2.0);
    assert_eq!(cell(1, "points").unwrap().value, 3.0);
    assert_eq!((cell(0, "perfect").unwrap().value, cell(1, "perfect").unwrap().value), (0.0, 0.2));
    assert_eq!(cell(0, "win_rate"), None, "the first model has nobody to win against");
    assert!(cell(1, "win_rate").unwrap().value > 0.5);
    assert_eq!(cell(1, "agreement").unwrap().value, 1.0);
    assert_eq!(cell(1, "spearman").unwrap().value, 1.0);
    assert!(cell(0, "spearman").unwrap().value < 1.0);
    assert_eq!(cell(2, "spearman"), None, "a judge that gives one score has no order");
    assert_eq!(cell(2, "agreement").unwrap().value, 0.5);
    assert_eq!(cell(2, "agreement_without_ties"), None);
    assert_eq!(cell(0, "points").unwrap().n, 160);
    assert_eq!(cell(0, "judge_score").unwrap().n, 320);
    assert!(table.rows[0].changes.iter().all(Option::is_none));
}

#[test]
fn text_is_aligned_and_whole() {
    let text = table().to_text();
    let lines: Vec<&str> = text.lines().collect();
    let wide = lines[1].chars().count();
    let end = lines.iter().rposition(|line| line.starts_with('─')).unwrap();
    assert!(lines[..end].iter().all(|line| line.chars().count() <= wide), "{text}");
    // The right edges of a value and of its interval stand under each other.
    let row = lines.iter().position(|line| line.starts_with("M1")).unwrap();
    let edge = |line: &str, text: &str| line[..line.find(text).unwrap() + text.len()].chars().count();
    assert_eq!(
        edge(lines[row], "3.00"),
        edge(lines[row + 1], lines[row + 1].trim().split("  ").next().unwrap()),
        "{text}"
    );
    for part in [
        "characters",
        "n = 160",
        "win rate",
        "95 % bootstrap",
        "4 of 324 judgments (1.2 %) were unreadable",
        "M2: its judge gives 5 in 100.0 %",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn markdown_has_a_cell_for_every_figure() {
    let markdown = table().to_markdown();
    let rows: Vec<&str> = markdown.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 2 + 3);
    for row in rows {
        assert_eq!(row.matches('|').count(), COLUMNS.len() + 2, "{row}");
    }
    assert!(markdown.contains("| 3.00 [") && markdown.contains(", n 160 |"), "{markdown}");
}

#[test]
fn json_comes_back_the_same() {
    let table = table();
    assert_eq!(serde_json::from_str::<Table>(&table.to_json().unwrap()).unwrap(), table);
}

#[test]
fn words_claim_what_intervals_support() {
    let mut rising = measurements();
    rising.models.truncate(2);
    let table = main_table(&rising, &Bootstrap::default());
    let words = in_words(&table);
    let line =
        |words: &str, start: &str| words.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_string();
    assert!(
        line(&words, "Oracle points").contains("Higher: the interval leaves zero out (on the same prompts: +1.00,"),
        "{words}"
    );
    assert!(line(&words, "Perfect answers: 0.0 % for seed, 20.0 % for M1. Higher").contains("+20.0 points"), "{words}");
    assert!(line(&words, "Mean length").contains("No difference can be claimed"), "{words}");
    assert!(line(&words, "Judge Spearman").contains("Higher"), "{words}");
    assert!(words.contains("Another training seed"), "{words}");

    let words = in_words(&self::table());
    assert!(line(&words, "Oracle points:").contains("No difference can be claimed"), "{words}");
    assert!(line(&words, "Oracle points on the way").contains("M1 was higher than seed"), "{words}");
    assert!(line(&words, "Judge agreement, ties half").contains("Lower"), "{words}");
    assert!(line(&words, "Judge Spearman:").contains("for M2 there is none"), "{words}");
}

#[test]
fn words_and_table_agree_on_every_change() {
    let table = table();
    let words = in_words(&table);
    let last = table.rows.last().unwrap();
    for (column, change) in table.columns.iter().zip(&last.changes) {
        let Some(interval) = change.and_then(|change| change.interval) else { continue };
        let claimed = interval.low > 0.0 || interval.high < 0.0;
        let start = format!("{}{}: ", column.heading[..1].to_uppercase(), &column.heading[1..]);
        let line = words.lines().find(|line| line.starts_with(&start)).unwrap();
        assert_eq!(line.contains("leaves zero out"), claimed, "{line}");
        assert_eq!(line.contains("No difference can be claimed"), !claimed, "{line}");
    }
}

#[test]
fn a_row_before_the_base_is_compared_with_it_too() {
    let mut measurements = measurements();
    measurements.base = 1;
    let table = main_table(&measurements, &Bootstrap::default());
    let points = table.column("points").unwrap();
    assert_eq!(table.rows[0].changes[points].unwrap().value, -1.0);
    assert_eq!(table.rows[1].changes[points], None);
    let words = in_words(&table);
    assert!(words.contains("for M1,") && !words.contains("for seed"), "{words}");
}

#[test]
fn with_one_model_or_none_there_is_nothing_to_compare() {
    let mut alone = measurements();
    alone.models.truncate(1);
    assert!(in_words(&main_table(&alone, &Bootstrap::default())).contains("nothing to compare"));
    alone.models.clear();
    let empty = main_table(&alone, &Bootstrap::default());
    assert!(in_words(&empty).contains("nothing to compare"));
    assert!(empty.to_text().contains("0 models") && empty.to_markdown().contains("| model |"));
}
