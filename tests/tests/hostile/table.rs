//! The table of what was tried and what came of it: one row per case, kept in `tests/hostile-plugins/README.md`.

use std::fs;

use metareward_tests::root;

/// What came of one case.
pub struct Row {
    pub what: &'static str,
    pub form: &'static str,
    pub came: String,
}

/// Where the table begins in the README.
const HEAD: &str = "| what it does | form | what comes of it |\n| --- | --- | --- |\n";

/// Longest text of a cell.
const WIDTH: usize = 200;

/// The text as a cell, without what differs from build to build.
fn cell(text: &str) -> String {
    let mut words = Vec::new();
    for word in text.split(' ') {
        let hex = word.trim_end_matches([',', ';', ':', ')']);
        let rest = &word[hex.len()..];
        let is_hash = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        words.push(match word.split_once(".rs:") {
            Some((source, _)) => format!("{source}.rs:"),
            None if is_hash => format!("(hash){rest}"),
            None => word.to_owned(),
        });
    }
    let mut text = words.join(" ");
    if text.chars().count() > WIDTH {
        text = text.chars().take(WIDTH).collect::<String>() + "…";
    }
    text.replace('|', "\\|")
}

/// Prints the table, and compares it with the README's; `METAREWARD_BLESS=1` writes it there instead.
pub fn compare(rows: &[Row]) {
    let rows: String =
        rows.iter().map(|row| format!("| {} | {} | {} |\n", row.what, row.form, cell(&row.came))).collect();
    let table = format!("{HEAD}{rows}");
    println!("{table}");
    let path = root().join("tests/hostile-plugins/README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let start = readme.find(HEAD).expect("the README has a table");
    let whole = format!("{}{table}", &readme[..start]);
    if std::env::var_os("METAREWARD_BLESS").is_some() {
        fs::write(&path, whole).unwrap();
    } else {
        assert!(readme == whole, "the table in {} is not this one; METAREWARD_BLESS=1 writes it", path.display());
    }
}
