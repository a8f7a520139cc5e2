//! Batches that are spread over threads: in order, with the errors of a single call, whatever the number of threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{sync::Mutex, thread, time::Duration};

use metareward_api::{
    Battle, Kind, OptionError, Plugin, PluginError, PluginInfo, Ranker, RankingProblem, Rating, Remark,
};
use metareward_host::{Constructor, Registry, Settings};
use metareward_plugin::{FromOptions, Options};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a call does where it meets the problem with one of these numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ScriptedOptions {
    /// The call fails and names the problem.
    fails: Vec<u32>,
    /// The call fails and names no problem.
    fails_whole: Vec<u32>,
    /// The call fails and names a problem that it was not asked about.
    fails_elsewhere: Vec<u32>,
    /// The problem has no answer.
    skips: Vec<u32>,
    /// The problem has two answers.
    doubles: Vec<u32>,
    /// The call takes its time.
    waits: Vec<u32>,
}

impl Options for ScriptedOptions {}

struct Scripted(ScriptedOptions);

/// First problem and number of problems of each call; only the test that is named so reads it.
static CALLS: Mutex<Vec<(u32, usize)>> = Mutex::new(Vec::new());

impl FromOptions for Scripted {
    type Options = ScriptedOptions;

    fn describe() -> PluginInfo {
        PluginInfo { kind: Kind::Ranker, name: "scripted".into(), version: "1.0.0".into(), summary: "for tests".into() }
    }

    fn from_options(options: ScriptedOptions) -> Result<Self, OptionError> {
        Ok(Self(options))
    }
}

impl Plugin for Scripted {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

/// The number of a problem stands in its battle.
fn number(problem: &RankingProblem) -> u32 {
    problem.battles[0].left_wins as u32
}

impl Ranker for Scripted {
    fn rate(&self, problems: &[RankingProblem]) -> Result<Vec<Rating>, PluginError> {
        CALLS.lock().unwrap().push((problems.first().map_or(0, number), problems.len()));
        let script = &self.0;
        let mut answers = Vec::new();
        for (item, problem) in problems.iter().enumerate() {
            let number = number(problem);
            if script.waits.contains(&number) {
                thread::sleep(Duration::from_millis(60));
            }
            if script.fails.contains(&number) {
                return Err(PluginError::at(item, format!("not {number}")));
            }
            if script.fails_whole.contains(&number) {
                return Err(PluginError::new(format!("not with {number}")));
            }
            if script.fails_elsewhere.contains(&number) {
                return Err(PluginError::at(usize::MAX, format!("not with {number}")));
            }
            let rating = f64::from(number);
            let answer = Rating {
                ratings: vec![rating, -rating],
                converged: true,
                steps: number,
                remarks: vec![Remark::NoBattles],
            };
            let times = 1 + usize::from(script.doubles.contains(&number)) - usize::from(script.skips.contains(&number));
            answers.extend(std::iter::repeat_n(answer, times));
        }
        Ok(answers)
    }
}

fn problems(count: u32) -> Vec<RankingProblem> {
    let battle = |n| Battle { left: 0, right: 1, left_wins: f64::from(n), right_wins: 0.0, ties: 0.0 };
    (0..count).map(|n| RankingProblem { players: 2, battles: vec![battle(n)] }).collect()
}

const THREADS: [usize; 5] = [1, 2, 3, 8, 0];

fn rate(threads: usize, options: &Value, count: u32) -> Result<Vec<Rating>, String> {
    let mut registry = Registry::new(Settings { threads, ..Settings::default() });
    registry.add_ranker(Constructor::built_in(|plugin: Scripted| Box::new(plugin))).unwrap();
    let ranker = registry.ranker(&"scripted".into(), options).unwrap();
    ranker.rate(&problems(count)).map_err(|error| error.to_string())
}

/// The error that every number of threads gives.
fn error(options: &Value, count: u32) -> String {
    let mut all: Vec<String> =
        THREADS.iter().map(|threads| rate(*threads, options, count).expect_err("an error")).collect();
    all.dedup();
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

#[test]
fn answers_keep_their_order_whatever_the_number_of_threads() {
    for count in [0, 1, 255, 256, 257, 512, 1000, 5000] {
        let one = rate(1, &Value::Null, count).unwrap();
        assert!(one.iter().map(|rating| rating.steps).eq(0..count), "{count}");
        // The first part is the last that is done.
        let slow = json!({ "waits": [0] });
        for threads in THREADS {
            assert_eq!(rate(threads, &slow, count).unwrap(), one, "{count} problems, {threads} threads");
        }
    }
}

#[test]
fn what_is_asked_does_not_depend_on_the_number_of_threads() {
    // Other tests ask at the same time: their problems are fewer than these.
    let mut asked = Vec::new();
    for threads in THREADS {
        CALLS.lock().unwrap().clear();
        rate(threads, &Value::Null, 20_100).unwrap();
        let mut calls = CALLS.lock().unwrap().clone();
        calls.retain(|(first, _)| *first >= 10_000);
        calls.sort_unstable();
        asked.push(calls);
    }
    asked.dedup();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].iter().all(|(first, length)| first % 256 == 0 && *length == 256.min(20_100 - *first as usize)));
}

#[test]
fn an_error_names_the_item_of_the_whole_batch() {
    for item in [0, 255, 256, 700, 999] {
        let expected = format!("item {item}: ranker scripted failed in rate: not {item}");
        assert_eq!(error(&json!({ "fails": [item] }), 1000), expected);
    }
    assert_eq!(error(&json!({ "fails_whole": [700] }), 1000), "ranker scripted failed in rate: not with 700");
    // What names a stranger names nobody.
    for item in [3, 700] {
        let expected = format!("ranker scripted failed in rate: not with {item}");
        assert_eq!(error(&json!({ "fails_elsewhere": [item] }), 1000), expected);
        assert_eq!(error(&json!({ "fails_elsewhere": [item] }), item + 1), expected);
    }
}

#[test]
fn of_several_errors_the_first_by_item_is_told() {
    // The later one is there long before.
    let options = json!({ "fails": [300, 600, 2000], "waits": [256] });
    assert_eq!(error(&options, 4000), "item 300: ranker scripted failed in rate: not 300");
    let options = json!({ "fails": [900], "fails_whole": [10], "waits": [0] });
    assert_eq!(error(&options, 4000), "ranker scripted failed in rate: not with 10");
}

#[test]
fn a_wrong_number_of_answers_is_not_mended_by_the_next_part() {
    let one_part = "ranker scripted answered wrongly in rate: 99 answers to 100 items";
    assert_eq!(error(&json!({ "skips": [70] }), 100), one_part);
    let later = "ranker scripted failed in rate: 255 answers to the 256 items from item 256";
    assert_eq!(error(&json!({ "skips": [300] }), 1000), later);
    assert_eq!(error(&json!({ "skips": [300], "doubles": [600] }), 1000), later);
    let more = "ranker scripted failed in rate: 257 answers to the 256 items from item 0";
    assert_eq!(error(&json!({ "doubles": [3], "skips": [999] }), 1000), more);
}
