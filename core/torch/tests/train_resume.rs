//! Training stopped anywhere goes on to the same bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod train_support;

use std::{collections::BTreeMap, fs, path::Path, sync::Mutex};

use metareward_api::{EngineError, Lora, Progress, StepMetrics, TrainData, TrainJob, TrainReport, Trainer, Watch};
use train_support::{Dpo, Pairs, Steps, copy, dpo_records, files, in_order, job, settings, trainer};

const DPO: Dpo = Dpo { beta: 0.1 };

fn dpo_job<'a>(folder: &Path, data: &'a Pairs, save_steps: u32) -> TrainJob<'a> {
    let mut settings = settings();
    settings.save_steps = save_steps;
    // Several micro-batches per step, also where chosen and rejected share their prompt.
    settings.micro_batch_tokens = 40;
    let epochs = vec![vec![vec![0, 3, 1], vec![4, 2, 5]], vec![vec![5, 4, 3], vec![2, 1, 0], vec![6, 0, 1]]];
    let mut job = job("dpo-model", folder, TrainData::Preference { data, optimizer: &DPO }, epochs, settings);
    job.validation = vec![7, 8, 9];
    job
}

fn run(folder: &Path, data: &Pairs, save_steps: u32, watch: &dyn Watch) -> Result<TrainReport, EngineError> {
    trainer(2).train(&dpo_job(folder, data, save_steps), watch)
}

/// The files of a finished run; the report without its folders, which differ.
fn outcome(folder: &Path, report: &TrainReport) -> (BTreeMap<String, Vec<u8>>, String) {
    let mut report = report.clone();
    for epoch in &mut report.epochs {
        assert!(epoch.folder.starts_with(folder));
        epoch.folder = epoch.folder.file_name().unwrap().into();
    }
    (files(folder), serde_json::to_string(&report).unwrap())
}

fn uninterrupted(data: &Pairs, save_steps: u32) -> (BTreeMap<String, Vec<u8>>, String) {
    let folder = tempfile::tempdir().unwrap();
    let report = run(folder.path(), data, save_steps, &Steps::default()).unwrap();
    outcome(folder.path(), &report)
}

#[test]
fn a_run_has_a_log_a_state_and_a_folder_per_epoch() {
    let data = dpo_records();
    let (files, report) = uninterrupted(&data, 2);
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert!(names.contains(&"log.jsonl") && names.contains(&"state/training.safetensors"));
    for epoch in 1..=2 {
        for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
            assert!(names.contains(&format!("epoch-{epoch}/{name}").as_str()), "{names:?}");
        }
    }
    assert!(names.iter().all(|name| !name.contains("tmp")), "{names:?}");
    let log: Vec<StepMetrics> = String::from_utf8(files["log.jsonl"].clone())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        log.iter().map(|step| (step.epoch, step.step)).collect::<Vec<_>>(),
        [(1, 1), (1, 2), (2, 3), (2, 4), (2, 5)]
    );
    // The plugin's metric is the number of pairs that it saw at once: micro-batches of 2 and 1 pairs, averaged over pairs.
    assert_eq!(log[0].extra["pairs"], (2.0 * 2.0 + 1.0) / 3.0);
    let report: TrainReport = serde_json::from_str(&report).unwrap();
    assert_eq!((report.steps, report.truncated), (5, 0));
    assert_eq!(report.first_loss, log[0].loss);
    assert_eq!(report.epochs[0].train_loss, (log[0].loss + log[1].loss) / 2.0);
    assert!(report.epochs.iter().all(|epoch| epoch.validation_loss.is_some_and(|loss| loss > 0.0 && loss < 2.0)));
}

#[test]
fn two_runs_and_any_number_of_threads_give_the_same_bytes() {
    let data = dpo_records();
    let expected = uninterrupted(&data, 2);
    for threads in [1, 2, 3] {
        let folder = tempfile::tempdir().unwrap();
        let report = trainer(threads).train(&dpo_job(folder.path(), &data, 2), &Steps::default()).unwrap();
        assert!(outcome(folder.path(), &report) == expected, "{threads} threads");
    }
}

/// Stops at every look at `stop`: before every step, inside steps and inside validation.
#[test]
fn stopping_anywhere_changes_nothing() {
    let data = dpo_records();
    let expected = uninterrupted(&data, 0);
    let mut stops = 0;
    for look in 1.. {
        let folder = tempfile::tempdir().unwrap();
        match run(folder.path(), &data, 0, &Steps::stop_at_look(look)) {
            Err(EngineError::Stopped) => stops += 1,
            Ok(_) => break,
            Err(error) => panic!("{error}"),
        }
        let report = run(folder.path(), &data, 0, &Steps::default()).unwrap();
        assert!(outcome(folder.path(), &report) == expected, "stopped at look {look}");
    }
    assert!(stops >= 12, "{stops} stops");
}

/// Stops again and again after one step each.
#[test]
fn many_stops_change_nothing() {
    let data = dpo_records();
    let expected = uninterrupted(&data, 0);
    let folder = tempfile::tempdir().unwrap();
    let mut stops = 0;
    let report = loop {
        match run(folder.path(), &data, 0, &Steps::stop_after(1)) {
            Err(EngineError::Stopped) => stops += 1,
            Ok(report) => break report,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(stops, 5);
    assert!(outcome(folder.path(), &report) == expected);
}

/// Copies the training folder after every step, as a killed process would leave it.
struct Copier<'a> {
    folder: &'a Path,
    copies: Mutex<Vec<tempfile::TempDir>>,
}

impl Copier<'_> {
    fn take(&self) {
        let target = tempfile::tempdir().unwrap();
        copy(self.folder, target.path());
        self.copies.lock().unwrap().push(target);
    }
}

impl Watch for Copier<'_> {
    fn progress(&self, _: Progress) {
        self.take();
    }

    fn step(&self, _: &StepMetrics, _: f64) {
        self.take();
    }

    fn stop(&self) -> bool {
        self.take();
        false
    }
}

/// What a kill at any moment can leave besides whole files.
fn add_leftovers(folder: &Path, kind: usize) {
    let state = folder.join("state");
    fs::create_dir_all(&state).unwrap();
    match kind {
        0 => {}
        1 => {
            fs::write(state.join("training.safetensors.tmp"), b"half a st").unwrap();
            fs::create_dir_all(folder.join("epoch-1.tmp")).unwrap();
            fs::write(folder.join("epoch-1.tmp/model.safetensors"), b"half").unwrap();
        }
        2 => {
            // An epoch written just before the state that counts it.
            let epoch = (1..).map(|epoch| folder.join(format!("epoch-{epoch}"))).find(|epoch| !epoch.exists()).unwrap();
            if !folder.join("epoch-2").exists() {
                fs::create_dir_all(&epoch).unwrap();
                fs::write(epoch.join("stale"), b"of the step before").unwrap();
            }
        }
        _ => {
            // Lines after the state's step, the last one cut short.
            let log = folder.join("log.jsonl");
            let mut text = fs::read(&log).unwrap_or_default();
            text.extend_from_slice(b"{\"step\":99,\"epoch\":1}\n{\"step\":100,\"ep");
            fs::write(log, text).unwrap();
        }
    }
}

#[test]
fn a_kill_at_any_moment_changes_nothing() {
    let data = dpo_records();
    let expected = uninterrupted(&data, 2);
    let folder = tempfile::tempdir().unwrap();
    let copier = Copier { folder: folder.path(), copies: Mutex::new(Vec::new()) };
    run(folder.path(), &data, 2, &copier).unwrap();
    let copies = copier.copies.into_inner().unwrap();
    assert!(copies.len() > 20);
    for (index, copied) in copies.iter().enumerate() {
        add_leftovers(copied.path(), index % 4);
        let report = run(copied.path(), &data, 2, &Steps::default()).unwrap();
        assert!(outcome(copied.path(), &report) == expected, "copy {index}");
    }
}

#[test]
fn a_finished_run_is_not_run_again() {
    let data = dpo_records();
    let folder = tempfile::tempdir().unwrap();
    let first = run(folder.path(), &data, 0, &Steps::default()).unwrap();
    let before = files(folder.path());
    let watch = Steps::default();
    let mut job = dpo_job(folder.path(), &data, 0);
    job.model = "/no/such/model".into();
    let second = trainer(1).train(&job, &watch).unwrap();
    assert_eq!(first, second);
    assert!(watch.metrics.into_inner().unwrap().is_empty());
    assert!(files(folder.path()) == before);
}

#[test]
fn state_of_another_job_is_set_aside() {
    let data = dpo_records();
    let expected = uninterrupted(&data, 0);
    let folder = tempfile::tempdir().unwrap();
    let mut other = dpo_job(folder.path(), &data, 0);
    other.fingerprint = "another".to_owned();
    other.settings.learning_rate = 1e-3;
    assert_eq!(trainer(1).train(&other, &Steps::stop_after(3)), Err(EngineError::Stopped));
    let found = files(folder.path());
    let report = run(folder.path(), &data, 0, &Steps::default()).unwrap();
    let (mut files, report) = outcome(folder.path(), &report);
    for (name, bytes) in found {
        assert!(files.remove(&format!("other-1/{name}")) == Some(bytes), "{name}");
    }
    assert!((files, report) == expected);
}

#[test]
fn broken_state_is_set_aside() {
    let data = dpo_records();
    let expected = uninterrupted(&data, 0);
    for broken in [&b""[..], b"\xff\xff\xff\xff\xff\xff\xff\xff", b"\x08\0\0\0\0\0\0\0{\"a\": 1}"] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("state")).unwrap();
        fs::write(folder.path().join("state/training.safetensors"), broken).unwrap();
        let report = run(folder.path(), &data, 0, &Steps::default()).unwrap();
        let (mut files, report) = outcome(folder.path(), &report);
        assert_eq!(files.remove("other-1/state/training.safetensors").as_deref(), Some(broken));
        assert!((files, report) == expected);
    }
}

#[test]
fn adapters_are_resumed_too() {
    let data = dpo_records();
    let lora = Lora { rank: 4, alpha: 8.0, targets: vec!["q_proj".to_owned(), "down_proj".to_owned()] };
    let train = |folder: &Path, watch: &dyn Watch| {
        let mut job = dpo_job(folder, &data, 0);
        job.settings.lora = Some(lora.clone());
        trainer(2).train(&job, watch)
    };
    let whole = tempfile::tempdir().unwrap();
    let report = train(whole.path(), &Steps::default()).unwrap();
    let expected = outcome(whole.path(), &report);
    let parts = tempfile::tempdir().unwrap();
    for stop in [1, 2] {
        assert_eq!(train(parts.path(), &Steps::stop_after(stop)), Err(EngineError::Stopped));
    }
    let report = train(parts.path(), &Steps::default()).unwrap();
    assert!(outcome(parts.path(), &report) == expected);
}

#[test]
fn steps_that_cannot_be_taken_are_refused() {
    let data = dpo_records();
    let folder = tempfile::tempdir().unwrap();
    for epochs in [vec![Vec::new()], vec![vec![Vec::new()]], [in_order(3, 3, 1), vec![Vec::new()]].concat()] {
        let mut job = dpo_job(folder.path(), &data, 0);
        job.epochs = epochs;
        assert!(matches!(trainer(1).train(&job, &Steps::default()), Err(EngineError::Input { .. })));
    }
}
