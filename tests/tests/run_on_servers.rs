//! `metareward run` with servers for its engine: scripted ones, with faults, and killed at several points.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../core/remote/tests/support/http.rs"]
#[allow(dead_code)]
mod http;
#[path = "../../core/remote/tests/support/proxy.rs"]
#[allow(dead_code)]
mod proxy;
#[path = "../../core/remote/tests/support/scripted.rs"]
#[allow(dead_code)]
mod scripted;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use metareward_tests::{hashes, metareward, records, text};
use proxy::{Proxy, Trouble, all_kinds};
use scripted::Scripted;
use serde_json::Value;

/// Shorter in every dimension, with every stage in it, and a trainer of one step.
const SHORT: [&str; 14] = [
    "iterations=2",
    "actor.responses=4",
    "judge.judgments=3",
    "meta_judge.pairs=[true,false]",
    "selector.actor.options.rho=[0.0,0.32]",
    "prompts.per_iteration=16",
    "prompts.shard_size=8",
    "sft.enabled=false",
    "evaluation.prompts=8",
    "evaluation.judge_prompts=4",
    "train.epochs=1",
    "train.batch_size=64",
    "engine.generator=servers",
    "engine.servers.proof=off",
];

/// A run of the quickstart in short on these servers.
fn run(folder: &Path, servers: &[String], set: &[&str]) -> Command {
    let mut command = metareward(["run", "experiments/quickstart", "--no-report", "--run"]);
    command.arg(folder).env("METAREWARD__ENGINE__SERVERS__ADDRESSES", format!("{servers:?}"));
    for set in SHORT.iter().chain(set) {
        command.args(["--set", set]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What scripted servers are told of a model, and how they are asked.
const SCRIPTED: [&str; 4] = [
    "engine.servers.model=scripted",
    r#"engine.servers.reload=['/load {"model": "{model}", "load": true}']"#,
    "engine.asking.in_flight=2",
    "engine.asking.timeout_seconds=1",
];

/// Scripted servers that load what they are asked for: every question names its model, and is asked once.
const BY_NAME: [&str; 3] =
    ["engine.servers.model={model}", "engine.asking.in_flight=2", "engine.asking.timeout_seconds=1"];

/// Everything that a run computes; logs hold times, and what is kept of servers where they are.
fn results(folder: &Path) -> BTreeMap<PathBuf, String> {
    hashes(folder, &|path| ["evaluation", "iteration-1", "iteration-2"].iter().any(|part| path.starts_with(part)))
}

fn number(body: &Value) -> u64 {
    let hash = blake3::hash(format!("{}{}", body["messages"], body["seed"]).as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap())
}

/// A model of the small world that answers, judges and compares by a hash of the question and the seed. A judge goes on after
/// its score, which nobody should wait for.
fn small_world(body: &Value) -> Option<String> {
    if body["load"].as_bool().unwrap_or_default() {
        return Some("loaded".to_owned());
    }
    let question = body["messages"].as_array()?.last()?["content"].as_str()?;
    let number = number(body);
    Some(if question.starts_with("compare by") {
        format!("winner {}", if number.is_multiple_of(2) { "A" } else { "B" })
    } else if question.starts_with("judge by") {
        format!("well\nscore {}\nand so on\n", number % 6)
    } else {
        format!("{} {}", ["red", "blue", "green", "grey"][(number % 4) as usize], "x ".repeat((number % 7) as usize))
    })
}

fn checked(output: &Output) -> String {
    let (table, messages) = text(output);
    assert!(output.status.success(), "{messages}");
    table
}

#[test]
fn faults_and_a_dead_server_leave_the_same_records() {
    let scratch = tempfile::tempdir().unwrap();
    let whole = scratch.path().join("whole");
    let server = Scripted::start(small_world);
    let table = checked(&run(&whole, &[server.address()], &SCRIPTED).output().unwrap());
    let expected = results(&whole);
    assert!(expected.len() > 30, "{expected:#?}");
    // Every model was told of: the seed, M1, M2.
    let told: Vec<String> = server.seen().into_keys().filter(|body| body.contains("\"load\"")).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    let record: Value = serde_json::from_str(&fs::read_to_string(whole.join("run.json")).unwrap()).unwrap();
    assert_eq!(record["machine"]["generator"], "servers");
    assert!(record["machine"]["server 0"].as_str().unwrap().contains("serving scripted"), "{}", record["machine"]);
    let served = fs::read_to_string(whole.join("servers/served.jsonl")).unwrap();
    assert_eq!(served.lines().count(), 3, "{served}");

    // Three servers behind every fault, of which one dies for good in the middle of a shard.
    let others = [Scripted::start(small_world), Scripted::start(small_world)];
    // Each kind of fault now and then: a busy server is left alone for a second each time.
    let plan = || [all_kinds(Duration::from_millis(1500)), vec![Trouble::None; 60]].concat();
    let proxies = [server.port, others[0].port].map(|port| Proxy::before(port, plan()));
    let mut addresses: Vec<String> =
        proxies.iter().map(|proxy| format!("openai:http://127.0.0.1:{}", proxy.port)).collect();
    addresses.push(others[1].address());
    let broken = scratch.path().join("broken");
    let set = [&SCRIPTED[..], &["engine.asking.retries=8"]].concat();
    let child = run(&broken, &addresses, &set).spawn().unwrap();
    let begun = Instant::now();
    while others[1].seen().len() < 40 && begun.elapsed() < Duration::from_secs(120) {
        thread::sleep(Duration::from_millis(1));
    }
    // It says no more, but can be told of a model.
    others[1].kill();
    let dead = Scripted::on(others[1].port, |body| body["load"].as_bool().map(|_| "loaded".to_owned()));
    let output = child.wait_with_output().unwrap();
    assert_eq!(checked(&output), table);
    assert_eq!(results(&broken), expected);
    drop(dead);
}

/// `kill -9` at several points: the same records, and what was answered is not asked again.
#[test]
fn killed_and_resumed_nothing_is_asked_twice() {
    let scratch = tempfile::tempdir().unwrap();
    let whole = scratch.path().join("whole");
    let server = Scripted::start(small_world);
    let table = checked(&run(&whole, &[server.address()], &BY_NAME).output().unwrap());
    let all = server.seen().len();
    drop(server);

    let server = Scripted::start(small_world);
    server.takes(Duration::from_millis(6));
    let addresses = [server.address()];
    let broken = scratch.path().join("broken");
    let mut kills = 0;
    for part in 1..=6 {
        let target = all * part / 7;
        let mut child = run(&broken, &addresses, &BY_NAME).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while server.seen().len() < target && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        // What was in flight is answered still, to nobody.
        thread::sleep(Duration::from_millis(30));
    }
    let output = run(&broken, &addresses, &BY_NAME).output().unwrap();
    assert_eq!(checked(&output), table);
    assert_eq!(results(&broken), results(&whole));
    let again: usize = server.seen().values().map(|times| times - 1).sum();
    println!("{} questions, {again} asked again after {kills} kills with 2 in flight", server.seen().len());
    assert!(again <= 2 * kills, "{again} questions were asked again after {kills} kills");
}

/// What cannot work is said before anything is computed.
#[test]
fn what_is_wrong_with_servers_is_said_before_the_run() {
    let scratch = tempfile::tempdir().unwrap();
    let server = Scripted::start(small_world);
    let here = [server.address()];
    let gone = format!("openai:http://127.0.0.1:{}", Scripted::start(small_world).port);
    let reload = r#"engine.servers.reload=["/load"]"#;
    let cases: [(&[String], &[&str], &str); 12] = [
        (&[], &[reload], "engine.servers.addresses"),
        (&["http://x".to_owned()], &[reload], "unknown kind of server"),
        (&here, &[], "engine.servers.restart"),
        (&here, &["engine.servers.restart=serve --port {port}"], "without {model}"),
        (&here, &["engine.servers.restart=serve {modle} {model}"], "did you mean {model}?"),
        (&here, &[r#"engine.servers.restart=["a {model}", "b {model}"]"#], "a list of 1"),
        (&here, &[r#"engine.servers.reload=["load"]"#], "is not a path and a JSON text"),
        (&here, &[reload, "engine.servers.model=script"], "did you mean scripted?"),
        (&here, &[reload, "engine.asking.key_variable=NO_SUCH_KEY"], "NO_SUCH_KEY is not set"),
        (&here, &[reload, "engine.servers.prof=off"], "did you mean `engine.servers.proof`?"),
        (&[gone], &[reload], "no connection"),
        (&here, &[reload, "roles.judge=nosuch://host/v1#m"], "unknown kind of server"),
    ];
    for (servers, set, expected) in cases {
        let folder = scratch.path().join("refused");
        let output = run(&folder, servers, set).output().unwrap();
        let (_, messages) = text(&output);
        assert!(!output.status.success() && messages.contains(expected), "{set:?}: {messages}");
        assert!(!folder.join("run.json").exists(), "{set:?}");
    }
    assert!(server.seen().is_empty());
}

/// A judge from outside in one line; the model itself answers in this process.
#[test]
fn a_stronger_judge_is_one_line() {
    let scratch = tempfile::tempdir().unwrap();
    let server = Scripted::start(small_world);
    let folder = scratch.path().join("run");
    let judge = format!("roles.judge={}#scripted", server.address());
    let set = ["engine.generator=torch", "iterations=1", "meta_judge.pairs=false", "evaluation.prompts=0", &judge];
    let set = [&set[..], &["evaluation.judge_prompts=0", "selector.actor.options.rho=0.0"]].concat();
    let output = run(&folder, &[], &set).env("METAREWARD_JUDGE_KEY", "sk-very-secret").output().unwrap();
    let (_, messages) = text(&output);
    assert!(output.status.success(), "{messages}");
    assert!(
        server.keys().iter().all(|key| key.as_deref() == Some("Bearer sk-very-secret")) && !server.keys().is_empty()
    );
    let judgments: Vec<Value> = records(&folder.join("iteration-1/judgments"));
    assert!(!judgments.is_empty() && judgments.iter().all(|judgment| judgment["finish"] == "stop"));
    assert!(judgments.iter().all(|judgment| judgment["text"].as_str().unwrap().starts_with("well\nscore ")));
    let judge = &judgments[0]["model"];
    let responses: Vec<Value> = records(&folder.join("iteration-1/responses"));
    assert!(responses.iter().all(|response| response["model"] != *judge));
    for (path, _) in hashes(&folder, &|_| true) {
        let bytes = fs::read(folder.join(&path)).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("very-secret"), "{}", path.display());
    }
    // The former name of the key says the same.
    let former = format!("judge.model={}#scripted", server.address());
    let former = [&set[..4], &set[5..], &[former.as_str()]].concat();
    let asked = server.seen().len();
    checked(&run(&folder, &[], &former).env("METAREWARD_JUDGE_KEY", "sk-very-secret").output().unwrap());
    assert_eq!(server.seen().len(), asked, "all is there");
}
