//! How figures are written in lines of text.

use crate::{Bootstrap, Figure};

/// A share in per cent, as in `63.33 % (95 % interval 60.51 to 66.02, n = 805)`.
pub(crate) fn share(figure: &Figure, bootstrap: &Bootstrap) -> String {
    scaled(figure, bootstrap, 100.0, 2, " %")
}

/// A number with its unit, which starts with a blank if there is one.
pub(crate) fn number(figure: &Figure, bootstrap: &Bootstrap, digits: usize, unit: &str) -> String {
    scaled(figure, bootstrap, 1.0, digits, unit)
}

fn scaled(figure: &Figure, bootstrap: &Bootstrap, scale: f64, digits: usize, unit: &str) -> String {
    let interval = match figure.interval {
        Some(bounds) => {
            let (low, high) = (bounds.low * scale, bounds.high * scale);
            format!("{} % interval {low:.digits$} to {high:.digits$}, ", Level(bootstrap.level))
        }
        None => "no interval, ".to_string(),
    };
    let prompts = if figure.prompts == figure.n { String::new() } else { format!(" of {} prompts", figure.prompts) };
    format!("{:.digits$}{unit} ({interval}n = {}{prompts})", figure.value * scale, figure.n)
}

/// A level in per cent, without digits that say nothing.
struct Level(f64);

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}", (self.0 * 1e6).round() / 1e4)
    }
}
