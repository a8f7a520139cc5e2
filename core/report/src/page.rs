//! The page: shell, style, script, and the blocks of data.

use base64::{Engine, engine::general_purpose::STANDARD};
use metareward_runtime::RunReader;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    Figures, Options, ReportError, comparison,
    figures::{self, Block},
    pack::encode,
};

/// The page's style, part by part; what depends on the screen overrides the rest.
const STYLE: &[&str] = &[
    include_str!("../page/base.css"),
    include_str!("../page/figures.css"),
    include_str!("../page/browse.css"),
    include_str!("../page/screens.css"),
];

/// The page's script, part by part. All parts see each other; the last one begins.
const SCRIPT: &[&str] = &[
    include_str!("../page/elements.js"),
    include_str!("../page/charts.js"),
    include_str!("../page/summary.js"),
    include_str!("../page/models.js"),
    include_str!("../page/training.js"),
    include_str!("../page/scores.js"),
    include_str!("../page/meta.js"),
    include_str!("../page/stages.js"),
    include_str!("../page/compare.js"),
    include_str!("../page/browse.js"),
    include_str!("../page/prompt.js"),
    include_str!("../page/battles.js"),
    include_str!("../page/start.js"),
];

pub(crate) struct Page {
    pub html: String,
    pub prompts: u64,
}

pub(crate) fn page(runs: &[RunReader], options: &Options) -> Result<Page, ReportError> {
    if runs.is_empty() {
        return Err(ReportError::NoRuns);
    }
    let measured = runs.iter().map(|run| figures::measurements(run, options)).collect::<Result<Vec<_>, _>>()?;
    let budget = options.record_bytes / runs.len() as u64;
    let (mut of_runs, mut blocks) = (Vec::new(), Vec::new());
    for (number, (run, measurements)) in runs.iter().zip(&measured).enumerate() {
        let (figures, of_run) = figures::of_run(run, number, budget, options, measurements)?;
        of_runs.push(figures);
        blocks.extend(of_run);
    }
    let prompts = of_runs.iter().flat_map(|run| &run.places).map(|place| place.shown as u64).sum();
    let comparison = comparison::compare(runs, &measured, options)?;
    let figures = Figures { version: env!("CARGO_PKG_VERSION").into(), runs: of_runs, comparison };
    Ok(Page { html: assemble(&figures, &blocks)?, prompts })
}

fn assemble(figures: &Figures, blocks: &[Block]) -> Result<String, ReportError> {
    let script = format!("(() => {{\n\"use strict\";\n{}}})();\n", SCRIPT.join("\n"));
    let style = STYLE.join("\n");
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    let size: usize = blocks.iter().map(|block| block.content.len() + 100).sum();
    let mut html = String::with_capacity(size + (1 << 20));
    // The policy stands before anything that it is about: nothing is fetched, and no script runs but the one below.
    html.push_str(&format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" \
         content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n<title>{}</title>\n<style>{style}</style>\n\
         </head>\n<body>\n<main id=\"page\"><noscript><p>The figures of this report are drawn by a script inside this file. \
         Allow scripts to see them; nothing is fetched from anywhere.</p></noscript></main>\n",
        hash(&script),
        hash(&style),
        title(figures),
    ));
    html.push_str("<script type=\"application/json\" id=\"figures\">");
    html.push_str(&block(figures)?);
    // The script comes before the packs: the figures stand while the rest of the file is still being read.
    html.push_str("</script>\n<script>");
    html.push_str(&script);
    html.push_str("</script>\n");
    for Block { id, content } in blocks {
        html.push_str("<script type=\"application/gzip\" id=\"");
        html.push_str(id);
        html.push_str("\">");
        html.push_str(content);
        html.push_str("</script>\n");
    }
    html.push_str("</body>\n</html>\n");
    Ok(html)
}

/// JSON that cannot end its block, whatever its texts hold.
pub(crate) fn block<T: Serialize>(value: &T) -> Result<String, ReportError> {
    let json = serde_json::to_string(value).map_err(|error| encode("the figures", &error))?;
    let mut safe = String::with_capacity(json.len());
    // These letters occur in JSON only inside strings, where an escape means the same.
    for letter in json.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => safe.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => safe.push(letter),
        }
    }
    Ok(safe)
}

/// The window's title: names of the runs, with nothing that is markup or steers text.
fn title(figures: &Figures) -> String {
    let names: Vec<&str> = figures.runs.iter().map(|run| run.name.as_str()).collect();
    let plain = |letter: char| if letter.is_alphanumeric() || " -_.,".contains(letter) { letter } else { '·' };
    let names: String = names.join(", ").chars().map(plain).take(120).collect();
    format!("{names} – metareward")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_a_block() {
        let texts =
            ["</script><script>alert(1)</script>", "<!--<script>", "a\u{2028}b\u{2029}c", "\u{0}\u{1b}", "]]>&amp;"];
        let json = block(&texts).unwrap();
        assert!(!json.contains(['<', '>', '&', '\u{2028}', '\u{2029}', '\u{0}', '\u{1b}']), "{json}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), texts);
    }

    proptest::proptest! {
        #[test]
        fn any_text_comes_back_from_its_block(text in r"(?s)([<>&!/\-]|script|\PC|.){0,40}") {
            let json = block(&text).unwrap();
            proptest::prop_assert!(!json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{}", json);
            proptest::prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
