//! Runs of a sweep take over from each other what they have in common: the same bytes as alone, and nothing twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scripted;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use metareward_runtime::{
    Disk, Ended, Engines, Event, Experiment, Grid, Operation, Place, RunError, RunReader, RunRequest, RunState, Stage,
    Sweep, SweepFolder, SweepRun,
};
use scripted::{Counts, Judge, Lab, Recorder, ScriptedGenerator, ScriptedTrainer, plugins, records_of};

/// A lab whose sweeps have a folder of their own.
struct Bench {
    lab: Lab,
    /// Folders of runs in which the judge says nothing.
    mute: Option<&'static str>,
}

/// What one run of a sweep computed.
type Counted = BTreeMap<String, BTreeMap<&'static str, u64>>;

impl Bench {
    fn new() -> Self {
        let mut lab = Lab::new();
        // Small: each is run dozens of times.
        lab.set = vec!["prompts.per_iteration=4".into(), "train.keep=last".into(), "train.epochs=2".into()];
        Self { lab, mute: None }
    }

    fn folder(&self) -> PathBuf {
        self.lab.root.path().join("sweep")
    }

    fn sweep(&self, grid: &[&str], seeds: Option<u32>) -> Result<Sweep, RunError> {
        let grid: Vec<String> = grid.iter().map(|text| (*text).to_owned()).collect();
        Sweep::open(&self.lab.layers(), &Grid::parse(&grid)?, seeds, plugins::registry)
    }

    fn one(
        &self,
        (experiment, run): (&Experiment, &SweepRun),
        folder: &Path,
        share: Vec<PathBuf>,
        recorder: &Recorder,
        disk: Disk,
    ) -> (Ended, BTreeMap<&'static str, u64>) {
        let counts = Counts::default();
        let mut generator = ScriptedGenerator::new(self.lab.context);
        generator.counts = counts.clone();
        if self.mute.is_some_and(|mute| run.folder.starts_with(mute)) {
            generator.judge = Judge::Mute;
        }
        let mut trainer = ScriptedTrainer { counts: counts.clone() };
        let request = RunRequest {
            folder: folder.to_owned(),
            model: experiment.model_folder().unwrap(),
            observer: recorder,
            clock: || std::time::UNIX_EPOCH,
            disk,
            machine: BTreeMap::new(),
            accept_changed_plugins: false,
            share,
        };
        let engines = Engines { generator: &mut generator, trainer: &mut trainer, served: BTreeMap::new() };
        let ended = match experiment.run(&request, engines) {
            Ok(_) => Ended::Done,
            Err(RunError::Stopped) => Ended::Stopped,
            Err(error) => Ended::Failed(error.to_string()),
        };
        let counts = counts.lock().unwrap().clone();
        (ended, counts)
    }

    fn run(&self, sweep: &Sweep) -> (Vec<Ended>, Counted) {
        self.run_with(sweep, &Recorder::default(), Disk::default())
    }

    fn run_with(&self, sweep: &Sweep, recorder: &Recorder, disk: Disk) -> (Vec<Ended>, Counted) {
        let folder = SweepFolder::open(&self.folder(), sweep).unwrap();
        let mut counted = Counted::new();
        let ended = sweep
            .run(&folder, plugins::registry, &mut |_| {}, &mut |experiment, run, path, share| {
                let (ended, counts) = self.one((experiment, run), path, share, recorder, disk.clone());
                counted.insert(run.folder.clone(), counts);
                ended
            })
            .unwrap();
        (ended, counted)
    }

    /// Each run by itself, in another folder: what it leaves.
    fn alone(&self, sweep: &Sweep) -> (BTreeMap<String, BTreeMap<String, Vec<u8>>>, Counted) {
        let (mut files, mut counted) = (BTreeMap::new(), Counted::new());
        for run in &sweep.runs {
            let experiment = sweep.experiment(run, plugins::registry).unwrap();
            let path = self.lab.root.path().join("alone").join(&run.folder);
            let (ended, counts) =
                self.one((&experiment, run), &path, Vec::new(), &Recorder::default(), Disk::default());
            assert_eq!(ended, Ended::Done);
            files.insert(run.folder.clone(), records_of(&path));
            counted.insert(run.folder.clone(), counts);
        }
        (files, counted)
    }

    fn all(&self, sweep: &Sweep) -> BTreeMap<String, BTreeMap<String, Vec<u8>>> {
        sweep.runs.iter().map(|run| (run.folder.clone(), records_of(&self.folder().join(&run.folder)))).collect()
    }
}

/// Files that are not the same in two run folders.
fn differences(left: &BTreeMap<String, Vec<u8>>, right: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    names.into_iter().filter(|name| left.get(*name) != right.get(*name)).cloned().collect()
}

fn total(counted: &Counted, what: &str) -> u64 {
    counted.values().filter_map(|counts| counts.get(what)).sum()
}

#[test]
fn what_runs_have_in_common_is_computed_once_to_the_same_bytes() {
    let bench = Bench::new();
    let sweep = bench.sweep(&["selector.actor.options.rho=0.0,0.4", "meta_judge.pairs=true,false"], Some(2)).unwrap();
    let names: Vec<&str> = sweep.runs.iter().map(|run| run.folder.as_str()).collect();
    assert_eq!(names[..2], ["rho=0.0_pairs=true_seed=0", "rho=0.0_pairs=false_seed=0"]);
    assert_eq!(names.len(), 8);
    let (alone, counted_alone) = bench.alone(&sweep);
    let (ended, counted) = bench.run(&sweep);
    assert!(ended.iter().all(|ended| *ended == Ended::Done), "{ended:?}");
    assert_eq!(bench.all(&sweep), alone, "shared or not, a run leaves the same bytes");
    // The second run of a seed has SFT, its evaluation and the first iteration's responses and judgments.
    let second = &counted["rho=0.0_pairs=false_seed=0"];
    let by_itself = &counted_alone["rho=0.0_pairs=false_seed=0"];
    let iterations = 4 * 4;
    assert_eq!(
        by_itself["responses"] - second["responses"],
        iterations + 2 * 3 * 2,
        "iteration 1, and seed and sft measured"
    );
    assert!(!second.contains_key("verdicts"));
    assert!(second["trained"] < by_itself["trained"]);
    for what in ["responses", "judgments", "verdicts", "trained", "reference"] {
        assert!(total(&counted, what) < total(&counted_alone, what), "{what}");
    }
    // Another seed draws other prompts, and another SFT order: only the seed model is the same.
    assert_eq!(
        counted["rho=0.0_pairs=true_seed=1"]["responses"],
        counted_alone["rho=0.0_pairs=true_seed=1"]["responses"]
    );

    let (ended, counted) = bench.run(&sweep);
    assert!(ended.iter().all(|ended| *ended == Ended::Kept) && counted.is_empty(), "{ended:?}");
    assert_eq!(bench.all(&sweep), alone);
}

#[test]
fn a_run_taken_out_of_the_sweep_is_whole() {
    let bench = Bench::new();
    let sweep = bench.sweep(&["selector.actor.options.rho=0.0,0.4"], None).unwrap();
    bench.run(&sweep);
    let kept = bench.folder().join(&sweep.runs[1].folder);
    let before = records_of(&kept);
    let reader = RunReader::open(&kept).unwrap();
    assert!(reader.finished());
    let steps = fs::read_to_string(kept.join("events.jsonl")).unwrap();
    let of_sft = steps.lines().filter(|line| line.contains("\"event\":\"step\"") && line.contains("\"sft\""));
    assert!(of_sft.count() > 0, "the curves of a model that was taken over are there");
    fs::remove_dir_all(bench.folder().join(&sweep.runs[0].folder)).unwrap();
    assert_eq!(records_of(&kept), before);
    // By itself it is finished: nothing is computed.
    let experiment = sweep.experiment(&sweep.runs[1], plugins::registry).unwrap();
    let (ended, counts) =
        bench.one((&experiment, &sweep.runs[1]), &kept, Vec::new(), &Recorder::default(), Disk::default());
    assert_eq!((ended, counts.len()), (Ended::Done, 0), "{counts:?}");
}

#[test]
fn a_run_gone_on_with_leaves_its_neighbours_as_they_are() {
    let mut bench = Bench::new();
    let sweep = bench.sweep(&["selector.actor.options.rho=0.0,0.4"], None).unwrap();
    bench.run(&sweep);
    let first = records_of(&bench.folder().join(&sweep.runs[0].folder));
    // Other settings in the second folder: what was linked is set aside or left, never written to.
    bench.lab.set.push("train.batch_size=2".into());
    bench.lab.set.push("sft.train.batch_size=1".into());
    let changed = bench.sweep(&["selector.actor.options.rho=0.0,0.4"], None).unwrap();
    let experiment = changed.experiment(&changed.runs[1], plugins::registry).unwrap();
    let path = bench.folder().join(&changed.runs[1].folder);
    bench.one((&experiment, &changed.runs[1]), &path, Vec::new(), &Recorder::default(), Disk::default());
    assert_eq!(records_of(&bench.folder().join(&sweep.runs[0].folder)), first);
}

#[test]
fn crashed_at_any_change_of_the_disk_and_gone_on_with_it_ends_with_the_same_bytes() {
    let bench = Bench::new();
    let sweep = bench.sweep(&["selector.actor.options.rho=0.0,0.4"], None).unwrap();
    let (alone, _) = bench.alone(&sweep);
    bench.run(&sweep);
    let second = bench.folder().join(&sweep.runs[1].folder);
    let first = records_of(&bench.folder().join(&sweep.runs[0].folder));
    let mut tried = 0;
    for last in (0..).step_by(3) {
        fs::remove_dir_all(&second).unwrap();
        let changes = Arc::new(AtomicU64::new(0));
        let counter = changes.clone();
        let disk = Disk::with_fault(Arc::new(move |operation, _| {
            if operation != Operation::Append && counter.fetch_add(1, Ordering::Relaxed) >= last {
                return Err(io::Error::other("crash"));
            }
            Ok(())
        }));
        let (ended, _) = bench.run_with(&sweep, &Recorder::default(), disk);
        assert_eq!(ended[0], Ended::Kept);
        if ended[1] == Ended::Done {
            break;
        }
        assert!(matches!(ended[1], Ended::Failed(_)), "{ended:?}");
        let (ended, _) = bench.run(&sweep);
        assert_eq!(ended, [Ended::Kept, Ended::Done]);
        let differ = differences(&records_of(&second), &alone[&sweep.runs[1].folder]);
        assert!(differ.is_empty(), "crashed at change {last}: {differ:?}");
        assert_eq!(records_of(&bench.folder().join(&sweep.runs[0].folder)), first, "the neighbour is only read");
        tried += 1;
    }
    assert!(tried > 40, "only {tried} points were tried");
}

#[test]
fn stopped_anywhere_it_goes_on_and_does_only_what_is_missing() {
    let bench = Bench::new();
    let sweep = bench.sweep(&["selector.actor.options.rho=0.0,0.4"], None).unwrap();
    let (alone, counted_alone) = bench.alone(&sweep);
    let (_, once) = bench.run(&sweep);
    let whole: u64 = ["responses", "judgments", "verdicts", "trained"].iter().map(|what| total(&once, what)).sum();
    let mut points = 0;
    for after in (0..).step_by(41) {
        fs::remove_dir_all(bench.folder()).unwrap();
        let recorder = Recorder { stop_after: Some(after), ..Recorder::default() };
        let (ended, before) = bench.run_with(&sweep, &recorder, Disk::default());
        if ended == [Ended::Done, Ended::Done] {
            break;
        }
        assert!(ended.contains(&Ended::Stopped), "{ended:?}");
        let (_, after_it) = bench.run(&sweep);
        assert_eq!(bench.all(&sweep), alone, "stopped after {after} questions");
        let done: u64 = [&before, &after_it]
            .iter()
            .flat_map(|counted| ["responses", "judgments", "verdicts", "trained"].map(|what| total(counted, what)))
            .sum();
        // One shard's answers, or one step, may be lost at a stop; a run's worth may not.
        assert!(done <= whole + 2 * 4 * 4, "stopped after {after}: {done} against {whole}");
        points += 1;
    }
    assert!(points > 10, "only {points} points were tried");
    assert!(total(&once, "responses") < total(&counted_alone, "responses"));
}

#[test]
fn a_run_that_fails_keeps_none_of_the_others() {
    let mut bench = Bench::new();
    bench.mute = Some("judgments=3");
    let sweep = bench.sweep(&["judge.judgments=4,3,2"], None).unwrap();
    let (ended, _) = bench.run(&sweep);
    assert_eq!((&ended[0], &ended[2]), (&Ended::Done, &Ended::Done));
    let Ended::Failed(message) = &ended[1] else { panic!("{ended:?}") };
    assert!(message.contains("no preference pairs"), "{message}");
    bench.mute = None;
    fs::remove_dir_all(bench.folder().join(&sweep.runs[1].folder)).unwrap();
    let (ended, counted) = bench.run(&sweep);
    assert_eq!(ended, [Ended::Kept, Ended::Done, Ended::Kept]);
    assert_eq!(counted.len(), 1, "only the one that failed is tried again");
}

#[test]
fn fewer_judgments_are_among_more() {
    let bench = Bench::new();
    let sweep = bench.sweep(&["judge.judgments=4,2", "iterations=1"], None).unwrap();
    let (alone, _) = bench.alone(&sweep);
    let (_, counted) = bench.run(&sweep);
    let second = &counted["judgments=2_iterations=1_seed=0"];
    assert!(!second.contains_key("responses") || second["responses"] == 3 * 2, "only M1 answers anew: {second:?}");
    assert!(
        !second.contains_key("judgments") || second["judgments"] <= 2 * 3 * 2,
        "the iteration's are known: {second:?}"
    );
    assert_eq!(bench.all(&sweep), alone);
}

#[test]
fn the_plan_says_what_will_be_computed() {
    let bench = Bench::new();
    let sweep = bench.sweep(&["selector.actor.options.rho=0.0,0.4"], Some(2)).unwrap();
    let plan = sweep.plan(&bench.folder(), plugins::registry).unwrap();
    assert!(!bench.folder().exists(), "a plan writes nothing");
    assert!(plan.runs.iter().all(|run| run.state == RunState::ToDo));
    let folder = SweepFolder::open(&bench.folder(), &sweep).unwrap();
    let mut planned = plan.runs.iter();
    sweep
        .run(&folder, plugins::registry, &mut |_| {}, &mut |experiment, run, path, share| {
            let recorder = Recorder::default();
            let (ended, _) = bench.one((experiment, run), path, share, &recorder, Disk::default());
            let made: BTreeSet<(Place, Stage)> = recorder
                .events
                .lock()
                .unwrap()
                .iter()
                .filter_map(|event| match event {
                    Event::StageFinished { place, stage: Stage::Training, shared: 0, .. } => {
                        Some((place.clone(), Stage::Training))
                    }
                    Event::StageFinished { place, stage, reused, shards, .. } if reused < shards => {
                        Some((place.clone(), *stage))
                    }
                    _ => None,
                })
                .collect();
            let planned = planned.next().unwrap();
            assert_eq!(planned.folder, run.folder);
            let own: BTreeSet<(Place, Stage)> = planned.own.iter().cloned().collect();
            assert!(made.is_subset(&own), "{}: {:?}", run.folder, made.difference(&own));
            // Where a stage's inputs differ and its records turn out equal, more is shared than foreseen; that is rare.
            let rare = own.difference(&made).count();
            assert!(rare <= 3, "{}: {:?}", run.folder, own.difference(&made));
            ended
        })
        .unwrap();
    let text = plan.to_string();
    assert!(text.contains("4 runs, 0 of them finished"), "{text}");
    drop(folder);
    let plan = sweep.plan(&bench.folder(), plugins::registry).unwrap();
    assert!(plan.runs.iter().all(|run| run.state == RunState::Finished));
}

#[test]
fn a_bad_grid_is_refused_before_any_work() {
    let bench = Bench::new();
    let message = |grid: &[&str], seeds| match bench.sweep(grid, seeds) {
        Ok(_) => panic!("{grid:?} was taken"),
        Err(error) => {
            assert_eq!(error.exit_code(), 2, "{error}");
            error.to_string()
        }
    };
    let said = message(&["train.learning_rat=1e-5"], None);
    assert!(said.starts_with("grid argument train.learning_rat=1e-5") && said.contains("did you mean"), "{said}");
    assert!(message(&["selector.actor.options.rhoo=0.1"], None).contains("rhoo"));
    // The last of many cells is wrong.
    let said = message(&["selector.actor.options.rho=0.0,0.2", "judge.judgments=4,2,0"], None);
    assert!(said.contains("grid argument judge.judgments=0"), "{said}");
    assert!(message(&["train.keep=last,[1,2,3]"], None).contains("lists 3 values for 2 iterations"));
    assert!(message(&["ranker.plugin=elo,eloo"], None).contains("eloo"));
    assert!(message(&["model.path=model,nowhere"], None).contains("there is no folder"));
    assert!(message(&["seed=1,2"], Some(2)).contains("--seeds"));
    assert!(message(&["seed=1,x"], None).contains("whole number"));
    assert!(message(&[], Some(0)).contains("at least one seed"));
    let seeds = bench.sweep(&["seed=7,3", "judge.judgments=2"], None).unwrap();
    assert_eq!((seeds.seeds.as_slice(), seeds.cells.len()), ([7, 3].as_slice(), 1));
    assert!(!bench.folder().exists());
}

#[test]
fn a_folder_with_other_things_or_another_sweep_is_refused() {
    let bench = Bench::new();
    let sweep = bench.sweep(&["judge.judgments=2"], None).unwrap();
    fs::create_dir_all(bench.folder()).unwrap();
    fs::write(bench.folder().join("thesis.txt"), "mine").unwrap();
    let refused = |sweep: &Sweep| SweepFolder::open(&bench.folder(), sweep).err().unwrap();
    assert!(matches!(refused(&sweep), RunError::NotARun { .. }));
    fs::remove_file(bench.folder().join("thesis.txt")).unwrap();
    let open = SweepFolder::open(&bench.folder(), &sweep).unwrap();
    assert!(matches!(refused(&sweep), RunError::InUse { .. }));
    drop(open);
    let mut other = Bench::new();
    other.lab.set.push("name=other".into());
    assert!(matches!(refused(&other.sweep(&["judge.judgments=2"], None).unwrap()), RunError::OtherExperiment { .. }));
}
