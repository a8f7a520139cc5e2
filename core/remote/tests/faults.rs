//! A scripted server with every kind of trouble before it: the result is the same as without.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use metareward_remote::{Cache, Fault, FaultKind, Key, Pool, RemoteError, only_model};
use support::{
    endpoint, options, outcomes,
    proxy::{Proxy, Trouble, all_kinds},
    questions,
    scripted::{Scripted, echo},
    texts,
};

fn pool(ports: &[u16]) -> Pool {
    let endpoints = ports.iter().map(|port| endpoint(&format!("openai:http://127.0.0.1:{port}"), "scripted")).collect();
    Pool::new(endpoints, options()).unwrap()
}

/// Longer than the tests' time-out.
const SLOW: Duration = Duration::from_millis(1500);

#[test]
fn faults_change_nothing() {
    let server = Scripted::start(echo);
    let requests = questions(60);
    let without = texts(&outcomes(&mut pool(&[server.port]), &requests).0);
    assert!(server.most_at_a_time() <= 4, "{} at a time", server.most_at_a_time());
    let proxy = Proxy::before(server.port, all_kinds(SLOW));
    let (with, counts) = outcomes(&mut pool(&[proxy.port]), &requests);
    assert_eq!(texts(&with), without);
    for kind in [
        FaultKind::Timeout,
        FaultKind::Busy,
        FaultKind::Server,
        FaultKind::Cut,
        FaultKind::NotJson,
        FaultKind::Shape,
        FaultKind::Model,
    ] {
        assert!(
            counts.faults.get(&kind).is_some_and(|count| *count > 0),
            "{kind} did not come up: {:?}",
            counts.faults
        );
    }
    assert_eq!((counts.answered, counts.failures()), (60, 0));
    assert_eq!(counts.sent, proxy.done().len() as u64, "all that is sent is counted");
}

#[test]
fn one_request_that_fails_loses_no_other() {
    // A poisoned question kills its connection every time.
    let server = Scripted::start(|body| echo(body).filter(|text| !text.contains("Question 7?")));
    let (found, counts) = outcomes(&mut pool(&[server.port]), &questions(30));
    for (place, outcome) in found.iter().enumerate() {
        match outcome {
            Ok(answer) => assert!(answer.completions[0].text.starts_with(&format!("Question {place}? "))),
            Err(failure) => assert!(place == 7 && failure.fault.kind() == FaultKind::Cut, "{failure}"),
        }
    }
    assert_eq!((counts.answered, counts.failures()), (29, 1));
    assert_eq!(found[7].as_ref().unwrap_err().tries, 9, "eight retries");
}

#[test]
fn retry_after_is_honoured() {
    let server = Scripted::start(echo);
    let proxy = Proxy::before(server.port, [vec![Trouble::Busy(2)], vec![Trouble::None; 100]].concat());
    let start = Instant::now();
    let (found, _) = outcomes(&mut pool(&[proxy.port]), &questions(10));
    assert_eq!(texts(&found).len(), 10);
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
    // Those in flight beside the refused one pass; the rest waits.
    assert!(proxy.done().len() <= 14, "{:?}", proxy.done());
}

/// One of three is killed in the middle and comes back; a run of questions in between goes to the two others.
#[test]
fn a_server_that_dies_is_left_out_and_comes_back() {
    let servers: Vec<Scripted> = (0..3).map(|_| Scripted::start(echo)).collect();
    let ports: Vec<u16> = servers.iter().map(|server| server.port).collect();
    servers.iter().for_each(|server| server.takes(Duration::from_millis(15)));
    let requests = questions(600);
    let expected: Vec<String> = (0..600).map(|number| format!("Question {number}? ({number})")).collect();
    let middle = ports[1];
    let killed = Mutex::new(Some(servers));
    let back: Arc<Mutex<Option<Scripted>>> = Arc::default();
    let done = Mutex::new(0);
    let mut texts = vec![String::new(); 600];
    let mut take = |place: u64, outcome: Result<metareward_remote::Answer, metareward_remote::Failure>| {
        texts[place as usize] = outcome.unwrap().completions[0].text.clone();
        let mut done = done.lock().unwrap();
        *done += 1;
        if *done == 100 {
            killed.lock().unwrap().as_ref().unwrap()[1].kill();
            let back = Arc::clone(&back);
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(300));
                let server = Scripted::on(middle, echo);
                server.takes(Duration::from_millis(15));
                *back.lock().unwrap() = Some(server);
            });
        }
        Ok(())
    };
    let counts = pool(&ports).run(requests.iter().cloned(), &mut take, &|| false).unwrap();
    assert_eq!(texts, expected);
    assert!(counts.faults.contains_key(&FaultKind::Connect), "{:?}", counts.faults);
    let back = back.lock().unwrap();
    let after = back.as_ref().expect("restarted").seen().len();
    assert!(after > 20, "the restarted server was asked {after} times");
}

#[test]
fn a_key_that_is_refused_and_a_server_that_is_not_there_end_early() {
    // Nothing listens on a port that was just freed.
    let port = Scripted::start(echo).port;
    let mut quick = options();
    quick.schedule.patience = Duration::from_millis(300);
    let mut pool = Pool::new(vec![endpoint(&format!("openai:http://127.0.0.1:{port}"), "m")], quick).unwrap();
    let (found, counts) = outcomes(&mut pool, &questions(50));
    assert!(
        found.iter().all(|outcome| outcome.as_ref().is_err_and(|failure| failure.fault.kind() == FaultKind::Connect))
    );
    assert!(counts.failures() == 50 && counts.sent < 20, "{counts:?}");

    // A key that is refused is refused for all, and nothing is sent again.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut reader = std::io::BufReader::new(connection.try_clone().unwrap());
            support::http::Incoming::read(&mut reader).unwrap();
            support::http::respond(&mut connection, 403, "connection: close\r\n", "{}").unwrap();
        }
    });
    let (found, counts) = outcomes(&mut self::pool(&[port]), &questions(50));
    assert!(found.iter().all(|outcome| outcome.as_ref().is_err_and(|failure| failure.fault.kind() == FaultKind::Key)));
    assert!(counts.sent <= 4, "{counts:?}");
}

#[test]
fn the_key_is_sent_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "sk-very-secret").unwrap();
    let key = Key::from_file(&folder.path().join("key")).unwrap();
    let server = Scripted::start(|body| (body["seed"] != 1).then(|| "an answer".to_owned()));
    let mut endpoint = endpoint(&server.address(), "scripted");
    endpoint.key = Some(key);
    let mut quick = options();
    quick.schedule.retries = 0;
    let cache = folder.path().join("cache");
    let mut pool = Pool::new(vec![endpoint], quick).unwrap().with_cache(Cache::open(&cache).unwrap());
    let (found, counts) = outcomes(&mut pool, &questions(2));
    assert_eq!(server.keys()[0].as_deref(), Some("Bearer sk-very-secret"));
    let shown = format!("{pool:?} {counts:?} {:?}", found[1]);
    assert!(!shown.contains("secret"), "{shown}");
    assert!(!std::fs::read_to_string(cache.join("answers.jsonl")).unwrap().contains("Bearer"));
}

#[test]
fn a_servers_words_are_kept_without_the_key() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "sk-very-secret").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut connection = listener.accept().unwrap().0;
        let mut reader = std::io::BufReader::new(connection.try_clone().unwrap());
        support::http::Incoming::read(&mut reader).unwrap();
        let body = r#"{"error":{"message":"no such key: sk-very-secret"}}"#;
        support::http::respond(&mut connection, 401, "", body).unwrap();
    });
    let mut endpoint = endpoint(&format!("openai:http://127.0.0.1:{port}"), "m");
    endpoint.key = Some(Key::from_file(&folder.path().join("key")).unwrap());
    let (found, counts) = outcomes(&mut Pool::new(vec![endpoint], options()).unwrap(), &questions(1));
    let failure = found[0].as_ref().unwrap_err();
    assert_eq!(failure.to_string(), "the server answered 401: no such key: …");
    assert!(matches!(failure.fault, Fault::Status { status: 401, .. }) && counts.sent == 1);
}

#[test]
fn what_is_known_is_not_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Scripted::start(echo);
    let requests = questions(20);
    let with_cache = |port| pool(&[port]).with_cache(Cache::open(folder.path()).unwrap());
    let first = texts(&outcomes(&mut with_cache(server.port), &requests[..12]).0);
    assert_eq!(server.seen().len(), 12);
    let (all, counts) = outcomes(&mut with_cache(server.port), &requests);
    assert_eq!((server.seen().values().sum::<usize>(), counts.kept, counts.sent), (20, 12, 8));
    assert_eq!(texts(&all)[..12], first);
    // The whole table again, without a server.
    let port = server.port;
    drop(server);
    let (again, counts) = outcomes(&mut with_cache(port), &requests);
    assert_eq!((texts(&again), counts.sent), (texts(&all), 0));
}

#[test]
fn equal_requests_are_asked_once() {
    let server = Scripted::start(echo);
    let requests: Vec<_> = questions(5).into_iter().cycle().take(50).collect();
    let (found, counts) = outcomes(&mut pool(&[server.port]), &requests);
    assert_eq!(texts(&found).len(), 50);
    assert!(server.seen().len() == 5 && counts.sent < 50, "{counts:?}");
}

#[test]
fn a_stop_keeps_what_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let server = Scripted::start(echo);
    let mut pool = pool(&[server.port]).with_cache(Cache::open(folder.path()).unwrap());
    let given = Mutex::new(0);
    let mut take = |_: u64, _: Result<metareward_remote::Answer, metareward_remote::Failure>| {
        *given.lock().unwrap() += 1;
        Ok(())
    };
    let stopped = pool.run(questions(1000).into_iter(), &mut take, &|| *given.lock().unwrap() >= 20).unwrap_err();
    assert!(matches!(stopped, RemoteError::Stopped));
    drop(pool);
    let kept = Cache::open(folder.path()).unwrap().len();
    assert!(kept == *given.lock().unwrap() && (20..30).contains(&kept), "{kept}");
}

#[test]
fn requests_of_one_prompt_go_to_one_server() {
    let servers: Vec<Scripted> = (0..3).map(|_| Scripted::start(echo)).collect();
    let ports: Vec<u16> = servers.iter().map(|server| server.port).collect();
    let requests: Vec<_> = questions(30)
        .into_iter()
        .flat_map(|request| {
            (0..8).map(move |draw| {
                let mut one = request.clone();
                one.parameters.seed = one.parameters.seed * 100 + draw;
                one
            })
        })
        .collect();
    texts(&outcomes(&mut pool(&ports), &requests).0);
    // Counts the servers that each question was put to.
    let mut homes = std::collections::BTreeMap::<String, std::collections::BTreeSet<u16>>::new();
    for server in &servers {
        for body in server.seen().keys() {
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            let question = body["messages"][0]["content"].to_string();
            homes.entry(question).or_default().insert(server.port);
        }
        assert!(server.seen().len() > 40, "each server has its share: {}", server.seen().len());
    }
    // Towards the end, idle servers take over from busy ones.
    let split = homes.values().filter(|homes| homes.len() > 1).count();
    assert!(split <= 8, "{split} of 30 questions were put to several servers");
}

#[test]
fn the_only_model_is_found() {
    let server = Scripted::start(echo);
    let address = server.address().parse().unwrap();
    assert_eq!(only_model(&address, None, options().timeouts).unwrap(), "scripted");
    server.kill();
    let error = only_model(&address, None, options().timeouts).unwrap_err().to_string();
    assert!(error.contains("no connection"), "{error}");
}
