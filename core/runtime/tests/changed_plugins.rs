//! Plugins that change or fail under a run: refused or accepted, named, and nothing that still holds is computed again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scripted;

use std::{collections::BTreeMap, fs};

use metareward_api::Judgment;
use metareward_runtime::{Disk, Place, RunError, RunReader, Stage};
use scripted::{Lab, Recorder, plugins};

/// A short run with the rubric `reader`: what follows from a changed model is not the question here.
fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.set = vec![
        "rubric.plugin=reader".into(),
        "rubric.options={}".into(),
        "iterations=1".into(),
        "train.keep=last".into(),
        "evaluation.prompts=0".into(),
        "evaluation.judge_prompts=0".into(),
        "sft.enabled=false".into(),
    ];
    lab.write("experiment.toml", &without_rubric(&lab));
    lab
}

/// `reader` has no options, so those of the usual rubric go.
fn without_rubric(lab: &Lab) -> String {
    let text = fs::read_to_string(lab.root.path().join("experiment.toml")).unwrap();
    let start = text.find("[rubric]").unwrap();
    let end = text.find("[meta_judge]").unwrap();
    format!("{}{}", &text[..start], &text[end..])
}

fn judgments(lab: &Lab) -> Vec<Judgment> {
    let reader = RunReader::open(&lab.run_folder()).unwrap();
    reader.judgments(&Place::Iteration(1)).unwrap().map(Result::unwrap).collect()
}

/// Shards and statistics of the stages that are finished, by name.
fn stages(lab: &Lab) -> BTreeMap<String, Vec<u8>> {
    let mut records = lab.records();
    records.retain(|name, _| name.ends_with("stage.json"));
    records
}

#[test]
fn another_version_is_refused_and_nothing_is_touched() {
    let mut lab = lab();
    lab.run().0.unwrap();
    let before = lab.records();
    lab.registry = plugins::mended;
    let (outcome, counts) = lab.run();
    let error = outcome.unwrap_err();
    let text = error.to_string().replace(&lab.root.path().display().to_string(), "LAB");
    insta::assert_snapshot!(text, @"run folder LAB/run was made with other plugins: rubric of [rubric] was `reader` 1.0.0 (built in) and is now `reader` 1.1.0 (built in); go on in it with --accept-changed-plugins, which computes again what depends on them, or choose another folder");
    assert_eq!(error.exit_code(), 2);
    assert!(counts.is_empty(), "{counts:?}");
    assert_eq!(before, lab.records());
    lab.registry = plugins::registry;
    let (outcome, counts) = lab.run();
    outcome.unwrap();
    assert!(counts.is_empty(), "with the plugin as it was the run is as it was: {counts:?}");
}

#[test]
fn a_mended_parser_reads_the_texts_that_are_there() {
    let mut lab = lab();
    let (outcome, first) = lab.run();
    outcome.unwrap();
    let old = judgments(&lab);
    assert!(old.iter().any(|judgment| judgment.score.is_none() && judgment.text.ends_with("Score: 3")));

    lab.registry = plugins::mended;
    lab.accept_changed_plugins = true;
    let recorder = Recorder::default();
    let (outcome, counts) = lab.run_with(&recorder, Disk::default());
    outcome.unwrap();
    for kept in ["responses", "judgments"] {
        assert!(!counts.contains_key(kept), "{kept} were generated again: {counts:?}");
    }
    // Judgments that count now have new matches; the others keep their verdicts.
    let (new, all) = (counts.get("verdicts").copied().unwrap_or_default(), first["verdicts"]);
    assert!(new < all, "{new} of {all} verdicts were generated again");
    let read = judgments(&lab);
    assert_eq!(read.len(), old.len());
    for (old, new) in old.iter().zip(&read) {
        assert_eq!((&old.text, old.draw, old.response), (&new.text, new.draw, new.response));
        assert!(new.score.is_some() || !new.text.contains("Score"), "{new:?}");
    }
    assert!(recorder.warnings().iter().any(|warning| warning.contains("another plugin: rubric of [rubric] was")));
    let resumed = stages(&lab);

    // What ran from when is part of the record, and the next start needs no permission.
    let record = RunReader::open(&lab.run_folder()).unwrap().record().clone();
    let [accepted] = record.plugin_changes.as_slice() else { panic!("{:?}", record.plugin_changes) };
    assert_eq!(accepted.time, 1_700_000_000.0);
    assert_eq!((accepted.change.before.version.as_str(), accepted.change.after.version.as_str()), ("1.0.0", "1.1.0"));
    lab.accept_changed_plugins = false;
    let before = lab.records();
    let (outcome, counts) = lab.run();
    outcome.unwrap();
    assert!(counts.is_empty(), "{counts:?}");
    assert_eq!(before, lab.records());

    // Reading what was there gives the same bytes as asking again.
    lab.remove_run();
    lab.run().0.unwrap();
    assert_eq!(stages(&lab), resumed);
}

#[test]
fn going_back_to_the_plugin_before_finds_everything() {
    let mut lab = lab();
    lab.run().0.unwrap();
    let first = stages(&lab);
    lab.accept_changed_plugins = true;
    lab.registry = plugins::mended;
    lab.run().0.unwrap();
    lab.registry = plugins::registry;
    let (outcome, counts) = lab.run();
    outcome.unwrap();
    assert!(counts.is_empty(), "{counts:?}");
    assert_eq!(stages(&lab), first);
    let changes = RunReader::open(&lab.run_folder()).unwrap().record().plugin_changes.clone();
    let after: Vec<&str> = changes.iter().map(|accepted| accepted.change.after.version.as_str()).collect();
    assert_eq!(after, ["1.1.0", "1.0.0"]);
}

#[test]
fn a_swapped_plugin_counts_as_a_changed_one_and_changed_options_do_not() {
    let mut lab = lab();
    lab.run().0.unwrap();
    lab.set.push("ranker.options.regularization=0.5".into());
    lab.run().0.unwrap();
    lab.set.push("sampler.judge.plugin=sharp".into());
    let error = lab.run().0.unwrap_err();
    let RunError::ChangedPlugins { changes, .. } = &error else { panic!("{error}") };
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].section.as_str(), changes[0].after.name.as_str()), ("sampler.judge", "sharp"));
}

#[test]
fn more_judgments_cost_only_those_that_are_new() {
    let mut lab = lab();
    let (outcome, counts) = lab.run();
    outcome.unwrap();
    let responses = counts["judgments"] / 4;
    lab.set.push("judge.judgments=6".into());
    let (outcome, counts) = lab.run();
    outcome.unwrap();
    assert_eq!(counts["judgments"], responses * 2);
    let more = stages(&lab);
    lab.remove_run();
    lab.run().0.unwrap();
    assert_eq!(stages(&lab), more);
}

#[test]
fn a_plugin_that_fails_in_the_middle_loses_nothing() {
    let mut lab = lab();
    lab.set[0] = "rubric.plugin=fragile".into();
    let (outcome, all) = lab.run();
    outcome.unwrap();
    let whole = lab.records();
    let made = judgments(&lab);
    let unique = |text: &str| made.iter().filter(|judgment| judgment.text == text).count() == 1;
    // In the second shard, so that there is one before it.
    let doomed = made.iter().rev().find(|judgment| unique(&judgment.text)).unwrap();
    let first_shard = RunReader::open(&lab.run_folder()).unwrap();
    let first_shard = first_shard.stage(&Place::Iteration(1), Stage::Judgments).unwrap().unwrap().shards[0].clone();

    lab.remove_run();
    *plugins::POISON.lock().unwrap() = Some(doomed.text.clone());
    let (outcome, before) = lab.run();
    let (again, nothing) = lab.run();
    *plugins::POISON.lock().unwrap() = None;
    let error = outcome.unwrap_err();
    assert_eq!(again.unwrap_err(), error, "as long as the plugin is not mended, it fails the same way");
    assert!(nothing.is_empty(), "what was generated for it waits: {nothing:?}");
    assert_eq!(
        error.to_string(),
        format!(
            "prompt {}, response {}, judgment {}: rubric fragile failed in parse: unreachable instruction",
            doomed.prompt, doomed.response, doomed.draw
        )
    );
    assert_eq!(error.exit_code(), 3);
    assert!(
        lab.run_folder().join("iteration-1/judgments").join(first_shard.file).is_file(),
        "finished shards are kept"
    );

    let (outcome, after) = lab.run();
    outcome.unwrap();
    for made in ["responses", "judgments"] {
        assert!(before[made] == all[made] && !after.contains_key(made), "{made}: {before:?}, then {after:?}");
    }
    assert_eq!(whole, lab.records());
}
