//! Every case, in the order of the table.

use metareward_api::{Battle, Candidate, Kind, MetaJudgeItem, PositionWins, RankingProblem, Rating, VerdictSet};
use metareward_host::{HostError, Registry, Settings, Source, look_at};
use metareward_laws::{AnyPlugin, Finding, Plan, check};
use serde_json::{Value, json};

use crate::{
    captured,
    files::{self, pinned, with_mode},
    table::{Row, compare},
};

/// What a component may use in most cases.
const FUEL: u64 = 500_000_000;
const MEMORY: u32 = 64;

fn registry(memory_mib: u32) -> Registry {
    let cache = Some(files::folder().join("compiled"));
    let folder = files::folder().to_owned();
    metareward_builtin::registry(Settings { folder, fuel: FUEL, memory_mib, threads: 2, cache }).unwrap()
}

fn problems() -> Vec<RankingProblem> {
    let battle = |left, right| Battle { left, right, left_wins: 1.0, right_wins: 0.0, ties: 0.0 };
    vec![
        RankingProblem { players: 2, battles: vec![battle(0, 1)] },
        RankingProblem { players: 3, battles: vec![battle(0, 1), battle(1, 2)] },
    ]
}

fn honest() -> Vec<Vec<f64>> {
    vec![vec![1.0, 0.0], vec![1.0, 1.0, 0.0]]
}

fn values(ratings: Vec<Rating>) -> Vec<Vec<f64>> {
    ratings.into_iter().map(|rating| rating.ratings).collect()
}

fn mode(mode: &str) -> Value {
    json!({ "mode": mode })
}

/// A rating asked of the plugin once, and once more: the second error is what a run that goes on would see.
fn rate(registry: &Registry, source: &Source, options: &Value) -> Result<Vec<Vec<f64>>, String> {
    let ranker = registry.ranker(source, options).map_err(|error| error.to_string())?;
    let first = ranker.rate(&problems()).map(values).map_err(|error| error.to_string());
    let again = ranker.rate(&problems()).map(values).map_err(|error| error.to_string());
    assert_eq!(first, again, "a fault repeats, because nothing is left of it");
    first
}

/// The cases so far.
struct Cases {
    rows: Vec<Row>,
    small: Registry,
}

impl Cases {
    /// Adds an error, after a look at what every error must be, and at whether the others still work.
    fn add(&mut self, what: &'static str, form: &'static str, error: &str, says: &[&str]) {
        assert!(!error.chars().any(char::is_control), "{what}: {error:?}");
        assert!(error.len() < 20_000, "{what}: {} bytes", error.len());
        for part in says {
            assert!(error.contains(part), "{what}: {part:?} is not in {error:?}");
        }
        println!("{what} ({form}): {}", error.chars().take(300).collect::<String>());
        assert_eq!(rate(&self.small, &pinned("ranker.wasm"), &Value::Null), Ok(honest()), "after {what}");
        assert_eq!(rate(&self.small, &pinned("ranker.so"), &Value::Null), Ok(honest()), "after {what}");
        self.rows.push(Row { what, form, came: error.to_owned() });
    }

    /// A ranker that loads and then fails.
    fn ranker(&mut self, what: &'static str, source: &Source, options: &Value, says: &[&str]) {
        let form = if source.plugin.ends_with(".wasm") { "component" } else { "library" };
        let error = rate(&self.small, source, options).expect_err(what);
        let mut says = says.to_vec();
        says.push("ranker ");
        self.add(what, form, &error, &says);
    }

    /// A file that is refused before it is asked anything.
    fn refused(&mut self, what: &'static str, form: &'static str, kind: Kind, source: &Source, says: &[&str]) {
        let error = self.small.record(kind, source, &Value::Null).expect_err(what);
        assert_eq!(self.small.info(kind, source), Err(error.clone()), "{what}");
        assert!(matches!(error, HostError::Load { .. }), "{what}: {error:?}");
        let file = files::folder().join(&source.plugin).display().to_string();
        let error = error.to_string();
        assert!(error.starts_with(&format!("plugin {file}: ")), "{what}: {error}");
        let error = error.replacen(&file, &source.plugin, 1);
        self.add(what, form, &error, says);
    }
}

#[test]
fn every_case_is_an_error_that_says_what_to_do_and_nothing_else_ends() {
    let mut cases = Cases { rows: Vec::new(), small: registry(MEMORY) };
    time_and_memory(&mut cases);
    stops(&mut cases);
    wrong_answers(&mut cases);
    words(&mut cases);
    log_lines(&mut cases);
    fickle(&mut cases);
    other_kinds(&mut cases);
    descriptions(&mut cases);
    tables(&mut cases);
    wrong_files(&mut cases);
    versions_and_hashes(&mut cases);
    cut_files(&mut cases);
    compare(&cases.rows);
}

fn time_and_memory(cases: &mut Cases) {
    let component = pinned("ranker.wasm");
    let fuel = "raise plugins.fuel if it needs so many";
    let memory = "it wanted more than 64 MiB of memory; raise plugins.memory_mib if it needs so much";
    cases.ranker("never answers", &component, &mode("loop"), &["hostile failed in rate", "500000000", fuel]);
    let options = "it failed over its options: it did not end";
    cases.ranker("never takes its options", &component, &mode("configure-loop"), &[options, fuel]);
    cases.ranker("asks for memory without end", &component, &mode("memory"), &["hostile failed in rate", memory]);
    cases.ranker("a list without end", &component, &mode("endless"), &["hostile failed in rate", memory]);
    cases.ranker("an error of 100 MB", &component, &mode("text"), &["hostile failed in rate", memory]);
    let handed = "in one call, more than 64; raise plugins.memory_mib if it needs so much";
    cases.ranker("an error of 100 MB", &pinned("ranker.so"), &mode("text"), &["hostile failed in rate", handed]);
    let roomy = registry(1024);
    let error = rate(&roomy, &component, &mode("text")).unwrap_err();
    assert!(error.starts_with("ranker hostile failed in rate: xxxx") && error.len() < 5000, "{}", error.len());
    let told_often = with_mode("describes.wasm", 12).as_str().into();
    let handed = "it handed over more than 64 MiB in one call; raise plugins.memory_mib";
    cases.ranker("a list of 4 MiB, 64 times over", &told_often, &Value::Null, &["describes failed in rate", handed]);
    let error = rate(&registry(1), &component, &Value::Null).unwrap_err();
    let begin = "failed while it was loaded: it wanted more than 1 MiB of memory; raise plugins.memory_mib";
    let error = error.replace(&files::folder().join("").display().to_string(), "");
    cases.add("more memory to begin with than it may have", "component", &error, &["plugin ranker.wasm: ", begin]);
    let nap = "it stopped: it wanted to sleep, which no plugin can";
    cases.ranker("sleeps for a day", &component, &mode("sleep"), &["hostile failed in rate", nap]);
}

fn stops(cases: &mut Cases) {
    let (component, library) = (pinned("ranker.wasm"), pinned("ranker.so"));
    let failed = "ranker hostile failed in rate: it stopped";
    cases.ranker("a trap", &component, &mode("trap"), &[failed, "unreachable"]);
    cases.ranker("calls itself without end", &component, &mode("overflow"), &[failed]);
    let end = "ranker hostile failed in rate: it wanted to end the process, which no plugin can";
    cases.ranker("ends the process", &component, &mode("exit"), &[end]);
    cases.ranker("panics", &component, &mode("panic"), &[failed, "panicked at", "a panic with", "colour"]);
    let panicked = "ranker hostile failed in rate: it panicked: a panic with";
    cases.ranker("panics", &library, &mode("panic"), &[panicked, "colour"]);
    let says = ["it failed over its options: it ", "panicked", "options are not for me"];
    cases.ranker("panics over its options", &component, &mode("configure-panic"), &says);
    cases.ranker("panics over its options", &library, &mode("configure-panic"), &says);

    // A component has a new store after a trap, and a library makes the plugin anew after a panic: each answers as long as
    // a new one does.
    for (source, mode) in [(&component, "trap"), (&library, "panic")] {
        let ranker = cases.small.ranker(source, &json!({ "mode": mode, "patience": 1 })).unwrap();
        for _ in 0..3 {
            assert_eq!(ranker.rate(&problems()).map(values).unwrap(), honest());
            assert!(ranker.rate(&problems()).is_err());
        }
    }
    assert_eq!(rate(&cases.small, &library, &json!({ "mode": "panic", "patience": 9 })), Ok(honest()));
    // Several threads at once meet the same end.
    let many: Vec<RankingProblem> = problems().into_iter().cycle().take(3000).collect();
    for (source, says) in [(&component, "unreachable"), (&library, "it panicked")] {
        let ranker = cases.small.ranker(source, &mode(if says == "unreachable" { "trap" } else { "panic" })).unwrap();
        let error = ranker.rate(&many).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

fn wrong_answers(cases: &mut Cases) {
    for source in [pinned("ranker.wasm"), pinned("ranker.so")] {
        let wrong = "ranker hostile answered wrongly in rate: ";
        let says = |what: &str| format!("{wrong}{what}");
        let mut case = |what, fault, expected: &str| cases.ranker(what, &source, &mode(fault), &[&says(expected)]);
        case("a rating that is no number", "nan", "the rating of player 0 is NaN");
        case("too few answers", "too-few", "1 answers to 2 items");
        case("too many answers", "too-many", "3 answers to 2 items");
        case("too few ratings in an answer", "short", "2 ratings for 3 players");
        case("a remark about 100,000 players who are not there", "unknown", "remark `undefeated: [0, 1, 2, 3");
    }
}

fn words(cases: &mut Cases) {
    for source in [pinned("ranker.wasm"), pinned("ranker.so")] {
        let failed = "ranker hostile failed in rate: ";
        cases.ranker("an error that would clear the screen", &source, &mode("control"), &[failed, "all is well"]);
        cases.ranker("options refused in 15 MB that ring the bell", &source, &mode("options"), &["option `mo", "no"]);
        cases.ranker("an error about an item far outside of the batch", &source, &mode("item"), &["it was that one"]);
        let error = rate(&cases.small, &source, &mode("item")).unwrap_err();
        assert!(error.starts_with("ranker hostile") || error.starts_with("item 4294967295: "), "{error}");
    }
    let source = with_mode("describes.wasm", 11).as_str().into();
    cases.ranker("an error about item 2^64 − 1", &source, &Value::Null, &["describes failed in rate: it was that one"]);
}

fn log_lines(cases: &mut Cases) {
    for (form, source) in [("component", pinned("ranker.wasm")), ("library", pinned("ranker.so"))] {
        let mut case = |what, fault, longest, most| {
            let ranker = cases.small.ranker(&source, &mode(fault)).unwrap();
            let (answer, lines) = captured::lines(|| ranker.rate(&problems()).map(values));
            assert_eq!(answer.unwrap(), honest());
            assert!((1..=most).contains(&lines.len()), "{what}: {} lines", lines.len());
            for line in &lines {
                assert!(!line.chars().any(char::is_control), "{what}: {line:?}");
                assert!(line.chars().count() <= longest, "{what}: {} characters", line.chars().count());
            }
            let (count, first) = (lines.len(), lines[0].trim());
            let came = format!("answers; lines in our log: {count}, the first of them: {first}");
            cases.add(what, form, &came, &["WARN plugin"]);
            lines
        };
        let forged = case("a log line that clears the screen and forges another", "log-control", 200, 1);
        assert!(forged[0].contains("INFO forged"), "one line, not two: {forged:?}");
        case("a log line of 10 MB", "log-long", 4200, 1);
        if form == "component" {
            let flood = case("200,000 log lines in one call", "log-flood", 200, 1001);
            assert!(flood[1000].contains("the rest is dropped"), "{}", flood[1000]);
        }
    }
    // What is printed without an end of line must not pile up; it appears once it is long, or ends.
    let ranker = cases.small.ranker(&pinned("ranker.wasm"), &mode("print")).unwrap();
    let (answer, lines) = captured::lines(|| ranker.rate(&problems()).map(values));
    assert_eq!(answer.unwrap(), honest());
    assert!((1..=1001).contains(&lines.len()), "{}", lines.len());
    assert!(lines.iter().all(|line| line.chars().count() < 4200));
}

fn fickle(cases: &mut Cases) {
    for (form, source) in [("component", pinned("ranker.wasm")), ("library", pinned("ranker.so"))] {
        let ranker = cases.small.ranker(&source, &mode("fickle")).unwrap();
        let (first, second) = (ranker.rate(&problems()).unwrap(), ranker.rate(&problems()).unwrap());
        assert_ne!(first, second);
        let broken: Vec<&'static str> = check(AnyPlugin::Ranker(&*ranker), Plan { cases: 24, seed: 1 })
            .into_iter()
            .filter(|outcome| matches!(outcome.finding, Finding::Broken { .. }))
            .map(|outcome| outcome.law)
            .collect();
        let law = "the same call gives the same answer, and no item of a batch influences another";
        assert!(broken.contains(&law), "{broken:#?}");
        let came = format!("answers are checked and used; `plugin check` finds the law broken: {law}");
        cases.add("another answer every time", form, &came, &["law"]);
    }
}

fn other_kinds(cases: &mut Cases) {
    let source = pinned("selector.wasm");
    let candidate = |tokens| Candidate { score: 1.0, characters: tokens, tokens, tie_break: 0 };
    let group = vec![candidate(3), candidate(5)];
    let mut select = |what, fault, says: &[&str]| {
        let selector = cases.small.selector(&source, &mode(fault)).unwrap();
        let error = selector.select(std::slice::from_ref(&group)).expect_err(what).to_string();
        cases.add(what, "component", &error, says);
    };
    let wrong = "item 0: selector hostile answered wrongly in select: ";
    select("chosen is rejected", "same", &[wrong, "candidate 0 is both chosen and rejected"]);
    select("rejects a candidate that is not there", "unknown", &[wrong, "candidate 4294967295 of 2"]);
    select("a length that the candidate has not", "length", &[wrong, "length 4 of candidate 0, which is 3"]);
    let unit = "selector hostile answered wrongly in length_unit: unit \"furlongs furlongs";
    select("measures lengths in 9 MB of furlongs", "unit", &[unit]);

    let source = pinned("meta-judge.wasm");
    let set = VerdictSet { players: 2, verdicts: vec![] };
    let wins = PositionWins::default();
    let item = MetaJudgeItem { prompt: "p", response: "r", criteria: "c", first: "a", second: "b" };
    let mut judge = |what, fault, says: &[&str]| {
        let judge = cases.small.meta_judge(&source, &mode(fault)).unwrap();
        let schedule = judge.schedule(&[2]).map(drop);
        let render = judge.render(&[item]).map(drop);
        let weigh = judge.weigh(std::slice::from_ref(&set), &[wins]).map(drop);
        let error = schedule.and(render).and(weigh).expect_err(what).to_string();
        cases.add(what, "component", &error, says);
    };
    let wrong = "item 0: meta-judge hostile answered wrongly in ";
    judge("a match with a judgment that is not there", "unknown", &[wrong, "schedule: a match of 0 against 2 among 2"]);
    judge("a match of a judgment with itself", "itself", &[wrong, "schedule: a match of 0 against 0 among 2"]);
    judge("a battle with a judgment that is not there", "battle", &[wrong, "weigh: a battle of 0 against 2 among 2"]);
    judge("a weight below 0", "weight", &[wrong, "weigh: weight -1 is not a number from 0"]);
    judge("lets the assistant speak last", "speaks", &[wrong, "render: the last message is the assistant's"]);
}

fn descriptions(cases: &mut Cases) {
    let mut case = |what, mode, says: &[&str]| {
        let source = Source::named(with_mode("describes.wasm", mode));
        cases.refused(what, "component", Kind::Ranker, &source, says);
    };
    let loaded = "failed while it was loaded: ";
    case("a schema of options that is no JSON", 1, &["is no plugin of metareward: its schema of options is no JSON"]);
    case("a schema that is a list", 2, &["its schema of options is no JSON object"]);
    case("a schema a million levels deep", 8, &["its schema of options is no JSON", "recursion limit"]);
    case("a name that clears the screen", 3, &["its name", "is not of letters, digits, `-`, `_` and `.`"]);
    case("a name of 1 MB", 4, &["its name", "is not of letters, digits"]);
    case("says that it is of another kind than it exports", 5, &["says that it is a rubric, but exports a ranker"]);
    case("never says what it is", 6, &[loaded, "raise plugins.fuel"]);
    case("stops when asked what it is", 7, &[loaded, "unreachable"]);

    let source = Source::named(with_mode("describes.wasm", 9));
    let error = cases.small.ranker(&source, &json!({ "a": 1 })).map(drop).expect_err("a schema elsewhere").to_string();
    assert!(!error.contains("root"), "{error}");
    cases.add("a schema that lies in a file of yours", "component", &error, &["schema of options cannot be used"]);
    let info = cases.small.info(Kind::Ranker, &Source::named(with_mode("describes.wasm", 10))).unwrap();
    for text in [&info.version, &info.summary] {
        assert!(!text.chars().any(char::is_control) && text.chars().count() <= 200, "{text:?}");
    }
    let came = format!("shown as version `{}`", info.version);
    cases.add("a version that clears the screen, a summary of 2 MB", "component", &came, &["version `1"]);
}

fn tables(cases: &mut Cases) {
    let describes = |cases: &mut Cases, what, mode, says: &[&str]| {
        let source = pinned(&with_mode("table.so", mode));
        cases.refused(what, "library", Kind::Ranker, &source, says);
    };
    let loaded = "failed while it was loaded: ";
    describes(cases, "a name that is no UTF-8", 1, &[loaded, "its description cannot be read"]);
    describes(cases, "panics with words that are no UTF-8", 2, &[loaded, "it panicked: panicked"]);
    describes(cases, "a description that lies nowhere", 3, &[loaded, "its buffer of", "is nowhere"]);

    let mut call = |what, mode, says: &[&str]| {
        cases.ranker(what, &pinned(&with_mode("table.so", mode)), &Value::Null, says);
    };
    call("made, says the status; but there is no plugin", 4, &["it said that it made a plugin, but gave none"]);
    call("refuses an option whose name is no UTF-8", 5, &["it refused its options, but its reason cannot be read"]);
    let failed = "ranker table failed in rate: ";
    call("an error that is no UTF-8", 6, &[failed, "its answer cannot be read"]);
    call("an answer of 2^64 − 1 bytes", 7, &[failed, "its buffer of 18446744073709551615 bytes lies in an allocation"]);
    call("an answer longer than its own memory", 8, &[failed, "bytes lies in an allocation of"]);
    call("an answer at address 0", 9, &[failed, "its buffer of", "is nowhere"]);
    call("status 77", 10, &[failed, "it answered with status 77, which means nothing"]);
    call("refuses a call as if it were options", 11, &[failed, "it answered with status 1, which means nothing"]);
    call("a list of 2^63 answers", 13, &[failed, "its answer cannot be read"]);
    call("half of the answer", 14, &[failed, "its answer cannot be read"]);
    call("an answer with a kilobyte after it", 15, &[failed, "its answer goes on for 1024 bytes after its end"]);
    call("no answer", 16, &[failed, "its answer cannot be read"]);
    call("done, says the status; the buffer was not touched", 17, &[failed, "its answer cannot be read"]);
    call("panics in 9 MB", 18, &[failed, "it panicked: word"]);

    let source = pinned(&with_mode("table.so", 12));
    let (info, lines) = captured::lines(|| cases.small.info(Kind::Ranker, &source));
    info.unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let came = format!("loads; line in our log: {}", lines[0].trim());
    cases.add("a log line that is no UTF-8, and one at address 0", "library", &came, &["invalid"]);

    let table = files::bytes("table.so");
    let magic = table.windows(8).position(|window| window == b"mr-plug\0").unwrap();
    let mut with = |what, name: &str, place: usize, by: &[u8], says: &[&str]| {
        let mut bytes = table.clone();
        bytes[magic + place..magic + place + by.len()].copy_from_slice(by);
        files::write(name, &bytes);
        cases.refused(what, "library", Kind::Ranker, &pinned(name), says);
    };
    let no_plugin = "is no plugin of metareward: its symbol metareward_plugin_hostile-table is ";
    with("a table of something else", "magic.so", 0, b"mr-plgu\0", &[no_plugin, "no table of metareward's SDK"]);
    with("a table of another layout", "layout.so", 8, &2u32.to_ne_bytes(), &[no_plugin, "layout 2", "reads layout 1"]);
    with("a table of another size", "size.so", 12, &4096u32.to_ne_bytes(), &[no_plugin, "4096 bytes"]);
    let holes = pinned("holes.so");
    cases.refused(
        "a function at address 0",
        "library",
        Kind::Ranker,
        &holes,
        &[no_plugin, "a function that is nowhere"],
    );
}

fn wrong_files(cases: &mut Cases) {
    files::write("core.wasm", b"\0asm\x01\0\0\0");
    files::write("empty.wasm", b"\0asm\x0d\0\x01\0");
    files::write("text.wasm", b"import os\nos.remove('everything')\n");
    files::write("text.so", b"import os\nos.remove('everything')\n");
    files::write("nothing.wasm", b"");
    files::write("ranker.py", b"print('hello')\n");
    files::edit("ranker.wasm", "renamed.wasm", b"rate", b"rote");
    files::edit("ranker.so", "unstamped.so", b"metareward-plugin-stamp", b"metareward-plugin-stomp");
    files::edit("table.so", "other-name.so", b":hostile-table:", b":hostile-tabby:");
    files::edit("table.so", "kindless.so", b":ranker:", b":banker:");
    files::edit("table.so", "bell.so", b":hostile-table:", b":hostile\x1b[2Jle:");
    let named = Source::named;
    let no_component = "is no WASM component: ";
    let mut case = |what, form, source: Source, says: &[&str]| cases.refused(what, form, Kind::Ranker, &source, says);
    let sdk = "build it for wasm32-wasip2";
    case("a core module", "component", named("core.wasm"), &[no_component, "it is a core module", sdk]);
    case("a component without exports", "component", named("empty.wasm"), &["is no plugin of metareward"]);
    case("a script named .wasm", "component", named("text.wasm"), &[no_component]);
    case("an empty file", "component", named("nothing.wasm"), &[no_component]);
    case("the right interface without its calls", "component", named("renamed.wasm"), &["failed while it was loaded"]);
    let denied = "which no plugin gets: plugins have no files, no network and no environment";
    case("reads a file", "component", named("reaches.wasm"), &["asks for wasi:filesystem/", denied]);
    case("opens a connection", "component", named("sockets.wasm"), &["asks for ", "wasi:sockets/tcp@", denied]);
    case(
        "a selector where a ranker is wanted",
        "component",
        named("selector.wasm"),
        &["is a selector, where a ranker is wanted"],
    );
    case("a file that is not there", "component", named("absent.wasm"), &["cannot be read: No such file"]);
    case("a script", "script", named("./ranker.py"), &["neither a component (.wasm) nor a dynamic library (.so"]);
    let no_stamp = "it has no stamp of metareward's SDK";
    case("a script named .so", "library", pinned("text.so"), &[no_stamp]);
    case("any other library", "library", pinned("unstamped.so"), &[no_stamp]);
    case("a stamp of no kind", "library", pinned("kindless.so"), &["its stamp says it is a \"banker\""]);
    case("a stamp that clears the screen", "library", pinned("bell.so"), &[no_stamp]);
    let symbol = "metareward_plugin_hostile-tabby";
    case(
        "the stamp of another package",
        "library",
        pinned("other-name.so"),
        &["is no plugin of metareward: it exports no", symbol],
    );
    let source = pinned("ranker.so");
    let says = ["is a ranker, where a selector is wanted"];
    cases.refused("a ranker where a selector is wanted", "library", Kind::Selector, &source, &says);
}

fn versions_and_hashes(cases: &mut Cases) {
    files::edit("ranker.so", "newer.so", b"stamp:0.1.0:", b"stamp:0.2.0:");
    files::edit("ranker.so", "unversioned.so", b"stamp:0.1.0:", b"stamp:newer:");
    files::edit("ranker.wasm", "newer.wasm", b"metareward:plugin/ranker@0.1.0", b"metareward:plugin/ranker@0.2.0");
    let speaks = "was made for plugin API 0.2.0; this metareward speaks 0.1.x; build it again with a matching SDK";
    let mut case = |what, form, source: Source, says: &[&str]| cases.refused(what, form, Kind::Ranker, &source, says);
    case("made for another version of the API", "component", Source::named("newer.wasm"), &[speaks]);
    case("made for another version of the API", "library", pinned("newer.so"), &[speaks]);
    case("a version that is none", "library", pinned("unversioned.so"), &["was made for plugin API newer"]);
    let named = |file: &str, sha256: &str| Source { plugin: file.to_owned(), sha256: Some(sha256.to_owned()) };
    let right = pinned("ranker.so").sha256.unwrap();
    let wrong = right.chars().rev().collect::<String>();
    let pin = "look at what changed, then run `metareward plugin pin`";
    case("another hash than the config's", "library", named("ranker.so", &wrong), &[&right, &wrong, pin]);
    case("another hash than the config's", "component", named("ranker.wasm", &wrong), &[&wrong, pin]);
    let must = "runs with your rights, so the config must give its sha256";
    case("no hash in the config", "library", Source::named("ranker.so"), &[must, &right, "plugin pin` writes it"]);

    // A fresh registry says the same: nothing of it had been loaded.
    let fresh = registry(MEMORY);
    let error = fresh.info(Kind::Ranker, &named("ranker.so", &wrong)).unwrap_err().to_string();
    assert!(error.contains(pin), "{error}");
    let error = fresh.info(Kind::Ranker, &Source::named("ranker.so")).unwrap_err().to_string();
    assert!(error.contains(must), "{error}");
}

fn cut_files(cases: &mut Cases) {
    let settings = Settings { folder: files::folder().to_owned(), ..Settings::default() };
    for (file, form, wrong) in [
        ("ranker.wasm", "component", "is no WASM component: "),
        ("table.so", "library", "is no dynamic library: it is cut off after "),
    ] {
        // How long the files are is the compiler's affair.
        let refused = |cases: &mut Cases, what, form, source: &Source, says: &[&str]| {
            cases.refused(what, form, Kind::Ranker, source, says);
            let row = cases.rows.last_mut().unwrap();
            let digit = |c: char| c.is_ascii_digit() || c == 'x';
            let words: Vec<&str> =
                row.came.split(' ').map(|word| if word.starts_with(digit) { "…" } else { word }).collect();
            row.came = words.join(" ");
        };
        let whole = files::bytes(file).len();
        let parts = [7, 100, whole / 8, whole / 4, whole / 2, whole - whole / 8, whole - 64, whole - 1];
        for (index, length) in parts.into_iter().enumerate() {
            let name = format!("cut-{index}-{file}");
            files::cut(file, &name, length);
            let source = pinned(&name);
            let error = cases.small.info(Kind::Ranker, &source).unwrap_err().to_string();
            let unstamped = "it has no stamp of metareward's SDK";
            assert!(error.contains(wrong) || error.contains(unstamped), "{length} of {whole} bytes: {error}");
            let looked = look_at(&files::folder().join(&name), &settings);
            assert!(looked.is_err() || form == "library", "{looked:?}");
            if length == whole / 2 {
                refused(cases, "half of the file, with its hash", form, &source, &[wrong]);
            }
            if length == whole - 1 {
                refused(cases, "all of the file but one byte, with its hash", form, &source, &[wrong]);
            }
        }
    }
}
