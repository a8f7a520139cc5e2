//! Stopped or crashed anywhere and started again, a run ends with the same bytes; changed options recompute what depends
//! on them and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scripted;

use std::{
    collections::BTreeSet,
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use metareward_runtime::{Disk, Event, Operation, Place, RunError, RunReader, Stage, Statistics};
use scripted::{Lab, Recorder};

#[test]
fn a_run_goes_from_the_seed_to_the_last_model() {
    let lab = Lab::new();
    let (outcome, counts) = lab.run();
    let names: Vec<String> = outcome.unwrap().models.into_iter().map(|model| model.name).collect();
    assert_eq!(names, ["seed", "sft", "M1", "M2"]);
    assert_eq!(counts["responses"], 2 * 4 * 4 + 4 * 3 * 2);

    let reader = RunReader::open(&lab.run_folder()).unwrap();
    assert_eq!(reader.models().unwrap().len(), 4);
    let pairs: Vec<_> = reader.pairs(1).unwrap().collect::<Result<_, _>>().unwrap();
    assert!(!pairs.is_empty());
    for pair in &pairs {
        assert!(pair.chosen.score > pair.rejected.score);
        assert_ne!(pair.chosen.text, pair.rejected.text);
    }
    let unpaired = reader.records::<metareward_runtime::Unpaired>(&Place::Iteration(1), Stage::Unpaired).unwrap();
    assert_eq!(pairs.len() + unpaired.count(), 2 * 4, "every prompt is accounted for, for both kinds");
    let reference = reader.records::<metareward_runtime::ReferenceLogProbs>(&Place::Iteration(1), Stage::Reference);
    assert_eq!(reference.unwrap().count(), pairs.len());
    let first: Vec<_> = reader.prompts(&Place::Iteration(1)).unwrap().map(|prompt| prompt.unwrap().id).collect();
    let second: Vec<_> = reader.prompts(&Place::Iteration(2)).unwrap().map(|prompt| prompt.unwrap().id).collect();
    assert!(first.iter().all(|id| !second.contains(id)), "iterations take disjoint prompts");
    for judgment in reader.judgments(&Place::Iteration(1)).unwrap().map(Result::unwrap) {
        assert_ne!(judgment.score.is_some(), judgment.unreadable.is_some());
    }
    let judgments: Vec<_> = reader.judgments(&Place::Iteration(1)).unwrap().map(Result::unwrap).collect();
    for pair in pairs.iter().filter(|pair| pair.response.is_none()) {
        let of = |draw| judgments.iter().filter(move |j| j.prompt == pair.prompt && j.response == draw);
        let scores: Vec<f64> = of(pair.chosen.draw).filter_map(|judgment| judgment.score).collect();
        let reward = scores.iter().sum::<f64>() / scores.len() as f64;
        assert!((pair.chosen.score - reward).abs() < 1e-12, "a reward is the mean of the readable scores");
    }
    assert_eq!(epochs(&lab, 1), Vec::<String>::new(), "the model is kept, other checkpoints are not");
}

/// Checkpoints that an iteration's training left.
fn epochs(lab: &Lab, iteration: u32) -> Vec<String> {
    let folder = lab.run_folder().join(format!("iteration-{iteration}/training"));
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("epoch")).collect();
    names.sort();
    names
}

#[test]
fn the_checkpoint_of_the_stated_epoch_becomes_the_model() {
    let mut lab = Lab::new();
    lab.set = vec!["store.checkpoints=all".into(), "train.validation_share=0.3".into(), "train.keep=[2, best]".into()];
    // A list with a bare word is no TOML: quoted, it is one.
    assert!(lab.open().is_err());
    lab.set.pop();
    lab.set.push("train.keep=[2, \"best\"]".into());
    lab.run().0.unwrap();
    assert_eq!(epochs(&lab, 1), ["epoch-1", "epoch-2"], "epochs after the kept one are not run");
    assert_eq!(epochs(&lab, 2), ["epoch-1", "epoch-2", "epoch-3"]);
    // The scripted validation losses are 2, 0, 1.
    for iteration in [1, 2] {
        let folder = lab.run_folder().join(format!("iteration-{iteration}"));
        let kept = fs::read(folder.join("training/epoch-2/model.safetensors")).unwrap();
        assert_eq!(fs::read(folder.join("model/model.safetensors")).unwrap(), kept);
    }
}

#[test]
fn a_second_start_computes_nothing() {
    let lab = Lab::new();
    lab.run().0.unwrap();
    let before = lab.records();
    let (outcome, counts) = lab.run();
    outcome.unwrap();
    assert!(counts.is_empty(), "{counts:?}");
    assert_eq!(before, lab.records());
}

#[test]
fn stopped_at_any_point_and_resumed_gives_the_same_bytes() {
    let lab = Lab::new();
    lab.run().0.unwrap();
    let whole = lab.records();
    let mut after = 0;
    loop {
        lab.remove_run();
        let recorder = Recorder { stop_after: Some(after), ..Recorder::default() };
        let (outcome, _) = lab.run_with(&recorder, Disk::default());
        if outcome.is_ok() {
            break;
        }
        assert_eq!(outcome, Err(RunError::Stopped));
        lab.run().0.unwrap();
        assert_eq!(whole, lab.records(), "stopped after {after} questions");
        after += 3;
    }
    assert!(after > 100, "only {after} points were tried");
}

#[test]
fn crashed_at_any_change_of_the_disk_and_resumed_gives_the_same_bytes() {
    let lab = Lab::new();
    lab.run().0.unwrap();
    let whole = lab.records();
    let mut tried = 0;
    for last in 0.. {
        lab.remove_run();
        let changes = Arc::new(AtomicU64::new(0));
        let counter = changes.clone();
        // From the n-th change on nothing reaches the disk any more, as after a kill.
        let disk = Disk::with_fault(Arc::new(move |operation, _| {
            // Logs are written after the fact; they have a test of their own.
            if operation != Operation::Append && counter.fetch_add(1, Ordering::Relaxed) >= last {
                return Err(io::Error::other("crash"));
            }
            Ok(())
        }));
        let (outcome, _) = lab.run_with(&Recorder::default(), disk);
        if outcome.is_ok() {
            break;
        }
        lab.run().0.unwrap();
        assert_eq!(whole, lab.records(), "crashed at change {last}");
        tried += 1;
    }
    assert!(tried > 100, "only {tried} points were tried");
}

#[test]
fn a_log_that_cannot_be_written_ends_the_run_and_loses_nothing() {
    let lab = Lab::new();
    lab.run().0.unwrap();
    let whole = lab.records();
    for last in (0..).step_by(7) {
        lab.remove_run();
        let lines = Arc::new(AtomicU64::new(0));
        let disk = Disk::with_fault(Arc::new(move |operation, _| {
            if operation == Operation::Append && lines.fetch_add(1, Ordering::Relaxed) >= last {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            Ok(())
        }));
        match lab.run_with(&Recorder::default(), disk).0 {
            Ok(_) => break,
            Err(error) => assert!(matches!(error, RunError::DiskFull { .. }), "{error}"),
        }
        lab.run().0.unwrap();
        assert_eq!(whole, lab.records(), "failed at line {last}");
    }
}

#[test]
fn every_stage_tells_what_it_shows() {
    let lab = Lab::new();
    let recorder = Recorder::default();
    lab.run_with(&recorder, Disk::default()).0.unwrap();
    let events = recorder.events.lock().unwrap();
    let shown = |wanted: Stage| {
        events
            .iter()
            .find_map(|event| match event {
                Event::StageFinished { place: Place::Iteration(1), stage, statistics, .. } if *stage == wanted => {
                    Some(statistics.clone())
                }
                _ => None,
            })
            .unwrap()
    };
    let Statistics::Judgments(judgments) = shown(Stage::Judgments) else { panic!("judgments") };
    assert_eq!(judgments.histogram.iter().map(|entry| entry.count).sum::<u64>(), judgments.score.count);
    assert_eq!(judgments.score.count + judgments.failure_rate().count, judgments.judgments);
    let Statistics::Verdicts(verdicts) = shown(Stage::Verdicts) else { panic!("verdicts") };
    assert_eq!(verdicts.first.of, verdicts.first_equal.of + verdicts.first_different.of);
    assert_eq!(verdicts.first.count, verdicts.first_equal.count + verdicts.first_different.count);
    assert_eq!(verdicts.higher_wins.of, verdicts.first_different.of);
    assert!(verdicts.first.of > 0);
    let Statistics::Pairs(pairs) = shown(Stage::Pairs) else { panic!("pairs") };
    let (actor, judge) = (pairs.actor.unwrap(), pairs.judge.unwrap());
    assert_eq!((actor.unit.as_str(), actor.pairs + actor.none.values().sum::<u64>()), ("characters", 4));
    assert_eq!(judge.pairs + judge.none.values().sum::<u64>(), 4);
    assert_eq!(actor.chosen_length.count, actor.pairs);
    let Statistics::Training(training) = shown(Stage::Training) else { panic!("training") };
    assert_eq!((training.actor_pairs, training.judge_pairs), (actor.pairs, judge.pairs));
    let shares: Vec<f64> = events
        .iter()
        .filter_map(|event| match event {
            Event::StageProgress { place: Place::Iteration(1), stage: Stage::Judgments, share, .. } => Some(*share),
            _ => None,
        })
        .collect();
    assert!(shares.is_sorted() && shares.last() == Some(&1.0), "{shares:?}");
    let boards = lab.run_folder().join("tensorboard");
    let board = fs::read_dir(boards).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(board).unwrap();
    for tag in ["judgments/score", "iteration-1/loss", "sft/learning_rate"] {
        assert!(bytes.windows(tag.len()).any(|window| window == tag.as_bytes()), "{tag}");
    }
}

#[test]
fn a_changed_rubric_keeps_the_responses_and_a_changed_rho_keeps_the_judgments() {
    let mut lab = Lab::new();
    // One iteration without evaluation: what follows from a changed model is not the question here.
    lab.set = vec![
        "iterations=1".into(),
        "train.keep=last".into(),
        "evaluation.prompts=0".into(),
        "evaluation.judge_prompts=0".into(),
        "sft.enabled=false".into(),
    ];
    lab.run().0.unwrap();
    let first = lab.records();
    let base = lab.set.clone();

    lab.set.push("selector.actor.options.rho=0.4".into());
    let (outcome, counts) = lab.run();
    outcome.unwrap();
    for kept in ["responses", "judgments", "verdicts"] {
        assert!(!counts.contains_key(kept), "{kept} were computed again: {counts:?}");
    }
    let second = lab.records();
    for (name, bytes) in &first {
        if name.ends_with(".jsonl") && !name.contains("training") {
            assert_eq!(second.get(name), Some(bytes), "{name} was destroyed");
        }
    }

    lab.set = base.clone();
    lab.set.push("rubric.options.template=JUDGE anew {{prompt}} | {{response}}".into());
    let (outcome, counts) = lab.run();
    outcome.unwrap();
    assert!(!counts.contains_key("responses"), "{counts:?}");
    assert!(counts["judgments"] > 0 && counts["verdicts"] > 0 && counts["trained"] > 0);

    lab.set = base;
    let (outcome, counts) = lab.run();
    outcome.unwrap();
    assert!(counts.is_empty(), "switching back takes everything from disk, the model too: {counts:?}");
    let again = lab.records();
    for name in ["iteration-1/model/model.safetensors", "iteration-1/pairs/stage.json"] {
        assert_eq!(again.get(name), first.get(name), "{name}");
    }
}

#[test]
fn a_damaged_shard_is_noticed_and_made_anew() {
    let lab = Lab::new();
    lab.run().0.unwrap();
    let whole = lab.records();
    let name = whole.keys().find(|name| name.contains("iteration-1/judgments/00001") && name.ends_with("jsonl"));
    let name = name.unwrap();
    let path = lab.run_folder().join(name);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 40]).unwrap();
    let recorder = Recorder::default();
    let (outcome, counts) = lab.run_with(&recorder, Disk::default());
    outcome.unwrap();
    assert!(counts["judgments"] > 0 && !counts.contains_key("responses") && !counts.contains_key("trained"));
    assert_eq!(lab.records().get(name), whole.get(name));
    assert!(recorder.warnings().iter().any(|warning| warning.contains("damaged")), "{:?}", recorder.warnings());
}

#[test]
fn a_torn_last_line_of_the_log_is_cut() {
    let lab = Lab::new();
    lab.run().0.unwrap();
    let path = lab.run_folder().join("events.jsonl");
    let mut log = fs::read(&path).unwrap();
    let whole = log.len();
    log.extend_from_slice(b"{\"time\": 17000");
    fs::write(&path, &log).unwrap();
    lab.run().0.unwrap();
    let after = fs::read_to_string(&path).unwrap();
    assert_eq!(&after.as_bytes()[..whole], &log[..whole]);
    for line in after.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value["time"].is_number() && value["event"].is_string());
    }
}

#[test]
fn self_rewarding_is_a_config() {
    let mut lab = Lab::new();
    lab.set = vec!["meta_judge.pairs=false".into()];
    let (outcome, counts) = lab.run();
    outcome.unwrap();
    assert!(!counts.contains_key("verdicts"), "{counts:?}");
    assert!(!lab.run_folder().join("iteration-1/verdicts").exists());
}

#[test]
fn pairs_of_earlier_iterations_are_carried_over() {
    let mut lab = Lab::new();
    lab.set = vec!["pairs.carry_over=[0, 1]".into(), "pairs.judge_share=0.5".into(), "pairs.reference=initial".into()];
    lab.run().0.unwrap();
    let reader = RunReader::open(&lab.run_folder()).unwrap();
    let count = |iteration| reader.stage(&Place::Iteration(iteration), Stage::Pairs).unwrap().unwrap().records;
    let reference = reader.stage(&Place::Iteration(2), Stage::Reference).unwrap().unwrap();
    assert_eq!(reference.records, count(1) + count(2));
}

#[test]
fn another_model_may_judge() {
    let mut lab = Lab::new();
    lab.set = vec![r#"roles.judge=["data-model", "initial"]"#.into()];
    lab.run().0.unwrap();
    let records = lab.records();
    // The former name of the key is the same key.
    lab.set = vec![r#"judge.model=["data-model", "initial"]"#.into()];
    let (outcome, counts) = lab.run();
    outcome.unwrap();
    assert!(counts.is_empty() && lab.records() == records, "{counts:?}");
    lab.set.push("roles.judge=initial".into());
    let both = lab.run().0.unwrap_err().to_string();
    assert!(both.contains("it is the former name of roles.judge"), "{both}");
    let reader = RunReader::open(&lab.run_folder()).unwrap();
    let responses = |iteration| -> BTreeSet<String> {
        reader.responses(&Place::Iteration(iteration)).unwrap().map(|record| record.unwrap().model).collect()
    };
    let judgments = |iteration| -> BTreeSet<String> {
        reader.judgments(&Place::Iteration(iteration)).unwrap().map(|record| record.unwrap().model).collect()
    };
    assert_eq!(judgments(1), responses(1));
    assert_eq!(judgments(2), responses(1));
    assert_ne!(responses(2), responses(1));
}
