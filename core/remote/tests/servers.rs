//! Against servers that others wrote: `transformers serve` and llama.cpp's own, both with the same tiny weights, started
//! here. `METAREWARD_PYTHON` names a Python with their packages (`cargo selftest --references` makes one); without it
//! these tests say so and pass, unless `METAREWARD_REFERENCES` is `required`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use metareward_api::{Message, Sampling};
use metareward_remote::{
    Answer, Failure, FaultKind, Parameters, Pool, PoolOptions, Prompt, Request, Timeouts, only_model,
};
use support::{
    endpoint, options, outcomes,
    proxy::{Proxy, all_kinds},
    questions, texts,
};

/// The Python with the servers, or `None` with a message.
fn python() -> Option<PathBuf> {
    let required = std::env::var("METAREWARD_REFERENCES").is_ok_and(|value| value == "required");
    let why = match std::env::var_os("METAREWARD_PYTHON") {
        None => "METAREWARD_PYTHON names no Python",
        Some(python) => {
            let imports = "import fastapi, gguf, openai, safetensors, transformers, uvicorn, xllamacpp";
            let output = Command::new(&python).args(["-c", imports]).output().unwrap();
            if output.status.success() {
                return Some(python.into());
            }
            println!("{}", String::from_utf8_lossy(&output.stderr));
            "the Python of METAREWARD_PYTHON lacks packages of the servers (`pip install openai fastapi uvicorn gguf xllamacpp`)"
        }
    };
    assert!(!required, "{why}");
    println!("skipped: {why}");
    None
}

/// A server of others, ended with the value.
struct Server {
    child: Mutex<Child>,
    port: u16,
    log: PathBuf,
}

impl Server {
    fn start(mut command: Command, port: u16, log: &Path) -> Server {
        let file = fs::File::create(log).unwrap();
        command.stdin(Stdio::piped()).stdout(file.try_clone().unwrap()).stderr(file);
        let server = Server { child: Mutex::new(command.spawn().unwrap()), port, log: log.to_path_buf() };
        let start = Instant::now();
        while !server.is_well() {
            let ended = server.child.lock().unwrap().try_wait().unwrap();
            if ended.is_some() || start.elapsed() > Duration::from_secs(180) {
                panic!("a server did not start: {ended:?}\n{}", fs::read_to_string(&server.log).unwrap());
            }
            thread::sleep(Duration::from_millis(100));
        }
        server
    }

    fn is_well(&self) -> bool {
        let Ok(mut connection) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let asked = connection.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let mut answer = String::new();
        asked.is_ok() && connection.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
    }

    fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        drop(child.kill());
        drop(child.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A tiny model with random weights, as a folder and as a GGUF file.
fn model(python: &Path, folder: &Path) -> (PathBuf, PathBuf) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../torch/fixtures/models/llama-untied");
    let (target, file) = (folder.join("tiny"), folder.join("tiny.gguf"));
    fs::create_dir(&target).unwrap();
    for entry in fs::read_dir(source).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
    }
    // The server hands all of a tokenizer's outputs to the model, which knows only these.
    let path = target.join("tokenizer_config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["model_input_names"] = serde_json::json!(["input_ids", "attention_mask"]);
    fs::write(&path, config.to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/gguf_of_folder.py");
    let made = Command::new(python).arg(script).args([&target, &file]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (target, file)
}

fn transformers(python: &Path, folder: &Path) -> Server {
    let port = free_port();
    let mut command = Command::new(python);
    let main =
        "import sys; from transformers.commands.transformers_cli import main; sys.argv[0] = 'transformers'; main()";
    command.args(["-c", main, "serve", "--host", "127.0.0.1", "--device", "cpu", "--dtype", "float32", "--port"]);
    command.arg(port.to_string()).env("HF_HUB_OFFLINE", "1").env("OMP_NUM_THREADS", "1");
    Server::start(command, port, &folder.join("transformers.log"))
}

fn llama_cpp(python: &Path, gguf: &Path, folder: &Path) -> Server {
    let port = free_port();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/llama_server.py");
    let mut command = Command::new(python);
    command.arg(script).arg(gguf).arg(port.to_string()).arg("tiny");
    Server::start(command, port, &folder.join(format!("llama-{port}.log")))
}

/// A time-out that no healthy answer of a tiny model meets.
fn patient() -> PoolOptions {
    let mut options = options();
    options.timeouts = Timeouts { connect: Duration::from_secs(5), total: Duration::from_secs(4) };
    options.schedule.in_flight = 2;
    options.schedule.patience = Duration::from_secs(60);
    options
}

fn pool(address: &str, model: &str) -> Pool {
    Pool::new(vec![endpoint(address, model)], patient()).unwrap()
}

#[test]
fn two_kinds_of_servers_say_the_same_with_faults_and_without() {
    let Some(python) = python() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let (folder, gguf) = model(&python, scratch.path());
    let (serve, llama) = (transformers(&python, scratch.path()), llama_cpp(&python, &gguf, scratch.path()));
    let requests = questions(20);
    let mut texts_of_kind = Vec::new();
    for (kind, port, model) in [("openai", serve.port, folder.to_str().unwrap()), ("llama-cpp", llama.port, "tiny")] {
        let address = |port: u16| format!("{kind}:http://127.0.0.1:{port}");
        // The first request loads the model.
        let mut slow = patient();
        slow.timeouts.total = Duration::from_secs(120);
        outcomes(&mut Pool::new(vec![endpoint(&address(port), model)], slow).unwrap(), &requests[..1]);
        let start = Instant::now();
        let (without, counts) = outcomes(&mut pool(&address(port), model), &requests);
        assert!(counts.faults.is_empty(), "{kind}: {:?}", counts.faults);
        let without = texts(&without);
        assert!(without.iter().any(|text| !text.is_empty()) && without.iter().any(|text| *text != without[0]));
        let took = start.elapsed();
        let proxy = Proxy::before(port, all_kinds(Duration::from_millis(2300)));
        let mut quick = patient();
        quick.timeouts.total = Duration::from_secs(2);
        let mut behind = Pool::new(vec![endpoint(&address(proxy.port), model)], quick).unwrap();
        let (with, counts) = outcomes(&mut behind, &requests);
        assert_eq!(texts(&with), without, "{kind}");
        println!("{kind}: {took:?} without faults, {:?} with {:?}", start.elapsed() - took, counts.faults);
        for fault in [
            FaultKind::Timeout,
            FaultKind::Busy,
            FaultKind::Server,
            FaultKind::Cut,
            FaultKind::NotJson,
            FaultKind::Model,
        ] {
            assert!(counts.faults.contains_key(&fault), "{kind}: {fault} did not come up: {:?}", counts.faults);
        }
        texts_of_kind.push(without);
    }
    assert_eq!(texts_of_kind[0], texts_of_kind[1], "two implementations, one model");
}

#[test]
fn llama_cpp_draws_by_seed_from_token_ids_with_log_probabilities() {
    let Some(python) = python() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let (_, gguf) = model(&python, scratch.path());
    let server = llama_cpp(&python, &gguf, scratch.path());
    let address = format!("llama-cpp:http://127.0.0.1:{}", server.port);
    assert_eq!(only_model(&address.parse().unwrap(), None, Timeouts::default()).unwrap(), "tiny");
    let sampling = |temperature, stop: &[&str]| {
        let stop = stop.iter().map(|text| (*text).to_owned()).collect();
        Sampling { temperature, top_p: 1.0, top_k: None, min_p: 0.0, max_tokens: 8, stop }
    };
    let draws: Vec<Request> =
        (0..12).map(|seed| Request::chat(vec![Message::user("hello")], sampling(1.0, &[]), seed)).collect();
    let mut one_at_a_time = patient();
    one_at_a_time.schedule.in_flight = 1;
    let mut pool = Pool::new(vec![endpoint(&address, "tiny")], one_at_a_time).unwrap();
    let first = texts(&outcomes(&mut pool, &draws).0);
    assert_eq!(first, texts(&outcomes(&mut pool, &draws).0), "the same seeds");
    let different: std::collections::BTreeSet<&String> = first.iter().collect();
    assert!(different.len() > 6, "{first:?}");

    let prompt = Prompt::Tokens(vec![1, 2, 30, 40]);
    let parameters = Parameters { sampling: sampling(0.0, &[]), seed: 1, n: 1, logprobs: Some(1) };
    let (found, _) = outcomes(&mut pool, &[Request { prompt, parameters }]);
    let answer = found[0].as_ref().unwrap();
    let logprobs = answer.completions[0].logprobs.as_ref().expect("log-probabilities");
    assert_eq!((logprobs.len(), answer.usage.unwrap().prompt), (8, 4));
    assert!(logprobs.iter().all(|token| token.logprob < 0.0));
    assert_eq!(logprobs.iter().map(|token| token.token.as_str()).collect::<String>(), answer.completions[0].text);

    // A stop text ends the answer and is no part of it.
    let whole = &texts(&outcomes(&mut pool, &questions(1)).0)[0];
    let stop: String = whole.chars().skip(2).take(1).collect();
    let mut stopped = questions(1);
    stopped[0].parameters.sampling = sampling(0.0, &[&stop]);
    let cut = &texts(&outcomes(&mut pool, &stopped).0)[0];
    assert_eq!(Some(cut.as_str()), whole.split(stop.as_str()).next());

    // What the server does not take is said once, in its words, and not repeated.
    let long = Request::chat(vec![Message::user("much ".repeat(2000))], sampling(0.0, &[]), 1);
    let (found, counts) = outcomes(&mut pool, &[long]);
    let failure = found[0].as_ref().unwrap_err();
    assert!(failure.fault.kind() == FaultKind::Refused && counts.sent == 1, "{failure}");
    assert!(failure.to_string().contains("context"), "{failure}");
}

/// Servers that have the same weights, one that has others, and one that is not there.
#[test]
fn other_weights_are_found_out() {
    let Some(python) = python() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let (_, gguf) = model(&python, scratch.path());
    // A few of the last weights, slightly: texts may well stay the same.
    let other = scratch.path().join("other.gguf");
    let mut bytes = fs::read(&gguf).unwrap();
    let end = bytes.len();
    for place in (end - 4000..end - 3).step_by(4) {
        let weight = f32::from_le_bytes(bytes[place..place + 4].try_into().unwrap());
        bytes[place..place + 4].copy_from_slice(&(weight * 1.05).to_le_bytes());
    }
    fs::write(&other, bytes).unwrap();
    let servers: Vec<Server> = [&gguf, &gguf, &other].map(|file| llama_cpp(&python, file, scratch.path())).into();
    let address = |server: &Server| endpoint(&format!("llama-cpp:http://127.0.0.1:{}", server.port), "tiny");
    let pool = |servers: &[Server]| Pool::new(servers.iter().map(address).collect(), patient()).unwrap();
    let mut probes = questions(5);
    probes.iter_mut().for_each(|probe| probe.parameters.logprobs = Some(1));
    let right = pool(&servers[..2]).prove_weights(&probes, None, 1e-4, &|| false).unwrap();
    assert_eq!(right.len(), 5);
    let error = pool(&servers).prove_weights(&probes, None, 1e-4, &|| false).unwrap_err().to_string();
    assert!(error.contains(&format!("{}/v1 has other weights", servers[2].port)), "{error}");
    let error = pool(&servers[2..]).prove_weights(&probes, Some(&right), 1e-4, &|| false).unwrap_err().to_string();
    assert!(error.contains("has other weights"), "{error}");
    servers[1].kill();
    let mut quick = patient();
    quick.schedule.patience = Duration::from_millis(500);
    let mut gone = Pool::new(servers[..2].iter().map(address).collect(), quick).unwrap();
    let error = gone.prove_weights(&probes, None, 1e-4, &|| false).unwrap_err().to_string();
    assert!(error.contains("does not answer a probe: no connection"), "{error}");
}

/// One of three is killed in the middle: the result is that of one server alone.
#[test]
fn one_of_three_dies() {
    let Some(python) = python() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let (_, gguf) = model(&python, scratch.path());
    let servers: Vec<Server> = (0..3).map(|_| llama_cpp(&python, &gguf, scratch.path())).collect();
    let requests = questions(240);
    let address = |server: &Server| endpoint(&format!("llama-cpp:http://127.0.0.1:{}", server.port), "tiny");
    let expected = texts(&outcomes(&mut Pool::new(vec![address(&servers[0])], patient()).unwrap(), &requests).0);
    let mut found = vec![None; requests.len()];
    let mut ended = 0;
    let mut take = |place: u64, outcome: Result<Answer, Failure>| {
        assert!(found[place as usize].replace(outcome).is_none());
        ended += 1;
        if ended == 60 {
            servers[1].kill();
        }
        Ok(())
    };
    let mut pool = Pool::new(servers.iter().map(address).collect(), patient()).unwrap();
    let counts = pool.run(requests.iter().cloned(), &mut take, &|| false).unwrap();
    let found: Vec<Result<Answer, Failure>> = found.into_iter().map(Option::unwrap).collect();
    assert_eq!(texts(&found), expected);
    assert!(counts.faults.contains_key(&FaultKind::Connect) && counts.failures() == 0, "{counts:?}");
    println!("{counts:?}");
}
