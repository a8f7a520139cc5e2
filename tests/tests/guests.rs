//! Plugins in Python and JavaScript: built as their READMEs say, held to the laws of their kind, and used in a run.
//!
//! The tools are those that `cargo setup` puts into `.tools`. Where they are missing, the tests say so and pass;
//! with `METAREWARD_GUESTS=required`, as under `cargo selftest`, they fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
    time::Instant,
};

use metareward_api::{Battle, Kind, RankingProblem, Remark};
use metareward_builtin::registry;
use metareward_host::{Registry, Settings, Source, hash_file};
use metareward_laws::{AnyPlugin, LawOutcome, Plan, all_held, check, check_options};
use metareward_setup::guests::{INSTALL, Tools, VARIABLE};
use metareward_tests::{hashes, metareward, root, text};
use serde_json::{Value, json};

/// The tools, or nothing where the tests are to be passed over.
fn tools() -> Option<Tools> {
    let tools = Tools::of(&root());
    let Some(missing) = tools.missing() else { return Some(tools) };
    assert!(env::var_os(VARIABLE).is_none_or(|value| value != "required"), "{missing}; `{INSTALL}` installs it");
    println!("skipped: {missing}; `{INSTALL}` installs it");
    None
}

/// Copies a folder and what links in it point to. Each file's text goes through `change`.
fn copy(from: &Path, to: &Path, change: &dyn Fn(String) -> String) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_file() && path.extension().is_none_or(|extension| extension != "wasm") {
            fs::write(to, change(fs::read_to_string(&path).unwrap())).unwrap();
        }
    }
}

/// Runs what the README of a plugin's folder says but for the installation, and returns the component.
fn build(tools: &Tools, folder: &Path) -> PathBuf {
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    let (_, commands) = readme.split_once("```sh\n").unwrap();
    let mut built = 0;
    for line in commands.split_once("```").unwrap().0.lines() {
        let mut words = line.split(' ').map(|word| word.trim_start_matches(".venv/bin/"));
        match words.next().unwrap() {
            program @ ("componentize-py" | "npm") if line != "npm install" => {
                let output = tools.command(program).args(words).current_dir(folder).output().unwrap();
                assert!(output.status.success(), "{line}: {:?}", text(&output));
                built += 1;
            }
            program => assert!(["python3", "pip", "npm", "metareward"].contains(&program), "{line}"),
        }
    }
    assert_eq!(built, 1, "{readme}");
    let mut found = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    found.find(|path| path.extension().is_some_and(|extension| extension == "wasm")).expect("a component")
}

/// Builds a new plugin as `metareward plugin new` would write it, with each text put through `change`.
fn new_plugin(
    tools: &Tools,
    language: &str,
    kind: Kind,
    change: &dyn Fn(String) -> String,
) -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let template = root().join("core/cli/templates").join(language).join(kind.to_string());
    copy(&template, scratch.path(), &|text| change(text.replace("{{name}}", "own-one")));
    copy(&root().join("plugins/wit/since-v0.1.0"), &scratch.path().join("wit"), &|text| text);
    let file = build(tools, scratch.path());
    assert_eq!(file.file_name().unwrap(), "own-one.wasm");
    (scratch, file)
}

/// All built-in plugins. Compiled components are kept in `cache`, if at all.
fn plugins(cache: Option<PathBuf>) -> Registry {
    registry(Settings { cache, ..Settings::default() }).unwrap()
}

/// A plugin file, as a config names it.
fn source(file: &Path) -> Source {
    Source::named(file.to_string_lossy())
}

/// The laws of the plugin's kind, and those of options.
fn laws(plugins: &Registry, kind: Kind, source: &Source, cases: u32) -> Vec<LawOutcome> {
    let plan = Plan { cases, seed: 3 };
    let options = Value::Null;
    let mut outcomes = match kind {
        Kind::Sampler => check(AnyPlugin::Sampler(&*plugins.sampler(source, &options).unwrap()), plan),
        Kind::Rubric => check(AnyPlugin::Rubric(&*plugins.rubric(source, &options).unwrap()), plan),
        Kind::MetaJudge => check(AnyPlugin::MetaJudge(&*plugins.meta_judge(source, &options).unwrap()), plan),
        Kind::Ranker => check(AnyPlugin::Ranker(&*plugins.ranker(source, &options).unwrap()), plan),
        Kind::Selector => check(AnyPlugin::Selector(&*plugins.selector(source, &options).unwrap()), plan),
        Kind::Optimizer => check(AnyPlugin::Optimizer(&*plugins.optimizer(source, &options).unwrap()), plan),
        Kind::Task => check(AnyPlugin::Task(&*plugins.task(source, &options).unwrap()), plan),
    };
    let card = plugins.card(kind, source).unwrap();
    let resolve = |given: &Value| match plugins.record(kind, source, given) {
        Ok(record) => Ok(record.options),
        Err(metareward_host::HostError::Options { error, .. }) => Err(error),
        Err(other) => panic!("{other}"),
    };
    outcomes.extend(check_options(&card.options, &resolve, Plan { cases: cases.min(16), ..plan }));
    outcomes
}

fn template(language: &str, kind: Kind) {
    let Some(tools) = tools() else { return };
    let (_scratch, file) = new_plugin(&tools, language, kind, &|text| text);
    let plugins = plugins(None);
    let info = plugins.info(kind, &source(&file)).unwrap();
    assert_eq!((info.kind, info.name.as_str()), (kind, "own-one"));
    all_held(&laws(&plugins, kind, &source(&file), 32)).unwrap();
}

macro_rules! templates {
    ($($test:ident: $language:literal, $kind:ident;)*) => {
        $(#[test] fn $test() { template($language, Kind::$kind); })*
    };
}

templates! {
    python_sampler: "python", Sampler;
    python_rubric: "python", Rubric;
    python_meta_judge: "python", MetaJudge;
    python_ranker: "python", Ranker;
    python_selector: "python", Selector;
    python_optimizer: "python", Optimizer;
    python_task: "python", Task;
    js_sampler: "js", Sampler;
    js_rubric: "js", Rubric;
    js_meta_judge: "js", MetaJudge;
    js_ranker: "js", Ranker;
    js_selector: "js", Selector;
    js_optimizer: "js", Optimizer;
    js_task: "js", Task;
}

/// What a task teaches is read by the rubric and the meta-judge of the same language, and by the paper's.
#[test]
fn the_examples_of_a_task_are_read_by_rubrics_and_meta_judges() {
    let Some(tools) = tools() else { return };
    let plugins = plugins(None);
    let built = |kind| new_plugin(&tools, "js", kind, &|text| text);
    let [(_a, task), (_b, rubric), (_c, judge)] = [built(Kind::Task), built(Kind::Rubric), built(Kind::MetaJudge)];
    let task = plugins.task(&source(&task), &Value::Null).unwrap();
    let plan = Plan { cases: 16, seed: 1 };
    for (rubric, judge) in [(source(&rubric), source(&judge)), ("additive".into(), "pairwise".into())] {
        let rubric = plugins.rubric(&rubric, &Value::Null).unwrap();
        let judge = plugins.meta_judge(&judge, &Value::Null).unwrap();
        all_held(&metareward_laws::check_task_readers(&*task, &*rubric, &*judge, plan)).unwrap();
    }
}

/// Lines of the log, while `work` runs.
fn logged<T>(work: impl FnOnce() -> T) -> (T, String) {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let answer = tracing::subscriber::with_default(subscriber, work);
    let bytes = lines.0.lock().unwrap().clone();
    (answer, String::from_utf8(bytes).unwrap())
}

/// A plugin with a fault of its own: the error says what happened, and the log where.
fn fault(language: &str, from: &str, to: &str, message: &str, places: &[&str]) {
    let Some(tools) = tools() else { return };
    let (_scratch, file) = new_plugin(&tools, language, Kind::Ranker, &|text| text.replace(from, to));
    let ranker = plugins(None).ranker(&source(&file), &Value::Null).unwrap();
    let five = RankingProblem { players: 5, battles: Vec::new() };
    let (answer, log) = logged(|| ranker.rate(std::slice::from_ref(&five)));
    let error = answer.unwrap_err().to_string();
    assert!(error.starts_with("ranker own-one failed in rate: ") && error.contains(message), "{error}");
    for place in places {
        assert!(log.lines().any(|line| line.contains("ERROR") && line.contains(place)), "{place} is not in {log}");
    }
    // The fault left nothing behind.
    let two = RankingProblem { players: 2, battles: Vec::new() };
    assert_eq!(ranker.rate(&[two]).unwrap()[0].ratings, [0.0, 0.0]);
    // What is refused is told as the plugin put it, with the item.
    let oneself = Battle { left: 1, right: 1, ..Battle::default() };
    let wrong = RankingProblem { players: 2, battles: vec![oneself] };
    let error = ranker.rate(&[RankingProblem::default(), wrong]).unwrap_err();
    assert_eq!(error.item, Some(1));
    assert!(error.message.ends_with("battle 0 is between players 1 and 1 of 2"), "{error}");
}

#[test]
fn a_fault_in_python_reaches_error_and_log() {
    fault(
        "python",
        "        lost = [",
        "        _ = 1 / (len(matrix) - 5)\n        lost = [",
        "ZeroDivisionError: ",
        &["plugin.py\", line ", "in _net_wins", "_ = 1 / (len(matrix) - 5)"],
    );
}

#[test]
fn a_fault_in_javascript_reaches_error_and_log() {
    fault(
        "js",
        "        const lost = ",
        "        if (matrix.length === 5) matrix.nothing.here();\n        const lost = ",
        "TypeError: ",
        &["plugin.js:", "cannot read property"],
    );
}

/// The two examples, built and compiled once.
struct Examples {
    scratch: tempfile::TempDir,
    ranker: PathBuf,
    rubric: PathBuf,
}

fn examples() -> Option<&'static Examples> {
    static BUILT: OnceLock<Option<Examples>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let tools = tools()?;
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("plugins");
        copy(&root().join("plugins/wit/since-v0.1.0"), &folder.join("wit/since-v0.1.0"), &|text| text);
        let [ranker, rubric] = [(Kind::Ranker, "ranker-python"), (Kind::Rubric, "rubric-js")].map(|(kind, name)| {
            let folder = folder.join("examples").join(name);
            copy(&root().join("plugins/examples").join(name), &folder, &|text| text);
            let file = build(&tools, &folder);
            let megabytes = fs::metadata(&file).unwrap().len() as f64 / 1e6;
            let [compiled, cached] = [(), ()].map(|()| {
                let (plugins, start) = (plugins(Some(cache(&scratch))), Instant::now());
                plugins.info(kind, &source(&file)).unwrap();
                milliseconds(start)
            });
            println!("{name}: {megabytes:.1} MB, compiled in {compiled:.0} ms, from the cache in {cached:.1} ms");
            file
        });
        Some(Examples { scratch, ranker, rubric })
    });
    built.as_ref()
}

/// Compiled examples, for the tests that use them.
fn cache(scratch: &tempfile::TempDir) -> PathBuf {
    scratch.path().join("compiled")
}

/// Milliseconds since `start`.
fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Prints what it costs to make a plugin, its first call and one more of the same. `make` makes it and returns the call.
fn costs(what: &str, make: impl Fn() -> Box<dyn Fn()>) {
    let start = Instant::now();
    let call = make();
    let made = milliseconds(start);
    let start = Instant::now();
    call();
    let first = milliseconds(start);
    let start = Instant::now();
    (0..500).for_each(|_| call());
    println!(
        "{what}: loaded and made in {made:.2} ms, first call {first:.3} ms, then {:.4} ms",
        milliseconds(start) / 500.0
    );
}

#[test]
fn the_ranker_in_python_rates_by_shares() {
    let Some(Examples { scratch, ranker: file, .. }) = examples() else { return };
    let plugins = plugins(Some(cache(scratch)));
    let won = |left, right, left_wins| Battle { left, right, left_wins, ..Battle::default() };
    let ten = RankingProblem { players: 5, battles: (0..10).map(|n| won(n % 5, (n + 1 + n / 5) % 5, 1.0)).collect() };
    costs("ten battles in Python", || {
        let (ranker, ten) = (plugins.ranker(&source(file), &Value::Null).unwrap(), ten.clone());
        Box::new(move || assert_eq!(ranker.rate(std::slice::from_ref(&ten)).unwrap().len(), 1))
    });
    all_held(&laws(&plugins, Kind::Ranker, &source(file), 256)).unwrap();
    let tie = Battle { left: 2, right: 1, ties: 4.0, ..Battle::default() };
    let problem = RankingProblem { players: 4, battles: vec![won(0, 1, 3.0), tie] };
    let rating = |prior: f64| {
        let ranker = plugins.ranker(&source(file), &json!({ "prior": prior })).unwrap();
        ranker.rate(std::slice::from_ref(&problem)).unwrap().remove(0)
    };
    assert_eq!(rating(0.0).ratings, [1.0, 2.0 / 7.0, 0.5, 0.5]);
    assert_eq!(rating(2.0).ratings, [4.0 / 5.0, 3.0 / 9.0, 0.5, 0.5]);
    assert_eq!(rating(1.0).remarks, [Remark::Undefeated(vec![0]), Remark::Disconnected(2)]);
    let refused = plugins.ranker(&source(file), &json!({ "prior": -1 })).err().unwrap().to_string();
    assert!(refused.contains("prior"), "{refused}");
}

#[test]
fn the_rubric_in_javascript_reads_steps() {
    let Some(Examples { scratch, rubric: file, .. }) = examples() else { return };
    let plugins = plugins(Some(cache(scratch)));
    let texts =
        ["It answers.\n**Usefulness: 8**", "Usefulness: 8 or 9", "usefulness:3\nUsefulness: 4", "Usefulness: 11"];
    let make = || plugins.rubric(&source(file), &Value::Null).unwrap();
    costs("four judgments in JavaScript", || {
        let rubric = make();
        Box::new(move || assert_eq!(rubric.parse(&texts).unwrap().len(), 4))
    });
    all_held(&laws(&plugins, Kind::Rubric, &source(file), 256)).unwrap();
    use metareward_api::Unreadable::{Contradiction, NotANumber, OffScale};
    let expected = [Ok(8.0), Err(NotANumber), Err(Contradiction), Err(OffScale)];
    assert_eq!(make().parse(&texts).unwrap(), expected);
    let aggregated = make().aggregate(&[vec![3.0, 9.0, 8.0], vec![8.0, 3.0], vec![]]).unwrap();
    assert_eq!(aggregated, [Some(8.0), Some(3.0), None]);
    for (options, word) in [(json!({"wording": "{{prompt}}"}), "{{response}}"), (json!({"scale": [3, 3]}), "scale")] {
        let refused = plugins.rubric(&source(file), &options).err().unwrap().to_string();
        assert!(refused.contains(word), "{refused}");
    }
}

/// Shorter in every dimension, with every stage in it.
const SHORT: [&str; 10] = [
    "iterations=1",
    "meta_judge.pairs=true",
    "selector.actor.options.rho=0.0",
    "prompts.per_iteration=24",
    "prompts.shard_size=8",
    "sft.judge_examples=96",
    "sft.train.save_steps=2",
    "train.save_steps=2",
    "evaluation.prompts=24",
    "evaluation.judge_prompts=8",
];

/// The quickstart with another rubric and another ranker, both files beside the config.
fn experiment(folder: &Path, ranker: &Path, rubric: &Path) {
    let quickstart = root().join("experiments/quickstart");
    for part in ["", "templates", "seed-model"] {
        fs::create_dir_all(folder.join(part)).unwrap();
        for entry in fs::read_dir(quickstart.join(part)).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_file() {
                fs::copy(&entry, folder.join(part).join(entry.file_name().unwrap())).unwrap();
            }
        }
    }
    fs::copy(ranker, folder.join("win-share.wasm")).unwrap();
    fs::copy(rubric, folder.join("usefulness.wasm")).unwrap();
    let config = fs::read_to_string(folder.join("experiment.toml")).unwrap();
    let mut sections: Vec<String> = Vec::new();
    for line in config.lines() {
        if line.starts_with('[') || sections.is_empty() {
            sections.push(String::new());
        }
        sections.last_mut().unwrap().extend([line, "\n"]);
    }
    sections.retain(|section| !["[rubric", "[ranker"].iter().any(|name| section.starts_with(name)));
    sections.push(
        "[rubric]\nplugin = \"usefulness.wasm\"\n[rubric.options]\nwording = { file = \"templates/judge.txt\" }\n\
         criteria = { file = \"templates/criteria.txt\" }\nlabel = \"score\"\nscale = [0.0, 5.0]\n\
         [ranker]\nplugin = \"win-share.wasm\"\noptions = { prior = 1.0 }\n"
            .to_owned(),
    );
    fs::write(folder.join("experiment.toml"), sections.concat()).unwrap();
}

/// Every object in a JSON value that records a plugin of this name.
fn records<'a>(value: &'a Value, name: &str) -> Vec<&'a Value> {
    let inner: Vec<&Value> = match value {
        Value::Object(map) => map.values().collect(),
        Value::Array(list) => list.iter().collect(),
        _ => Vec::new(),
    };
    let own = (value["info"]["name"] == name).then_some(value);
    own.into_iter().chain(inner.into_iter().flat_map(|inner| records(inner, name))).collect()
}

#[test]
fn a_run_with_a_ranker_in_python_and_a_rubric_in_javascript() {
    let Some(Examples { scratch, ranker, rubric }) = examples() else { return };
    let folder = scratch.path().join("experiment");
    experiment(&folder, ranker, rubric);
    let run = scratch.path().join("run");
    let start = || {
        let mut command = metareward(["run"]);
        command.arg(&folder).arg("--run").arg(&run);
        command.args(SHORT.iter().flat_map(|set| ["--set", set]));
        command.arg("--set").arg(format!("plugins.cache={:?}", cache(scratch).display().to_string()));
        command.output().unwrap()
    };
    let output = start();
    let (table, messages) = text(&output);
    assert!(output.status.success(), "{messages}");
    assert!(table.contains("M1"), "{table}");
    let recorded: Value = serde_json::from_str(&fs::read_to_string(run.join("run.json")).unwrap()).unwrap();
    for (name, file) in [("win-share", ranker), ("usefulness", rubric)] {
        let records = records(&recorded, name);
        assert!(!records.is_empty(), "{name} is not in {recorded:#}");
        for record in records {
            assert_eq!(record["form"], "component", "{record}");
            assert_eq!(record["sha256"], hash_file(file).unwrap().as_str(), "{record}");
            assert_eq!(record["api_version"], "0.1.0", "{record}");
        }
    }
    assert_eq!(records(&recorded, "win-share")[0]["options"]["prior"], json!(1.0));
    assert_eq!(records(&recorded, "usefulness")[0]["options"]["label"], "score");
    // Once more: nothing is computed, nothing changes.
    let results = |path: &Path| ["sft", "evaluation", "iteration-1"].iter().any(|part| path.starts_with(part));
    let before = hashes(&run, &results);
    assert!(before.len() > 20, "{before:#?}");
    let output = start();
    assert!(text(&output).1.contains("all kept from before"), "{}", text(&output).1);
    assert_eq!(hashes(&run, &results), before);
}
