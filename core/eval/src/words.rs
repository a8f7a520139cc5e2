//! What a table shows, in sentences. A change is called one only when its interval leaves zero out.

use crate::Figure;
use crate::table::{Column, Intervals, Row, Table};

/// The base row against the last, column by column, with what can be said of the rows between. Every sentence follows
/// from an interval of the table.
pub fn in_words(table: &Table) -> String {
    let after = table.rows.get(table.base + 1..).unwrap_or_default();
    let (Some(first), Some(last)) = (table.rows.get(table.base), after.last()) else {
        return "No model comes after the base model, so there is nothing to compare.".to_string();
    };
    let mut sentences = Vec::new();
    for (place, column) in table.columns.iter().enumerate() {
        if let Some(change) = last.changes.get(place).and_then(Option::as_ref) {
            sentences.push(sentence(column, place, first, last, change, table.intervals));
        } else if let (Some(Some(from)), Some(None)) = (first.cells.get(place), last.cells.get(place)) {
            let (heading, value) = (capitalised(&column.heading), column.show(from.value));
            sentences.push(format!("{heading}: {value} for {}; for {} there is none.", first.name, last.name));
        }
        sentences.extend(turning_point(column, place, first, after));
    }
    if sentences.is_empty() {
        return format!("Nothing was measured of both {} and {}.", first.name, last.name);
    }
    let level = table.level * 100.0;
    let tested = after.iter().flat_map(|row| &row.changes).flatten().filter(|change| change.interval.is_some()).count();
    let other = match table.intervals {
        Intervals::Prompts => "Another training seed",
        Intervals::Seeds => "Another seed model",
    };
    sentences.push(format!(
        "Each statement rests on a {level} % interval of its own; of {tested} such intervals about {:.1} would miss by chance. \
         {other} may give another result: that is not in the intervals.",
        tested as f64 * (1.0 - table.level)
    ));
    sentences.join("\n")
}

/// One column, from the base row to the last.
fn sentence(column: &Column, place: usize, first: &Row, last: &Row, change: &Figure, intervals: Intervals) -> String {
    let unit = if column.unit.is_empty() || column.unit.starts_with("of ") {
        String::new()
    } else {
        format!(" {}", column.unit)
    };
    // A difference of two shares is in points of per cent.
    let change_unit = if column.unit == "%" { " points".to_string() } else { unit.clone() };
    let value = |row: &Row| row.cells.get(place).and_then(Option::as_ref).map(|figure| column.show(figure.value));
    let what = format!("{}:", capitalised(&column.heading));
    let values = match (value(first), value(last)) {
        (Some(from), Some(to)) => format!("{from}{unit} for {}, {to}{unit} for {}", first.name, last.name),
        (None, Some(to)) => format!("{to}{unit} for {}", last.name),
        _ => return format!("{what} not measured for {}.", last.name),
    };
    let Some(interval) = &change.interval else {
        let few = match intervals {
            Intervals::Prompts => "prompts",
            Intervals::Seeds => "seeds",
        };
        return format!("{what} {values}. There are too few {few} for an interval, so this says nothing yet.");
    };
    let counted = match intervals {
        Intervals::Prompts => format!("{} prompts", change.prompts),
        Intervals::Seeds => format!("{} seeds", change.n),
    };
    let bounds = format!(
        "{}{change_unit}, interval {} to {}, {counted}",
        column.show_signed(change.value),
        column.show_signed(interval.low),
        column.show_signed(interval.high),
    );
    let relative = match intervals {
        _ if column.key == "win_rate" => "against the half of equal models",
        Intervals::Prompts => "on the same prompts",
        Intervals::Seeds => "seed by seed",
    };
    if interval.contains(0.0) {
        format!("{what} {values}. No difference can be claimed: the interval includes zero ({relative}: {bounds}).")
    } else {
        let direction = if change.value > 0.0 { "Higher" } else { "Lower" };
        format!("{what} {values}. {direction}: the interval leaves zero out ({relative}: {bounds}).")
    }
}

/// A row between base and last that moved against the last: a figure that rose and fell again, or the reverse.
fn turning_point(column: &Column, place: usize, first: &Row, after: &[Row]) -> Option<String> {
    let direction = |row: &Row| {
        let interval = row.changes.get(place)?.as_ref()?.interval?;
        if interval.low > 0.0 {
            Some(1)
        } else if interval.high < 0.0 {
            Some(-1)
        } else {
            None
        }
    };
    let (last, between) = after.split_last()?;
    let at_last = direction(last);
    let other = between.iter().find(|row| direction(row).is_some_and(|moved| at_last != Some(moved)))?;
    let moved = if direction(other) == Some(1) { "higher" } else { "lower" };
    Some(format!(
        "{} on the way: {} was {moved} than {}, with an interval that leaves zero out; {} is not.",
        capitalised(&column.heading),
        other.name,
        first.name,
        last.name
    ))
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
