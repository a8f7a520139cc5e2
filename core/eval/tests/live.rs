//! Sheets: files in which judgments are missing become questions, and a judge's words become files that the readers take.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use metareward_eval::{
    Bootstrap, Choice,
    alpaca::{Allow, Annotations},
    arena::{self, ArenaOptions, Judgments},
    ask::{AskToCompare, AskToRate},
    bias,
    bracketed::{Several, Unread},
    judge,
    live::{Said, Sheet},
    mt_bench,
    pairwise::Pairs,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Answers every question by what it asks.
fn answered(sheet: &Sheet, judge: impl Fn(&str) -> Said) -> Vec<Said> {
    sheet.questions().iter().map(|question| judge(&question.messages[0].content)).collect()
}

fn lines(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

/// Prefers the answer that holds "good", by where it stands.
fn prefers_good(question: &str) -> Said {
    let place = |tag: &str| {
        let start = question.find(&format!("<{tag}>")).unwrap();
        question[start..question.find(&format!("</{tag}>")).unwrap()].contains("good")
    };
    Ok(match (place("answer-A"), place("answer-B")) {
        (true, false) => "Clearly.\n[[A]]".to_owned(),
        (false, true) => "Clearly.\n[[B]]".to_owned(),
        _ => "[[C]]".to_owned(),
    })
}

#[test]
fn pairs_are_judged_in_both_orders_and_only_where_it_is_missing() {
    let text = lines(&[
        json!({"prompt": "p", "model_output": "good", "baseline_output": "bad"}),
        json!({"prompt": "q", "model_output": "bad", "baseline_output": "good", "model_first": "tie"}),
    ]);
    let sheet = Sheet::pairwise("f", &text, &AskToCompare::three_labels().unwrap()).unwrap();
    let names: Vec<&str> = sheet.questions().iter().map(|question| question.name.as_str()).collect();
    assert_eq!(names, ["f, record 1, model first", "f, record 1, baseline first", "f, record 2, baseline first"]);
    let said = answered(&sheet, prefers_good);
    let filled = sheet.fill("j", said).unwrap();
    let pairs = Pairs::from_json("f", &filled.lines(), "m", "b", "j").unwrap();
    let choices: Vec<_> = pairs.items.iter().map(|pair| (pair.model_first, pair.baseline_first)).collect();
    assert_eq!(
        choices,
        [(Some(Choice::First), Some(Choice::Second)), (Some(Choice::Tie), Some(Choice::First))],
        "good was shown second to the baseline, and first when it is the baseline's"
    );
    assert!(filled.lines().contains("Clearly."), "the judge's words are kept");
    // What is whole is asked nothing.
    assert!(
        Sheet::pairwise("f", &filled.lines(), &AskToCompare::three_labels().unwrap()).unwrap().questions().is_empty()
    );
}

#[test]
fn what_fails_is_kept_and_asked_again() {
    let text = lines(&[json!({"prompt": "p", "model_output": "good", "baseline_output": "bad"})]);
    let ask = AskToCompare::three_labels().unwrap();
    let sheet = Sheet::pairwise("f", &text, &ask).unwrap();
    let filled = sheet.fill("j", vec![Err("no answer in time".into()), Ok("well, well".into())]).unwrap();
    assert_eq!(filled.unread, [(Unread::Missing, 1)].into());
    let kept: Value = serde_json::from_str(filled.lines().trim()).unwrap();
    assert_eq!(kept["errors"], json!({"model_first": "no answer in time"}));
    assert_eq!(kept["judgments"], json!({"baseline_first": "well, well"}));
    assert_eq!((&kept["model_first"], &kept["baseline_first"]), (&Value::Null, &Value::Null));
    let again = Sheet::pairwise("f", &filled.lines(), &ask).unwrap();
    let said = answered(&again, prefers_good);
    assert_eq!(said.len(), 2);
    let kept: Value = serde_json::from_str(again.fill("j", said).unwrap().lines().trim()).unwrap();
    assert_eq!((&kept["model_first"], &kept["baseline_first"]), (&json!("first"), &json!("second")));
    assert!(kept.get("errors").is_none());
    let sheet = Sheet::pairwise("f", &text, &ask).unwrap();
    assert!(sheet.fill("j", vec![]).unwrap_err().to_string().contains("0 answers to 2 questions"));
}

#[test]
fn a_judge_is_compared_with_a_reference() {
    let pairs = lines(&[
        json!({"prompt": "p", "first": "good", "second": "bad", "reference": "first"}),
        json!({"prompt": "q", "first": "bad", "second": "good", "reference": "first"}),
        json!({"prompt": "r", "first": "same", "second": "same", "reference": "first"}),
    ]);
    let ask = AskToCompare::three_labels().unwrap();
    let sheet = Sheet::judge_pairs("f", &pairs, &ask).unwrap();
    let said = answered(&sheet, prefers_good);
    let read = judge::pairs_from_json("f", &sheet.fill("j", said).unwrap().judged_lines()).unwrap();
    let choices: Vec<Choice> = read.iter().map(|pair| pair.judge).collect();
    assert_eq!(choices, [Choice::First, Choice::Second, Choice::Tie]);
    // A judge that always says A prefers nothing; one that fails is left out.
    let sheet = Sheet::judge_pairs("f", &pairs, &ask).unwrap();
    let mut said = answered(&sheet, |_| Ok("[[A]]".into()));
    said[4] = Err("lost".into());
    let filled = sheet.fill("j", said).unwrap();
    let read = judge::pairs_from_json("f", &filled.judged_lines()).unwrap();
    assert_eq!(read.iter().map(|pair| pair.judge).collect::<Vec<_>>(), [Choice::Tie, Choice::Tie]);
    let error = judge::pairs_from_json("f", &filled.lines()).unwrap_err().to_string();
    assert!(error.contains("record 3: the judge said nothing"), "{error}");

    let scores = lines(&[json!({"prompt": "p", "output": "o", "reference": 4.0})]);
    let sheet = Sheet::judge_scores("f", &scores, &AskToRate::new().unwrap()).unwrap();
    let said = answered(&sheet, |_| Ok("Rating: [[7]]".into()));
    let read = judge::scores_from_json("f", &sheet.fill("j", said).unwrap().judged_lines()).unwrap();
    assert_eq!(read.values().copied().collect::<Vec<_>>(), [(7.0, 4.0)]);
}

#[test]
fn biases_are_measured_on_what_was_shown() {
    let shown = lines(&[json!({"prompt": "p", "first": "good one", "second": "bad", "own": "second"})]);
    let sheet = Sheet::verdicts("f", &shown, &AskToCompare::three_labels().unwrap()).unwrap();
    let said = answered(&sheet, prefers_good);
    let read = bias::shown_from_json("f", &sheet.fill("j", said).unwrap().lines()).unwrap();
    let one = read.values().next().unwrap();
    assert_eq!((one.choice, one.lengths, one.own), (Some(Choice::First), Some((8.0, 3.0)), Some(Choice::Second)));

    let scores = lines(&[json!({"prompt": "p", "output": "four"}), json!({"prompt": "p", "output": "five!"})]);
    let sheet = Sheet::scores("f", &scores, &AskToRate::new().unwrap()).unwrap();
    let filled = sheet.fill("j", vec![Ok("[[9]]".into()), Ok("[[11]]".into())]).unwrap();
    assert_eq!(filled.unread, [(Unread::OffScale, 1)].into());
    let read = bias::scored_from_json("f", &filled.lines()).unwrap();
    let found: Vec<_> = read.iter().map(|one| (one.score, one.length)).collect();
    assert_eq!(found, [(Some(9.0), Some(4.0)), (None, Some(5.0))]);
}

#[test]
fn annotations_are_in_the_public_form() {
    let model = lines(&[
        json!({"instruction": "i", "output": "good", "generator": "m", "dataset": "d"}),
        json!({"instruction": "j", "output": "bad", "generator": "m"}),
    ]);
    let baseline = json!([
        {"instruction": "i", "output": "bad", "generator": "b"}, {"instruction": "j", "output": "bad", "generator": "b"}
    ])
    .to_string();
    let ask = AskToCompare::three_labels().unwrap();
    let sheet = Sheet::alpaca(("m.json", &model), ("b.json", &baseline), false, &ask).unwrap();
    let mut said = answered(&sheet, prefers_good);
    said[2] = Err("cut".into());
    let filled = sheet.fill("judge", said).unwrap();
    let read = Annotations::from_json("f", &filled.lines(), Allow::default()).unwrap();
    let preferences: Vec<_> = read.items.iter().map(|item| item.preference).collect();
    assert_eq!(preferences, [Some(1.0), Some(0.5)], "one order is better than none");
    assert_eq!((read.model.as_str(), read.baseline.as_str(), read.annotator.as_deref()), ("m", "b", Some("judge")));
    let other = baseline.replace("\"i\"", "\"k\"");
    let error = Sheet::alpaca(("m.json", &model), ("b.json", &other), false, &ask).unwrap_err().to_string();
    assert!(error.contains("m.json, record 1: the instruction is `i` where b.json has `k`"), "{error}");
    let empty = baseline.replace("bad", " ");
    assert!(Sheet::alpaca(("m.json", &model), ("b.json", &empty), false, &ask).is_err());
    assert!(Sheet::alpaca(("m.json", &model), ("b.json", &empty), true, &ask).is_ok());
}

#[test]
fn an_arena_is_judged_in_both_orders() {
    let questions = lines(&[
        json!({"question_id": "q1", "category": "c", "turns": [{"content": "one?"}]}),
        json!({"uid": "q2", "category": "c", "prompt": "two?"}),
    ]);
    let answers = |model: &str, word: &str| {
        lines(&[
            json!({"question_id": "q1", "model_id": model, "choices": [{"turns": [{"content": word}]}]}),
            json!({"uid": "q2", "model": model, "messages": [{"role": "user", "content": "two?"},
                   {"role": "assistant", "content": {"answer": word}}]}),
        ])
    };
    let (anchor, model) = (answers("anchor", "bad"), answers("m", "good"));
    let ask = AskToCompare::five_labels().unwrap();
    let sheet = Sheet::arena(("q", &questions), &[("a", &anchor), ("m", &model)], "anchor", &ask).unwrap();
    assert_eq!(sheet.questions()[1].name, "m on q, question q1, anchor as B");
    let said = answered(&sheet, |question| {
        prefers_good(question).map(|text| text.replace("[[A]]", "[[A>>B]]").replace("[[B]]", "[[B>>A]]"))
    });
    let filled = sheet.fill("j", said).unwrap();
    let read = Judgments::from_json("f", &filled.lines(), Several::Agreeing).unwrap();
    let report = arena::score(&read, &ArenaOptions::version_2_0("anchor")).unwrap();
    let row = report.rows.iter().find(|row| row.model == "m").unwrap();
    assert_eq!(row.score.value, 1.0, "{report}");
    let error = Sheet::arena(("q", &questions), &[("m", &model)], "anchor", &ask).unwrap_err().to_string();
    assert!(error.contains("`anchor` is not in the answers"), "{error}");
}

#[test]
fn both_turns_are_rated() {
    let questions = lines(&[json!({"question_id": 81, "category": "writing", "turns": ["first?", "second?"]})]);
    let answers =
        lines(&[json!({"question_id": 81, "model_id": "m", "choices": [{"index": 0, "turns": ["one", "two"]}]})]);
    let ask = AskToRate::new().unwrap();
    let sheet = Sheet::mt_bench(("q", &questions), &[("a", &answers)], &ask).unwrap();
    let second = &sheet.questions()[1];
    assert!(["first?", "one", "second?", "two"].iter().all(|word| second.messages[0].content.contains(word)));
    let filled = sheet.fill("j", vec![Ok("Rating: [[8]]".into()), Err("busy".into())]).unwrap();
    let read = mt_bench::read_ratings("f", &filled.lines(), Several::First).unwrap();
    let ratings: Vec<_> = read.iter().map(|rated| (rated.question, rated.turn, rated.rating.clone())).collect();
    assert_eq!(ratings, [(81, 1, Ok(8.0)), (81, 2, Err(Unread::NoJudgment))]);
    let report =
        mt_bench::rate(&read, &Default::default(), None, &Bootstrap { draws: 0, ..Bootstrap::default() }).unwrap();
    assert_eq!(report.rows[0].mean.value, 8.0);
    let short = answers.replace("\"two\"", "");
    let error = Sheet::mt_bench(("q", &questions), &[("a", &short.replace(",]", "]"))], &ask).unwrap_err().to_string();
    assert!(error.contains("m has no answer of two turns to question 81"), "{error}");
}

proptest! {
    /// Whatever the judge says, or whether it says anything, a file comes out that the reader takes.
    #[test]
    fn any_words_give_a_file_that_can_be_read(words in prop::collection::vec(prop::option::of("(\\[\\[[ABC]\\]\\]|.){0,8}"), 6)) {
        let records: Vec<Value> =
            (0..3).map(|number| json!({"prompt": number.to_string(), "model_output": "a", "baseline_output": "b"})).collect();
        let sheet = Sheet::pairwise("f", &lines(&records), &AskToCompare::three_labels().unwrap()).unwrap();
        let said: Vec<Said> = words.into_iter().map(|word| word.ok_or_else(|| "lost".to_owned())).collect();
        let lost = said.iter().filter(|said| said.is_err()).count();
        let filled = sheet.fill("j", said).unwrap();
        let pairs = Pairs::from_json("f", &filled.lines(), "m", "b", "j").unwrap();
        let read = pairs.items.iter().flat_map(|pair| [pair.model_first, pair.baseline_first]).flatten().count();
        prop_assert_eq!(read + lost + filled.unread.values().sum::<usize>(), 6);
    }
}
