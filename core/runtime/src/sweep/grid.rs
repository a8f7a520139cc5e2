//! A grid of settings as typed: `selector.actor.options.rho=0.0,0.4 meta_judge.pairs=true,[true,false]`.

use std::collections::BTreeSet;

use crate::{Fingerprint, RunError};

/// A key and the values that it takes in turn, as TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// The key, with its section.
    pub key: String,
    /// Its values, as typed.
    pub values: Vec<String>,
}

/// Settings that are crossed with each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grid {
    /// The axes, in the order in which they were typed.
    pub axes: Vec<Axis>,
}

/// One choice of a value for every key of a grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// A name that can be a folder's, such as `rho=0.4_pairs=true`. `as-it-is` where the grid has no axes.
    pub name: String,
    /// What the cell sets: keys with values.
    pub settings: Vec<(String, String)>,
}

/// Longest slug of a value in a name.
const LONGEST: usize = 40;

impl Grid {
    /// Reads arguments of the form `key=value,value`. A comma inside brackets, braces or quotes does not end a value.
    ///
    /// # Errors
    /// [`RunError::ConfigSyntax`] for an argument without a key or a value, with an empty value, with a value that
    /// comes twice, or with brackets or quotes that do not close; for a key that comes twice or is inside another one;
    /// and for `name`, which all runs of a sweep share.
    pub fn parse(arguments: &[String]) -> Result<Self, RunError> {
        let mut axes: Vec<Axis> = Vec::new();
        for argument in arguments {
            let wrong =
                |message: String| RunError::ConfigSyntax { place: format!("grid argument {argument}"), message };
            let (key, values) =
                argument.split_once('=').ok_or_else(|| wrong("write it as section.key=value,value".into()))?;
            let key = key.trim();
            if key.is_empty() || key.split('.').any(str::is_empty) || key.contains(|c: char| c.is_whitespace()) {
                return Err(wrong(format!("{key:?} is no key; write it as section.key=value,value")));
            }
            if key == "name" {
                return Err(wrong("the runs of a sweep share their name; sweep over another key".into()));
            }
            for axis in &axes {
                let within =
                    |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
                if axis.key == key {
                    return Err(wrong(format!("`{key}` comes twice; give all its values in one argument")));
                }
                if within(&axis.key, key) || within(key, &axis.key) {
                    let message = format!("`{key}` and `{}` set the same thing; leave one of them out", axis.key);
                    return Err(wrong(message));
                }
            }
            let values = split(values).map_err(|message| wrong(message.into()))?;
            let mut seen = BTreeSet::new();
            for value in &values {
                if value.is_empty() {
                    return Err(wrong("a value is empty; write \"\" for an empty text".into()));
                }
                if !seen.insert(meaning(value)) {
                    return Err(wrong(format!("the value {value} comes twice")));
                }
            }
            axes.push(Axis { key: key.to_owned(), values });
        }
        Ok(Self { axes })
    }

    /// All cells: the last axis changes fastest.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = vec![Vec::<usize>::new()];
        for axis in &self.axes {
            cells = cells
                .into_iter()
                .flat_map(|cell| (0..axis.values.len()).map(move |value| [cell.as_slice(), &[value]].concat()))
                .collect();
        }
        let names: Vec<(String, Vec<String>)> =
            self.axes.iter().map(|axis| (self.short(axis), slugs(&axis.values))).collect();
        cells
            .into_iter()
            .map(|chosen| {
                let part = |((key, slugs), value): (&(String, Vec<String>), &usize)| {
                    format!("{key}={}", slugs.get(*value).map_or("", String::as_str))
                };
                let name = names.iter().zip(&chosen).map(part).collect::<Vec<_>>().join("_");
                let setting =
                    |(axis, value): (&Axis, &usize)| Some((axis.key.clone(), axis.values.get(*value)?.clone()));
                Cell {
                    name: if name.is_empty() { "as-it-is".into() } else { name },
                    settings: self.axes.iter().zip(&chosen).filter_map(setting).collect(),
                }
            })
            .collect()
    }

    /// The last part of an axis's key, with as many before it as tell it from every other.
    fn short(&self, axis: &Axis) -> String {
        let parts: Vec<&str> = axis.key.split('.').collect();
        let ends = |count: usize| parts.get(parts.len().saturating_sub(count)..).unwrap_or_default().join(".");
        let shared = |end: &str| {
            let others = self.axes.iter().filter(|other| other.key != axis.key);
            others.clone().any(|other| other.key == end || other.key.ends_with(&format!(".{end}")))
        };
        let short = (1..=parts.len()).map(ends).find(|end| !shared(end)).unwrap_or_else(|| axis.key.clone());
        slug(&short)
    }
}

/// Splits at commas that are in no brackets, braces or quotes.
fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut values = vec![String::new()];
    let mut open = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let length = if matches!(letter, '"' | '\'') { quoted(rest, letter)? } else { letter.len_utf8() };
        let (piece, after) = rest.split_at(length);
        rest = after;
        match letter {
            '[' => open.push(']'),
            '{' => open.push('}'),
            ']' | '}' => {
                let expected = open.pop();
                (expected == Some(letter)).then_some(()).ok_or("a bracket is closed that was not opened")?;
            }
            ',' if open.is_empty() => {
                values.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(value) = values.last_mut() {
            value.push_str(piece);
        }
    }
    if !open.is_empty() {
        return Err("a bracket does not close");
    }
    Ok(values.iter().map(|value| value.trim().to_owned()).collect())
}

/// Length in bytes of the string that `text` begins with, quotes included. As in TOML: three quotes in a row begin a string
/// of several lines, which three end, with up to two more before them that belong to it; a backslash escapes in "…" and
/// is a letter like others in '…'.
fn quoted(text: &str, quote: char) -> Result<usize, &'static str> {
    let of_lines = text.chars().take_while(|letter| *letter == quote).count() >= 3;
    let (begin, end) = if of_lines { (3, 3) } else { (1, 1) };
    let (mut escaped, mut in_a_row) = (false, 0);
    for (place, letter) in text.char_indices().skip(begin) {
        if letter == quote && !escaped {
            in_a_row += 1;
            let after = place + letter.len_utf8();
            let more = text[after..].starts_with(quote) && of_lines && in_a_row < 5;
            if in_a_row >= end && !more {
                return Ok(after);
            }
            continue;
        }
        in_a_row = 0;
        escaped = letter == '\\' && quote == '"' && !escaped;
    }
    Err("a quote does not close")
}

/// A value as the config takes it: TOML where it is TOML, else the text itself.
fn meaning(value: &str) -> String {
    match toml::from_str::<toml::Table>(&format!("value = {value}")) {
        Ok(table) => table.to_string(),
        Err(_) => toml::Table::from_iter([("value".to_owned(), toml::Value::from(value))]).to_string(),
    }
}

/// Names of an axis's values, each different.
fn slugs(values: &[String]) -> Vec<String> {
    let plain: Vec<String> = values.iter().map(|value| slug(value)).collect();
    let unique = |name: &String| plain.iter().filter(|other| other.to_lowercase() == name.to_lowercase()).count() == 1;
    values
        .iter()
        .zip(&plain)
        .map(|(value, name)| {
            if !name.is_empty() && name.len() <= LONGEST && unique(name) {
                return name.clone();
            }
            let hash = Fingerprint::of_bytes(value.as_bytes());
            let hash = hash.as_str().get(..8).unwrap_or_default();
            let start: String = name.chars().take(LONGEST).collect();
            if start.is_empty() { hash.to_owned() } else { format!("{start}-{hash}") }
        })
        .collect()
}

/// Letters, digits and a few signs of a text; a stretch of others is one `-`.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '+' | '_') {
            slug.push(letter);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    // A minus at the front is a value's own.
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Grid, RunError> {
        Grid::parse(&arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    fn values(argument: &str) -> Vec<String> {
        parse(&[argument]).unwrap().axes.remove(0).values
    }

    #[test]
    fn commas_in_brackets_and_quotes_do_not_split() {
        assert_eq!(values("a.b=1, 2,3"), ["1", "2", "3"]);
        assert_eq!(values("a=[1,2],[3, [4,5]]"), ["[1,2]", "[3, [4,5]]"]);
        assert_eq!(values("a={ x = 1, y = 2 },{}"), ["{ x = 1, y = 2 }", "{}"]);
        assert_eq!(values(r#"a="x,y",'p,q',z"#), [r#""x,y""#, "'p,q'", "z"]);
        assert_eq!(values(r#"a="x\",y",2"#), [r#""x\",y""#, "2"]);
        assert_eq!(values(r"a='x\',2"), [r"'x\'", "2"]);
        assert_eq!(values("a=x=1,y=2"), ["x=1", "y=2"]);
        assert_eq!(values("a=\"]\",[\"]\"]"), ["\"]\"", "[\"]\"]"]);
        assert_eq!(
            values(r#"a=["""'""""],''',''',"""x\""",y""","",2"#),
            [r#"["""'""""]"#, "''','''", r#""""x\""",y""""#, r#""""#, "2"]
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let message = |arguments: &[&str]| parse(arguments).unwrap_err().to_string();
        let cases: [(&[&str], &str); 12] = [
            (&["rho"], "grid argument rho: write it as section.key=value,value"),
            (&["=1"], "\"\" is no key"),
            (&["a..b=1"], "\"a..b\" is no key"),
            (&["a b=1"], "\"a b\" is no key"),
            (&["a="], "a value is empty"),
            (&["a=1,,2"], "a value is empty"),
            (&["a=1,2,1"], "the value 1 comes twice"),
            (&["a=x,\"x\""], "the value \"x\" comes twice"),
            (&["a=[1,2"], "a bracket does not close"),
            (&["a=1],[2"], "a bracket is closed that was not opened"),
            (&["a=1", "a=2"], "`a` comes twice"),
            (&["a.b=1", "a.b.c=2"], "set the same thing"),
        ];
        for (arguments, expected) in cases {
            assert!(message(arguments).contains(expected), "{arguments:?}: {}", message(arguments));
        }
        assert!(message(&["a='x"]).contains("a quote does not close"));
        assert!(message(&["name=a,b"]).contains("share their name"));
        assert!(parse(&["a.b=1", "a.bc=2"]).is_ok(), "only whole parts of a key count");
    }

    #[test]
    fn names_are_short_and_tell_what_differs() {
        let name = |arguments: &[&str]| {
            parse(arguments).unwrap().cells().into_iter().map(|cell| cell.name).collect::<Vec<_>>()
        };
        assert_eq!(
            name(&["selector.actor.options.rho=0.0,[0.0,0.4]", "meta_judge.pairs=false"]),
            ["rho=0.0_pairs=false", "rho=0.0-0.4_pairs=false"]
        );
        assert_eq!(name(&["sft.train.epochs=1", "train.epochs=2"]), ["sft.train.epochs=1_train.epochs=2"]);
        assert_eq!(
            name(&["selector.actor.options.rho=1", "selector.judge.options.rho=2"]),
            ["actor.options.rho=1_judge.options.rho=2"]
        );
        assert_eq!(name(&["epochs=1", "train.epochs=2"]), ["epochs=1_train.epochs=2"]);
        assert_eq!(name(&["a=-1,1"]), ["a=-1", "a=1"]);
        let clash = name(&["ranker.plugin=a/b.wasm,a-b.wasm"]);
        assert!(clash[0].starts_with("plugin=a-b.wasm-") && clash[0] != clash[1], "{clash:?}");
        assert_eq!(name(&[]), ["as-it-is"]);
    }

    fn value() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(|number| number.to_string()),
            any::<bool>().prop_map(|value| value.to_string()),
            "[a-z]{1,6}",
            // Anything that TOML takes in quotes.
            any::<String>()
                .prop_map(|text| toml::Value::from(text).to_string())
                .prop_filter("one line", |text| !text.contains('\n')),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            proptest::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(",")))
        })
    }

    proptest! {
        #[test]
        fn values_come_back_as_they_were_written(values in proptest::collection::vec(value(), 1..5)) {
            match Grid::parse(&[format!("a.b={}", values.join(","))]) {
                Ok(grid) => {
                    let written: Vec<&str> = values.iter().map(|value| value.trim()).collect();
                    prop_assert_eq!(&grid.axes[0].values, &written);
                }
                Err(error) => prop_assert!(error.to_string().ends_with("comes twice"), "{}", error),
            }
        }

        #[test]
        fn no_text_makes_it_panic_and_every_cell_has_a_name_of_its_own(arguments in proptest::collection::vec("\\PC{0,24}", 0..3)) {
            if let Ok(grid) = Grid::parse(&arguments) {
                let cells = grid.cells();
                let product: usize = grid.axes.iter().map(|axis| axis.values.len()).product();
                prop_assert_eq!(cells.len(), product);
                let names: BTreeSet<String> = cells.iter().map(|cell| cell.name.to_lowercase()).collect();
                prop_assert_eq!(names.len(), product);
                for cell in &cells {
                    prop_assert!(!cell.name.contains(['/', '\\', '\0']) && !cell.name.starts_with('.'));
                }
            }
        }

        #[test]
        fn cells_are_the_product(counts in proptest::collection::vec(1usize..4, 0..4)) {
            let arguments: Vec<String> = counts
                .iter()
                .enumerate()
                .map(|(axis, count)| {
                    let values: Vec<String> = (0..*count).map(|value| value.to_string()).collect();
                    format!("k{axis}={}", values.join(","))
                })
                .collect();
            let cells = Grid::parse(&arguments).unwrap().cells();
            prop_assert_eq!(cells.len(), counts.iter().product::<usize>());
            let settings: BTreeSet<Vec<(String, String)>> = cells.into_iter().map(|cell| cell.settings).collect();
            prop_assert_eq!(settings.len(), counts.iter().product::<usize>());
        }
    }
}
