//! `kill -9` in the middle of many requests: what was answered and kept is never asked again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use metareward_remote::{Cache, Pool};
use support::{endpoint, options, outcomes, questions, scripted::Scripted, texts};

const FOLDER: &str = "METAREWARD_TEST_CACHE";
const PORT: &str = "METAREWARD_TEST_PORT";
const REQUESTS: usize = 300;

fn pool(port: u16, folder: PathBuf) -> Pool {
    let endpoint = endpoint(&format!("openai:http://127.0.0.1:{port}"), "scripted");
    Pool::new(vec![endpoint], options()).unwrap().with_cache(Cache::open(&folder).unwrap())
}

/// What the killed process does; without its variables it is not one.
#[test]
fn child() {
    let (Some(folder), Ok(port)) = (std::env::var_os(FOLDER), std::env::var(PORT)) else { return };
    outcomes(&mut pool(port.parse().unwrap(), folder.into()), &questions(REQUESTS));
}

fn start(port: u16, folder: &std::path::Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child"]).env(FOLDER, folder).env(PORT, port.to_string());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn nothing_is_asked_twice_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    // Long answers, so that a kill may fall into a line that is being written.
    let long =
        |body: &serde_json::Value| support::scripted::echo(body).map(|text| format!("{text}{}", "x".repeat(50_000)));
    let server = Scripted::start(long);
    let asked = |server: &Scripted| server.seen().values().sum::<usize>();
    let mut kept = 0;
    for kill in 1..=8 {
        let before = asked(&server);
        let mut child = start(server.port, folder.path());
        while asked(&server) < before + 10 + 3 * kill {
            thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Those that were in flight at the kill may be answered still, to nobody.
        thread::sleep(Duration::from_millis(50));
        let cache = Cache::open(folder.path()).unwrap();
        assert!(cache.len() > kept && cache.unreadable() == 0, "{} {}", cache.len(), cache.unreadable());
        let lost = asked(&server) - before - (cache.len() - kept);
        assert!(lost <= 4, "{lost} answers lost, but only four were in flight");
        kept = cache.len();
    }
    assert!(kept < REQUESTS, "killed in the middle");
    let before = asked(&server);
    let (found, counts) = outcomes(&mut pool(server.port, folder.path().to_path_buf()), &questions(REQUESTS));
    assert_eq!((asked(&server) - before, counts.kept as usize), (REQUESTS - kept, kept));
    for (number, text) in texts(&found).iter().enumerate() {
        assert!(text.starts_with(&format!("Question {number}? ({number})x")) && text.ends_with('x'));
    }
}
