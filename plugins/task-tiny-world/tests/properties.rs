//! The world's laws, with an oracle written a second time from its description.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use metareward_api::{Prompt, PromptId, Task};
use metareward_plugin::{ClosingLine, read_options};
use proptest::prelude::*;
use serde_json::json;
use task_tiny_world::{OperationName, TinyWorld, TinyWorldOptions};

fn world() -> TinyWorld {
    TinyWorld::new(TinyWorldOptions::default()).unwrap()
}

fn with(options: serde_json::Value) -> TinyWorld {
    TinyWorld::new(read_options(&options).unwrap()).unwrap()
}

/// All operations in all their phrasings.
fn everything() -> serde_json::Value {
    json!({"phrasings": 3, "operations": OperationName::ALL})
}

fn ask(text: &str) -> Prompt {
    Prompt { id: PromptId("asked".into()), text: text.into(), system: None, category: None }
}

fn score(world: &TinyWorld, prompt: &Prompt, response: &str) -> f64 {
    world.oracle(&[(prompt, response)]).unwrap().unwrap()[0]
}

const FILLERS: [&str; 6] = ["indeed", "really", "surely", "truly", "gladly", "kindly"];
const GROUPS: [(&str, &str); 4] = [
    ("animals", "cat dog cow pig hen fox owl bee"),
    ("colours", "red blue green pink grey black white brown"),
    ("foods", "bread milk rice soup cake egg plum corn"),
    ("tools", "saw nail rope lamp axe brush spoon key"),
];
const NUMBERS: [&str; 12] =
    ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

/// One instruction done by hand: a match on its text, word by word, that shares nothing with the crate.
fn by_hand(instruction: &str, list: &[&'static str]) -> Vec<&'static str> {
    let group = |name: &str| GROUPS.iter().find(|(n, _)| *n == name).unwrap().1.split(' ').collect::<Vec<_>>();
    let number = |word: &str| NUMBERS.iter().position(|n| *n == word).unwrap() + 1;
    let find = |word: &str| GROUPS.iter().flat_map(|(_, w)| w.split(' ')).find(|w| *w == word).unwrap();
    let n = list.len();
    let mut out: Vec<&'static str> = Vec::new();
    match instruction.split(' ').collect::<Vec<_>>().as_slice() {
        ["reverse"] | ["say", "backwards"] | ["turn", "around"] => {
            for i in 0..n {
                out.push(list[n - 1 - i]);
            }
        }
        ["sort"] | ["order", "by", "letter"] | ["put", "in", "order"] => {
            // Each word goes to the place given by the number of words before it.
            out = list.to_vec();
            for (at, word) in list.iter().enumerate() {
                let before = list.iter().enumerate().filter(|(i, w)| *w < word || (*w == word && *i < at)).count();
                out[before] = word;
            }
        }
        ["keep" | "only" | "pick", "the", name] => {
            for word in list {
                if group(name).contains(word) {
                    out.push(word);
                }
            }
        }
        ["drop", "the", name] | ["leave", "out", "the", name] | ["no", name] => {
            for word in list {
                if !group(name).contains(word) {
                    out.push(word);
                }
            }
        }
        ["double"] | ["say", "each", "twice"] | ["repeat", "each", "word"] => {
            for word in list {
                out.push(word);
                out.push(word);
            }
        }
        ["move", "first", "to", "end"] | ["first", "word", "last"] | ["rotate"] => {
            for i in 1..=n {
                out.push(list[i % n]);
            }
        }
        ["swap", "the", "ends"] | ["swap", "first", "and", "last"] | ["trade", "the", "ends"] => {
            for i in 0..n {
                out.push(if i == 0 {
                    list[n - 1]
                } else if i == n - 1 {
                    list[0]
                } else {
                    list[i]
                });
            }
        }
        ["every", "other", "word"] | ["drop", "every", "second"] | ["skip", "each", "second"] => {
            for (i, word) in list.iter().enumerate() {
                if i % 2 == 0 {
                    out.push(word);
                }
            }
        }
        ["add", "the", "count"] | ["say", "how", "many"] | ["count", "at", "end"] => {
            out = list.to_vec();
            out.push(NUMBERS[n - 1]);
        }
        ["first", k] | ["take", "the", "first", k] | ["begin", "with", k] => {
            for word in list.iter().take(number(k)) {
                out.push(word);
            }
        }
        ["last", k] | ["take", "the", "last", k] | ["end", "with", k] => {
            for (i, word) in list.iter().enumerate() {
                if i + number(k) >= n {
                    out.push(word);
                }
            }
        }
        ["replace", x, "by", y] | ["say", y, "for", x] | ["change", x, "to", y] => {
            for word in list {
                out.push(if word == x { find(y) } else { word });
            }
        }
        other => panic!("unknown instruction {other:?}"),
    }
    out
}

fn right_by_hand(text: &str) -> (Vec<&'static str>, Vec<&'static str>) {
    let (instruction, list) = text.split_once(" : ").unwrap();
    let words: Vec<&'static str> = GROUPS.iter().flat_map(|(_, w)| w.split(' ')).collect();
    let list: Vec<&'static str> = list.split(' ').map(|w| *words.iter().find(|x| **x == w).unwrap()).collect();
    let mut right = list.clone();
    for part in instruction.split(" then ") {
        right = by_hand(part, &right);
    }
    (list, right)
}

/// The five points written down a second time: every point on its own, by counting, then added while none is missed.
fn points_by_hand(text: &str, response: &str) -> f64 {
    let (list, right) = right_by_hand(text);
    let words: Vec<&str> = response.split_whitespace().collect();
    let mut said = words.clone();
    said.retain(|w| !FILLERS.contains(w));
    let count = |of: &[&str], word: &str| of.iter().filter(|w| **w == word).count();
    let all: BTreeSet<&str> = said.iter().chain(&right).copied().collect();
    let common: usize = all.iter().map(|w| count(&said, w).min(count(&right, w))).sum();
    let fitting = said.iter().filter(|w| list.contains(w) || right.contains(w)).count();
    let marks = [
        !said.is_empty() && 2 * fitting >= said.len(),
        2 * common >= right.len(),
        all.iter().all(|w| count(&said, w) == count(&right, w)),
        said == right,
        words == right,
    ];
    marks.iter().take_while(|mark| **mark).count() as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn prompts_are_distinct_the_same_each_time_and_begin_with_the_shorter_list(seed: u64, n in 0_u32..200, m in 0_u32..200) {
        let world = world();
        let (short, long) = (n.min(m), n.max(m));
        let prompts = world.prompts(seed, long).unwrap();
        prop_assert_eq!(prompts.len(), long as usize);
        prop_assert_eq!(&world.prompts(seed, short).unwrap()[..], &prompts[..short as usize]);
        let ids: BTreeSet<_> = prompts.iter().map(|p| &p.id).collect();
        let texts: BTreeSet<_> = prompts.iter().map(|p| &p.text).collect();
        prop_assert_eq!(ids.len(), prompts.len());
        prop_assert_eq!(texts.len(), prompts.len());
        for examples in [short, long] {
            let (d, j, m) = (
                world.demonstrations(seed, examples).unwrap(),
                world.judge_examples(seed, examples).unwrap(),
                world.meta_examples(seed, examples).unwrap(),
            );
            prop_assert_eq!(&d[..], &world.demonstrations(seed, long).unwrap()[..examples as usize]);
            prop_assert_eq!(&j[..], &world.judge_examples(seed, long).unwrap()[..examples as usize]);
            prop_assert_eq!(&m[..], &world.meta_examples(seed, long).unwrap()[..examples as usize]);
        }
    }

    #[test]
    fn no_prompt_is_an_example_whatever_the_seeds(a: u64, b: u64) {
        // A world small enough for accidents: the same prompts would come up again and again.
        let world = with(json!({
            "categories": [{"name": "ones", "words": ["aa", "bb"]}, {"name": "twos", "words": ["cc", "dd"]}],
            "min_words": 3, "max_words": 3, "operations": ["reverse", "double"],
        }));
        let prompts = world.prompts(a, 100).unwrap();
        let prompts: BTreeSet<&str> = prompts.iter().map(|p| p.text.as_str()).collect();
        let demonstrations = world.demonstrations(b, 100).unwrap();
        let judge = world.judge_examples(b, 100).unwrap();
        let meta = world.meta_examples(b, 100).unwrap();
        prop_assert!(!prompts.is_empty() && !demonstrations.is_empty());
        prop_assert!(demonstrations.iter().all(|d| !prompts.contains(d.prompt.text.as_str())));
        prop_assert!(judge.iter().all(|j| !prompts.contains(j.prompt.as_str())));
        prop_assert!(meta.iter().all(|m| !prompts.contains(m.prompt.as_str())));
    }

    #[test]
    fn perfect_answers_get_five_and_each_mistake_costs_its_points(seed: u64, place: prop::sample::Index) {
        let world = with(everything());
        for prompt in world.prompts(seed, 20).unwrap() {
            let perfect = world.perfect_answers(&[&prompt]).unwrap().unwrap().remove(0);
            prop_assert_eq!(score(&world, &prompt, &perfect), 5.0, "{}: {}", &prompt.text, &perfect);
            prop_assert_eq!(&perfect, &right_by_hand(&prompt.text).1.join(" "));
            // Filler words, however many and wherever, cost the fifth point only.
            let words: Vec<&str> = perfect.split(' ').collect();
            let mut filled = words.clone();
            filled.insert(place.index(filled.len() + 1), "truly");
            filled.push("gladly");
            prop_assert_eq!(score(&world, &prompt, &filled.join(" ")), 4.0);
            // Two neighbours in the wrong order.
            if let Some(at) = (1..words.len()).find(|&i| words[i] != words[i - 1]) {
                let mut swapped = words.clone();
                swapped.swap(at, at - 1);
                prop_assert_eq!(score(&world, &prompt, &swapped.join(" ")), 3.0);
                swapped.push("really");
                prop_assert_eq!(score(&world, &prompt, &swapped.join(" ")), 3.0);
            }
            let mut missing = words.clone();
            missing.remove(place.index(words.len()));
            prop_assert_eq!(score(&world, &prompt, &missing.join(" ")), 2.0);
            let mut extra = words.clone();
            extra.insert(place.index(words.len() + 1), words[0]);
            prop_assert_eq!(score(&world, &prompt, &extra.join(" ")), 2.0);
            let list = prompt.text.split_once(" : ").unwrap().1;
            prop_assert!(score(&world, &prompt, list) < 5.0, "the list unchanged is no answer: {}", &prompt.text);
            for nothing in ["", "  \n", "truly", "xyz uvw", "yes"] {
                prop_assert_eq!(score(&world, &prompt, nothing), 0.0);
            }
        }
    }

    #[test]
    fn the_oracle_agrees_with_the_one_by_hand(
        seed: u64,
        cuts in prop::collection::vec((0_usize..6, any::<prop::sample::Index>()), 0..6),
    ) {
        let world = with(everything());
        for prompt in world.prompts(seed, 10).unwrap() {
            let (list, right) = right_by_hand(&prompt.text);
            let mut answer = right.clone();
            for (kind, place) in &cuts {
                let at = place.index(answer.len() + 1);
                match kind {
                    0 if at < answer.len() => { answer.remove(at); }
                    1 => answer.insert(at, FILLERS[place.index(6)]),
                    2 => answer.insert(at, list[place.index(list.len())]),
                    3 => answer.insert(at, "bee"),
                    4 => answer.reverse(),
                    _ => answer.insert(at, "zebra"),
                }
            }
            let text = answer.join(" ");
            let points = score(&world, &prompt, &text);
            prop_assert_eq!(points, points_by_hand(&prompt.text, &text), "{} = {}", &prompt.text, &text);
            prop_assert!((0.0..=5.0).contains(&points) && points.fract() == 0.0);
        }
    }

    #[test]
    fn examples_close_as_the_rubric_reads_them_and_use_known_words_only(seed: u64) {
        let world = world();
        let known: BTreeSet<String> = world.vocabulary().into_iter().collect();
        let (score_line, winner_line) =
            (ClosingLine::new("score {{score}}", "score").unwrap(), ClosingLine::new("winner {{winner}}", "winner").unwrap());
        let check = |text: &str| text.split_whitespace().find(|word| !known.contains(*word)).map(str::to_owned);
        let score_of = |text: &str| {
            let hits = score_line.hits(text);
            assert_eq!(hits.len(), 1, "{text}");
            assert!(hits[0].starts_line && text.ends_with(&score_line.write(&hits[0].value[0].text)));
            let score: usize = hits[0].value[0].text.parse().unwrap();
            assert!(score <= 5 && text.starts_with("want "));
            // One check per place: two words, and whether they are the same.
            let (checks, _) = text.split_once('\n').unwrap();
            let words: Vec<&str> = checks.split(' ').skip(1).collect();
            assert_eq!(words.len() % 3, 0);
            for check in words.chunks(3) {
                assert_eq!(check[2], if check[0] == check[1] { "yes" } else { "no" }, "{text}");
            }
        };
        for example in world.demonstrations(seed, 30).unwrap() {
            prop_assert_eq!(check(&example.prompt.text).or(check(&example.response)), None);
        }
        for example in world.judge_examples(seed, 30).unwrap() {
            prop_assert_eq!(check(&example.prompt).or(check(&example.response)).or(check(&example.judgment)), None);
            score_of(&example.judgment);
        }
        for example in world.meta_examples(seed, 30).unwrap() {
            score_of(&example.first);
            score_of(&example.second);
            let hits = winner_line.hits(&example.verdict);
            prop_assert_eq!(hits.len(), 1);
            prop_assert!(["A", "B", "tie"].contains(&hits[0].value[0].text.as_str()));
            prop_assert_eq!(check(&example.verdict), None);
        }
    }
}

#[test]
fn the_space_is_large_and_holds_every_operation() {
    let prompts = world().prompts(1, 60_000).unwrap();
    assert_eq!(prompts.iter().map(|p| &p.text).collect::<BTreeSet<_>>().len(), 60_000);
    let longest = prompts.iter().map(|p| p.text.split(' ').count()).max().unwrap();
    assert!(longest <= 20, "{longest} words");
    let all = with(everything()).prompts(1, 6_000).unwrap();
    for operation in OperationName::ALL {
        let name = operation.to_string();
        let alone = all.iter().filter(|p| p.category.as_deref() == Some(name.as_str())).count();
        assert!(alone > 50, "{name}: {alone}");
    }
}

#[test]
fn a_world_that_runs_out_gives_what_it_has() {
    let world = with(json!({
        "categories": [{"name": "ones", "words": ["aa", "bb"]}, {"name": "twos", "words": ["cc", "dd"]}],
        "min_words": 3, "max_words": 3, "operations": ["reverse"], "phrasings": 1, "composed": 0.0, "example_share": 0.0,
    }));
    // 4 · 3 · 2 lists of three different words.
    assert_eq!(world.prompts(7, 1_000).unwrap().len(), 24);
}

/// Share of `items` for which `test` holds.
fn share<T>(items: &[T], test: impl Fn(&T) -> bool) -> f64 {
    items.iter().filter(|item| test(item)).count() as f64 / items.len() as f64
}

fn closing(text: &str) -> f64 {
    text.rsplit(' ').next().unwrap().parse().unwrap()
}

fn fillers(text: &str) -> usize {
    text.split(' ').filter(|w| FILLERS.contains(w)).count()
}

#[test]
fn the_examples_have_the_flaws_that_the_options_say() {
    let world = world();
    let options = world.options();
    let demonstrations = world.demonstrations(3, 20_000).unwrap();
    let points: Vec<f64> = {
        let items: Vec<(&Prompt, &str)> = demonstrations.iter().map(|d| (&d.prompt, d.response.as_str())).collect();
        world.oracle(&items).unwrap().unwrap()
    };
    let wrong = options.wrong_order + options.missing_word + options.extra_word + options.wrong_operation;
    assert!((share(&points, |p| *p == 5.0) - (1.0 - wrong) * (1.0 - options.filler)).abs() < 0.02);
    assert!((share(&demonstrations, |d| fillers(&d.response) > 0) - options.filler).abs() < 0.02);

    // The marks favour length: among answers that deserve four points, those with more filler words score higher.
    let judged = world.judge_examples(3, 40_000).unwrap();
    let mean = |n: usize, points: f64| {
        let chosen: Vec<f64> = judged
            .iter()
            .filter(|j| fillers(&j.response) == n && score(&world, &ask(&j.prompt), &j.response) == points)
            .map(|j| closing(&j.judgment))
            .collect();
        assert!(chosen.len() > 200);
        chosen.iter().sum::<f64>() / chosen.len() as f64
    };
    assert!(mean(2, 4.0) > mean(1, 4.0) + 0.1);
    assert!(mean(3, 4.0) > mean(0, 5.0), "three filler words earn more than a perfect answer");
    assert!(mean(0, 5.0) > mean(0, 3.0) + 1.0, "the marks are about the answer all the same");

    // Verdicts: the nearer judgment wins but for the noise, in either place.
    let meta = world.meta_examples(3, 20_000).unwrap();
    let unequal: Vec<(bool, bool)> = meta
        .iter()
        .filter_map(|m| {
            let truth = score(&world, &ask(&m.prompt), &m.response);
            let (a, b) = ((closing(&m.first) - truth).abs(), (closing(&m.second) - truth).abs());
            (a != b).then(|| (m.verdict.ends_with('A'), a < b))
        })
        .collect();
    assert!((share(&unequal, |(said, first)| said == first) - (1.0 - options.meta_noise)).abs() < 0.02);
    assert!((share(&unequal, |(said, _)| *said) - 0.5).abs() < 0.02, "both orders equally often");
}

#[test]
fn foreign_prompts_and_bad_options_are_refused_by_name() {
    let world = world();
    let fine = ask("reverse : cat dog");
    for text in ["reverse cat dog", "fly : cat dog", "reverse : cat zebra", "reverse then : cat dog", "", " : "] {
        let bad = ask(text);
        let error = world.oracle(&[(&fine, "dog cat"), (&bad, "x")]).unwrap_err();
        assert_eq!(error.item, Some(1), "{text}");
        assert_eq!(world.perfect_answers(&[&fine, &bad]).unwrap_err(), error);
        assert!(error.message.contains("not one of this world's"), "{error}");
    }
    for (options, expected) in [
        (json!({"composed": 1.5}), "option `composed`: expected a number from 0 to 1, found 1.5"),
        (json!({"wrong_order": 0.9, "missing_word": 0.3}), "option `wrong_operation`"),
        (json!({"fillers": ["reverse"]}), "option `fillers`: \"reverse\" is there twice"),
        (json!({"fillers": ["two words"]}), "expected a word of letters"),
        (json!({"operations": []}), "option `operations`: expected at least one"),
        (json!({"operations": ["sort", "sort"]}), "named twice"),
        (json!({"operations": ["fly"]}), "option `operations`: unknown value `fly`"),
        (json!({"phrasings": 4}), "option `phrasings`: expected 1, 2 or 3"),
        (json!({"min_words": 8}), "option `max_words`"),
        (json!({"filer": 0.1}), "did you mean `filler`?"),
    ] {
        let error = read_options::<TinyWorldOptions>(&options).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{options}: {error}");
    }
}
