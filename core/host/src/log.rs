//! Lines from plugins, on their way to our log.

use metareward_plugin::log::Level;

/// Longest line that is kept, in characters: a plugin must not fill the disk.
const LONGEST: usize = 4096;

/// The line without control characters, cut where it is too long.
pub(crate) fn clean(line: &str) -> String {
    let mut clean: String = line
        .trim_end()
        .chars()
        .map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c })
        .take(LONGEST)
        .collect();
    if line.chars().nth(LONGEST).is_some() {
        clean.push('…');
    }
    clean
}

/// Writes a plugin's line to our log.
pub(crate) fn write(plugin: &str, level: Level, line: &str) {
    let line = clean(line);
    match level {
        Level::Error => tracing::error!(target: "plugin", plugin, "{line}"),
        Level::Warn => tracing::warn!(target: "plugin", plugin, "{line}"),
        Level::Info => tracing::info!(target: "plugin", plugin, "{line}"),
        Level::Debug => tracing::debug!(target: "plugin", plugin, "{line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_endless_lines_do_not_reach_the_log() {
        assert_eq!(clean("a\u{1b}[31mred\r\n"), "a\u{fffd}[31mred");
        assert_eq!(clean("one\ntwo\tthree\u{0}"), "one\u{fffd}two\tthree\u{fffd}");
        let long = clean(&"x".repeat(100_000));
        assert_eq!(long.chars().count(), LONGEST + 1);
    }
}
