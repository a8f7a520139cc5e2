//! A report holds what its runs recorded, in a page that no text can break.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod runs;

use std::fs;

use base64::{Engine, engine::general_purpose::STANDARD};
use metareward_api::{Judgment, Pair, Prompt, PromptId, RatedResponse, Response, Verdict, Winner};
use metareward_eval::Bootstrap;
use metareward_report::{Entry, Figures, HeldOutRecords, Options, PromptRecords, ReportError, compare, html, report};
use metareward_runtime::{Place, Points, RunReader, Stage, Statistics, Unpaired};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

fn options() -> Options {
    Options { bootstrap: Bootstrap { draws: 50, ..Bootstrap::default() }, ..Options::default() }
}

fn figures(page: &str) -> Figures {
    serde_json::from_str(runs::content(page, "figures")).unwrap()
}

fn all<T: DeserializeOwned>(run: &RunReader, place: &Place, stage: Stage) -> Vec<T> {
    run.records(place, stage).unwrap().map(Result::unwrap).collect()
}

/// The records of a place from the packs of a page, with its list of prompts.
fn packed<T: DeserializeOwned>(page: &str, key: &str) -> (Vec<Entry>, Vec<T>) {
    let place = figures(page).runs.into_iter().flat_map(|run| run.places).find(|place| place.key == key).unwrap();
    let packs = (0..place.packs).flat_map(|pack| runs::unpacked::<Vec<T>>(page, &format!("{key}-{pack}")));
    (runs::unpacked(page, key), packs.collect())
}

fn check_whole(run: &RunReader, page: &str) {
    for iteration in 1..=2 {
        let place = Place::Iteration(iteration);
        let (entries, records) = packed::<PromptRecords>(page, &format!("run-0-iteration-{iteration}"));
        assert_eq!(
            entries.iter().map(|entry| &entry.id).collect::<Vec<_>>(),
            records.iter().map(|r| &r.prompt.id.0).collect::<Vec<_>>()
        );
        let flat = |of: &dyn Fn(&PromptRecords) -> serde_json::Value| -> Vec<serde_json::Value> {
            records.iter().map(of).flat_map(|list| list.as_array().unwrap().clone()).collect()
        };
        macro_rules! same {
            ($stage:expr, $record:ty, $field:ident) => {{
                let written: Vec<$record> = all(run, &place, $stage);
                let written = serde_json::to_value(&written).unwrap();
                let shown = flat(&|records| serde_json::to_value(&records.$field).unwrap());
                assert_eq!(written, serde_json::Value::Array(shown), "{place} {}", stringify!($field));
            }};
        }
        assert_eq!(
            all::<Prompt>(run, &place, Stage::Prompts),
            records.iter().map(|r| r.prompt.clone()).collect::<Vec<_>>()
        );
        assert!(!records.iter().all(|records| records.verdicts.is_empty() || records.pairs.is_empty()));
        same!(Stage::Responses, Response, responses);
        same!(Stage::Judgments, Judgment, judgments);
        same!(Stage::Verdicts, Verdict, verdicts);
        same!(Stage::Ratings, RatedResponse, ratings);
        same!(Stage::Pairs, Pair, pairs);
        same!(Stage::Unpaired, Unpaired, unpaired);
    }
    let (_, records) = packed::<HeldOutRecords>(page, "run-0-held-out");
    assert_eq!(records.len(), 3);
    for (number, name) in ["seed", "sft", "M1", "M2"].iter().enumerate() {
        let place = Place::Evaluation((*name).into());
        let of: Vec<_> = records.iter().map(|records| &records.models[number]).collect();
        assert!(of.iter().all(|model| model.name == *name));
        let responses: Vec<Response> = of.iter().flat_map(|model| model.responses.clone()).collect();
        assert_eq!(responses, all::<Response>(run, &place, Stage::Responses));
        let judgments: Vec<Judgment> = of.iter().flat_map(|model| model.judgments.clone()).collect();
        assert_eq!(judgments, all::<Judgment>(run, &place, Stage::Judgments));
        let points: Vec<Points> = of.iter().flat_map(|model| model.points.clone()).collect();
        assert_eq!(points, all::<Points>(run, &place, Stage::Points));
    }
}

#[test]
fn a_report_of_a_run_is_whole() {
    // A limit that some chosen responses break: prompts without a pair are records too.
    let lab = runs::scripted_run(&["selector.actor.options.max_chosen_length=3"]);
    let run = RunReader::open(&lab.run_folder()).unwrap();
    assert!(!all::<Unpaired>(&run, &Place::Iteration(1), Stage::Unpaired).is_empty());
    let path = lab.root.path().join("report.html");
    let written = report(std::slice::from_ref(&run), &path, &options()).unwrap();
    let page = fs::read_to_string(&path).unwrap();
    assert_eq!((written.bytes, written.prompts), (page.len() as u64, 4 + 4 + 3));
    assert_eq!(page, html(std::slice::from_ref(&run), &options()).unwrap(), "the same run gives the same page");
    check_whole(&run, &page);

    let figures = figures(&page);
    let of = &figures.runs[0];
    assert_eq!(of.iterations.len(), 2);
    assert_eq!(of.table.rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["seed", "sft", "M1", "M2"]);
    assert_eq!(of.evaluations.len(), 4);
    assert_eq!(of.config, serde_json::to_value(&run.record().config).unwrap());
    assert!(figures.comparison.is_none());
    for one in &of.iterations {
        for stage in &one.stages {
            let record = run.stage(&Place::Iteration(one.iteration), stage.stage).unwrap().unwrap();
            assert_eq!((record.records, &record.statistics), (stage.records, &stage.statistics));
        }
    }
    // Three epochs of the pairs of either iteration, and one of SFT: every step is there, once.
    let steps: Vec<(&str, usize)> = of.trainings.iter().map(|of| (of.name.as_str(), of.steps.len())).collect();
    let planned = |place: Place| match run.stage(&place, Stage::Training).unwrap().unwrap().statistics {
        Statistics::Training(of) => of.steps as usize,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        steps,
        [("sft", planned(Place::Sft)), ("M1", planned(Place::Iteration(1))), ("M2", planned(Place::Iteration(2)))]
    );
}

#[test]
fn figures_of_an_iteration_follow_from_its_records() {
    let lab = runs::scripted_run(&[]);
    let run = RunReader::open(&lab.run_folder()).unwrap();
    let page = html(std::slice::from_ref(&run), &options()).unwrap();
    let one = &figures(&page).runs[0].iterations[0];
    let place = Place::Iteration(1);
    let responses: Vec<Response> = all(&run, &place, Stage::Responses);
    let lengths: Vec<f64> = responses
        .iter()
        .filter(|response| response.duplicate_of.is_none())
        .map(|response| response.text.chars().count() as f64)
        .collect();
    assert_eq!((one.lengths[0].of.as_str(), one.lengths[0].n), ("responses", lengths.len()));
    assert!((one.lengths[0].mean - lengths.iter().sum::<f64>() / lengths.len() as f64).abs() < 1e-9);

    // The shares of the position bias are those that the stage counted, by other code.
    let Statistics::Verdicts(counted) = run.stage(&place, Stage::Verdicts).unwrap().unwrap().statistics else {
        panic!()
    };
    let bias = one.position_bias.as_ref().unwrap();
    for (figure, share) in [
        (bias.first, counted.first),
        (bias.first_equal, counted.first_equal),
        (bias.first_different, counted.first_different),
        (bias.higher_wins, counted.higher_wins),
    ] {
        assert_eq!(figure.map(|figure| figure.n as u64).unwrap_or(0), share.of);
        assert!(figure.map(|figure| figure.value).zip(share.value()).is_none_or(|(a, b)| (a - b).abs() < 1e-12));
    }
    let verdicts: Vec<Verdict> = all(&run, &place, Stage::Verdicts);
    let matrix = one.matrix.as_ref().unwrap();
    let cells: Vec<[u64; 3]> = matrix.cells.iter().flatten().copied().collect();
    let count = |winner| verdicts.iter().filter(|verdict| verdict.winner == Some(winner)).count() as u64;
    let sum = |at: usize| cells.iter().map(|cell| cell[at]).sum::<u64>();
    assert_eq!((sum(0), sum(1), sum(2)), (count(Winner::First), count(Winner::Second), count(Winner::Tie)));
    assert!(sum(0) + sum(1) > 0);
    let rated: Vec<RatedResponse> = all(&run, &place, Stage::Ratings);
    assert_eq!(
        one.score_ratings.iter().map(|of| of.n).sum::<usize>(),
        rated.iter().map(|of| of.ratings.len()).sum::<usize>()
    );
}

#[test]
fn win_rates_are_given_by_category() {
    let lab = runs::scripted_run(&[]);
    // M1 beats the seed on the first prompt alone, which is plain as the third is; M2 loses everywhere.
    runs::give_points(&lab.run_folder(), |model, prompt, _| match (model, prompt) {
        (2, 0) => 5.0,
        (3, _) => 1.0,
        _ => 3.0,
    });
    let run = RunReader::open(&lab.run_folder()).unwrap();
    let page = html(std::slice::from_ref(&run), &options()).unwrap();
    check_whole(&run, &page);
    let of = figures(&page).runs.swap_remove(0);
    let categories = of.categories.unwrap();
    assert_eq!((categories.opponent.as_str(), categories.models.join(" ")), ("seed", "sft M1 M2".to_owned()));
    let rates: Vec<(&str, Vec<f64>)> = categories
        .rows
        .iter()
        .map(|row| (row.category.as_str(), row.cells.iter().map(|cell| cell.unwrap().value).collect()))
        .collect();
    assert_eq!(rates, [("long", vec![0.5, 0.5, 0.0]), ("plain", vec![0.5, 0.75, 0.0])]);
    assert_eq!(categories.rows.iter().map(|row| row.cells[0].unwrap().prompts).collect::<Vec<_>>(), [1, 2]);
    let rate = of.table.column("win_rate").unwrap();
    let all: Vec<f64> = of.table.rows[1..].iter().map(|row| row.cells[rate].unwrap().value).collect();
    assert!((all[1] - 4.0 / 6.0).abs() < 1e-12 && all[2] == 0.0, "{all:?}");
}

#[test]
fn no_text_breaks_the_page() {
    let lab = runs::scripted_run(&[]);
    runs::taint(&lab.run_folder());
    let run = RunReader::open(&lab.run_folder()).unwrap();
    let page = html(std::slice::from_ref(&run), &options()).unwrap();
    check_whole(&run, &page);
    let figures = figures(&page);
    assert_eq!(figures.runs[0].name, runs::HOSTILE[0]);
    assert!(figures.runs[0].remarks.iter().any(|remark| remark == runs::HOSTILE[1]));

    // Markup comes from the shell alone: as many elements as it has, and no letter of a text that is one.
    let blocks = figures.runs[0].places.iter().map(|place| 1 + place.packs).sum::<usize>();
    let lower = page.to_ascii_lowercase();
    assert_eq!(lower.matches("<script").count(), 2 + blocks, "the figures, the script, the blocks");
    assert_eq!(lower.matches("</script").count(), 2 + blocks);
    for markup in ["<!--", "<img", "<iframe", "<base", "<svg", "onerror=", "http-equiv=refresh"] {
        let in_blocks = lower.replace(&runs::content(&page, "figures").to_ascii_lowercase(), "");
        assert!(!in_blocks.contains(markup), "{markup} in the page");
    }
    let data = runs::content(&page, "figures");
    assert!(!data.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) && !data.chars().any(char::is_control));
    let title = page.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
    assert_eq!(title, "··script··script·window.broken · ·script···script· – metareward");
}

#[test]
fn only_the_pages_own_script_and_style_may_run() {
    let lab = runs::scripted_run(&[]);
    let page = html(&[RunReader::open(&lab.run_folder()).unwrap()], &options()).unwrap();
    let between = |start: &str, end: &str| page.split(start).nth(1).unwrap().split(end).next().unwrap();
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    let policy = between("Content-Security-Policy\" content=\"", "\"");
    let wanted = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(between("<script>", "</script>")),
        hash(between("<style>", "</style>")),
    );
    assert_eq!(policy, wanted);
    let script = between("<script>", "</script>");
    for forbidden in
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "http:", "https:"]
    {
        let svg = "http://www.w3.org/2000/svg";
        assert!(!script.replace(svg, "").contains(forbidden), "the script uses {forbidden}");
    }
}

#[test]
fn records_may_be_limited_and_figures_are_not() {
    let lab = runs::scripted_run(&[]);
    let run = RunReader::open(&lab.run_folder()).unwrap();
    let all = html(std::slice::from_ref(&run), &options()).unwrap();
    let few = html(std::slice::from_ref(&run), &Options { prompts: Some(1), ..options() }).unwrap();
    let (entries, records) = packed::<PromptRecords>(&few, "run-0-iteration-1");
    assert_eq!((entries.len(), records.len()), (1, 1));
    let (all, few) = (figures(&all), figures(&few));
    assert_eq!(few.runs[0].iterations, all.runs[0].iterations);
    assert_eq!((few.runs[0].places[0].shown, few.runs[0].places[0].prompts), (1, 4));
}

#[test]
fn a_run_that_is_going_on_is_shown_as_far_as_it_has_come() {
    let lab = runs::scripted_run(&[]);
    let folder = lab.run_folder();
    for gone in [
        "iteration-2",
        "evaluation/M1",
        "evaluation/M2",
        "iteration-1/pairs",
        "iteration-1/unpaired",
        "iteration-1/verdicts",
    ] {
        fs::remove_dir_all(folder.join(gone)).unwrap();
    }
    fs::remove_file(folder.join("events.jsonl")).unwrap();
    let run = RunReader::open(&folder).unwrap();
    let of = &figures(&html(std::slice::from_ref(&run), &options()).unwrap()).runs[0];
    assert_eq!((of.iterations.len(), of.planned, of.trainings.len()), (1, 2, 0));
    assert_eq!(of.table.rows.len(), 2);
    assert!(of.iterations[0].position_bias.is_none());

    // Records of prompts that are not there any more are said, not shown.
    let prompts = folder.join("iteration-1/prompts/stage.json");
    let mut stage: serde_json::Value = serde_json::from_str(&fs::read_to_string(&prompts).unwrap()).unwrap();
    stage["shards"].as_array_mut().unwrap().pop();
    fs::write(&prompts, stage.to_string()).unwrap();
    let of = &figures(&html(&[RunReader::open(&folder).unwrap()], &options()).unwrap()).runs[0];
    assert!(of.remarks.iter().any(|remark| remark.contains("belong to none of its prompts")), "{:?}", of.remarks);
}

#[test]
fn several_runs_are_compared() {
    let one = runs::scripted_run(&[]);
    let other = runs::scripted_run(&["actor.responses=3", "train.learning_rate=0.5"]);
    let same = runs::scripted_run(&[]);
    let open = |lab: &runs::scripted::Lab| RunReader::open(&lab.run_folder()).unwrap();
    let runs = [open(&one), open(&other), open(&same)];
    let page = html(&runs, &options()).unwrap();
    let figures = figures(&page);
    let of = figures.comparison.as_ref().unwrap();
    assert_eq!(compare(&runs, &options()).unwrap().as_ref(), Some(of));
    assert_eq!(compare(&runs[..1], &options()).unwrap(), None);
    assert_eq!(of.names, ["run 1", "run 2", "run 3"], "names that differ, though experiments and folders do not");
    assert_eq!(
        of.table.rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(),
        ["run 1: M2", "run 2: M2", "run 3: M2"]
    );
    assert_eq!(
        of.against.iter().map(|one| (one.name.as_str(), one.shared_prompts)).collect::<Vec<_>>(),
        [("run 2", 3), ("run 3", 3)]
    );
    assert!(of.against[1].words.iter().any(|words| words.contains("No difference can be claimed")), "{:?}", of.against);
    // A run and itself differ in nothing.
    let changes: Vec<_> = of.table.rows[2].changes.iter().flatten().collect();
    assert!(!changes.is_empty() && changes.iter().all(|change| change.value == 0.0));
    let keys: Vec<&str> = of.settings.iter().map(|setting| setting.key.as_str()).collect();
    assert_eq!(keys, ["actor.responses", "train.learning_rate"]);
    assert_eq!(of.settings[0].values, [Some(4.into()), Some(3.into()), Some(4.into())]);
    // Every run keeps its own records.
    let (_, records) = packed::<PromptRecords>(&page, "run-1-iteration-1");
    assert!(records.iter().all(|records| records.responses.len() == 3));
}

#[test]
fn one_name_for_two_questions_is_no_comparison() {
    let one = runs::scripted_run(&[]);
    let other = runs::scripted_run(&[]);
    let mut id = None;
    for entry in fs::read_dir(other.run_folder().join("evaluation/held-out/prompts")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            let text = fs::read_to_string(&path).unwrap();
            let prompt: Prompt = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            id.get_or_insert(prompt.id);
            fs::write(&path, text.replace("question", "another question")).unwrap();
        }
    }
    assert!(id.is_some_and(|PromptId(id)| id.starts_with('p')));
    let open = |lab: &runs::scripted::Lab| RunReader::open(&lab.run_folder()).unwrap();
    let figures = figures(&html(&[open(&one), open(&other)], &options()).unwrap());
    let of = figures.comparison.unwrap();
    assert!(of.table.rows.iter().all(|row| row.changes.iter().all(Option::is_none)));
    assert_eq!((of.against[0].shared_prompts, of.against[0].words.len()), (0, 1));
    assert!(of.against[0].words[0].contains("names of held-out prompts for other questions"));
}

#[test]
fn what_cannot_be_read_or_written_is_said() {
    assert!(matches!(html(&[], &options()), Err(ReportError::NoRuns)));
    let lab = runs::scripted_run(&[]);
    let run = RunReader::open(&lab.run_folder()).unwrap();
    let error =
        report(std::slice::from_ref(&run), &lab.root.path().join("no/such/report.html"), &options()).unwrap_err();
    assert!(matches!(&error, ReportError::Write { .. }) && error.to_string().contains("report.html"), "{error}");
    let judgments = lab.run_folder().join("iteration-1/judgments");
    let shard = fs::read_dir(&judgments).unwrap().map(|entry| entry.unwrap().path());
    let shard = shard.filter(|path| path.extension().is_some_and(|e| e == "jsonl")).min().unwrap();
    fs::write(&shard, "{ not json\n").unwrap();
    let error = html(&[run], &options()).unwrap_err().to_string();
    assert!(error.contains("judgments") && error.contains("jsonl"), "{error}");
}
