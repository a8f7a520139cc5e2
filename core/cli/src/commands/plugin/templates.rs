//! The files of new plugins, taken into the binary by the build script.

use std::collections::BTreeSet;

use metareward_api::Kind;

use crate::args::Language;

include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// A file of a new plugin: its path in the folder, and its text with placeholders.
pub struct Template {
    /// Path below the new folder, with `/`.
    pub path: String,
    /// Text, in which `{{name}}` and the others are still to be replaced.
    pub text: &'static str,
}

/// The template files of a kind in a language; none where there is no such template.
pub fn files(language: Language, kind: Kind) -> Vec<Template> {
    let folder = format!("{}/{kind}/", language.folder());
    let below = |(path, text): &(&str, &'static str)| {
        let path = path.strip_prefix(&folder)?;
        let path = path.strip_suffix(".template").unwrap_or(path);
        let path = if path == "gitignore" { ".gitignore" } else { path };
        Some(Template { path: path.to_owned(), text })
    };
    FILES.iter().filter_map(below).collect()
}

/// The contract, as the languages read it that have no SDK of ours.
pub fn wit() -> impl Iterator<Item = Template> {
    WIT.iter().map(|(path, text)| Template { path: format!("wit/{path}"), text })
}

/// The kinds that there are templates of in a language.
pub fn kinds(language: Language) -> BTreeSet<&'static str> {
    let folder = format!("{}/", language.folder());
    FILES.iter().filter_map(|(path, _)| path.strip_prefix(&folder)?.split_once('/')).map(|(kind, _)| kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use metareward_host::KINDS;

    #[test]
    fn every_kind_can_be_begun_in_every_language() {
        let all: BTreeSet<String> = KINDS.into_iter().map(|kind| kind.to_string()).collect();
        for language in [Language::Rust, Language::Python, Language::Js] {
            assert_eq!(kinds(language).into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), all, "{language:?}");
            for kind in KINDS {
                let files = files(language, kind);
                assert!(files.iter().any(|file| file.path == "README.md"), "{language:?} {kind}");
                assert!(files.iter().any(|file| file.text.contains("{{name}}")), "{language:?} {kind}");
            }
        }
        assert!(wit().any(|file| file.path == "wit/types.wit" && file.text.contains("package metareward:plugin")));
    }
}
