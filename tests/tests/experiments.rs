//! Every folder of `experiments/`: it is complete, its config loads and can be planned, and what it expects can be read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use metareward_tests::{metareward, root, text};
use serde::Deserialize;

/// `expected.json`: what a paper reports.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// Whose figures they are.
    paper: String,
    /// Empty where there are none.
    figures: Vec<Figure>,
    /// What a reader should know of them.
    remarks: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Figure {
    /// Table or figure.
    source: String,
    benchmark: String,
    metric: String,
    unit: String,
    /// `seed`, `sft`, `M1` …, or a setting in words.
    model: String,
    value: f64,
    /// The interval's ends, where the paper gives one.
    low: Option<f64>,
    high: Option<f64>,
}

/// Folders of experiments, sorted.
fn folders() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("experiments")).unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(folders.len() >= 12, "{folders:?}");
    folders
}

fn expected(folder: &Path) -> Expected {
    let path = folder.join("expected.json");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_experiment_says_what_it_is_for_and_can_be_planned() {
    for folder in folders() {
        let readme = fs::read_to_string(folder.join("README.md")).unwrap();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        assert!(readme.starts_with(&format!("# {name}")), "{name}: the title is the folder's name");
        assert!(readme.contains("**What we measured") || readme.contains("**Question.**"), "{name}: what was measured");
        assert!(readme.contains(&format!("experiments/{name}")), "{name}: no command");
        let output = metareward(["--json", "plan"]).arg(&folder).output().unwrap();
        let (plan, messages) = text(&output);
        assert!(output.status.success(), "{name}: {messages}");
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
        let calls: u64 = plan["stages"].as_array().unwrap().iter().map(|cost| cost["calls"].as_u64().unwrap()).sum();
        assert!(calls > 0, "{name}: {plan}");
    }
}

#[test]
fn what_papers_report_can_be_read() {
    for folder in folders() {
        let Expected { paper, figures, remarks } = expected(&folder);
        let place = folder.display();
        assert!(!paper.is_empty(), "{place}");
        assert!(!figures.is_empty() || !remarks.is_empty(), "{place}: without figures, remarks say why");
        let mut seen = BTreeSet::new();
        for figure in figures {
            let Figure { source, benchmark, metric, unit, model, value, low, high } = figure;
            let key = (source, benchmark, metric, model);
            for word in [&key.0, &key.1, &key.2, &unit, &key.3] {
                assert!(!word.is_empty(), "{place}: {key:?}");
            }
            assert!(value.is_finite(), "{place}: {key:?}");
            assert_eq!(low.is_some(), high.is_some(), "{place}: {key:?}: an interval has two ends");
            assert!(low.is_none_or(|low| low <= value) && high.is_none_or(|high| value <= high), "{place}: {key:?}");
            assert!(unit != "%" || (0.0..=100.0).contains(&value), "{place}: {key:?}: {value}");
            assert!(seen.insert(key.clone()), "{place}: {key:?} is there twice");
        }
    }
}

#[test]
fn the_papers_headline_is_where_one_looks_for_it() {
    let value = |folder: &str, metric: &str, model: &str| {
        let found = expected(&root().join("experiments").join(folder));
        let fits = |figure: &&Figure| figure.source == "Table 1" && figure.metric == metric && figure.model == model;
        found.figures.iter().find(fits).unwrap_or_else(|| panic!("{folder}: {metric} of {model}")).value
    };
    assert_eq!(value("meta-rewarding-llama3-8b", "length-controlled win rate", "M4"), 39.44);
    assert_eq!(value("meta-rewarding-llama3-8b", "mean length", "M4"), 2003.0);
    assert_eq!(value("self-rewarding-llama3-8b", "length-controlled win rate", "M4"), 35.49);
    // Both tables have the seed model and SFT in common.
    for model in ["seed", "sft"] {
        for metric in ["length-controlled win rate", "win rate", "mean length"] {
            let of = |folder| value(folder, metric, model);
            assert_eq!(of("meta-rewarding-llama3-8b"), of("self-rewarding-llama3-8b"));
        }
    }
}
