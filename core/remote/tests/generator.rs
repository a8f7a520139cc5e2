//! A pool as the engine of a run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use metareward_api::{
    EngineError, Finish, GenerationDraw, GenerationRequest, Generator, Guides, Message, Progress, Sampling,
    StepMetrics, Watch,
};
use metareward_remote::{Pool, ReadPrompt, RemoteGenerator};
use support::{
    endpoint, options,
    scripted::{Scripted, echo},
};

/// Counts progress, and stops after so many answers.
struct Eyes {
    done: AtomicU64,
    most: u64,
}

impl Watch for Eyes {
    fn progress(&self, progress: Progress) {
        self.done.store(progress.done, Ordering::SeqCst);
    }

    fn step(&self, _metrics: &StepMetrics, _seconds: f64) {}

    fn stop(&self) -> bool {
        self.done.load(Ordering::SeqCst) >= self.most
    }
}

fn eyes(most: u64) -> Eyes {
    Eyes { done: AtomicU64::new(0), most }
}

fn generator(kind: &str, port: u16, reader: Option<Box<dyn ReadPrompt>>) -> RemoteGenerator {
    let endpoint = endpoint(&format!("{kind}:http://127.0.0.1:{port}"), "scripted");
    RemoteGenerator::new(Pool::new(vec![endpoint], options()).unwrap(), reader)
}

fn request(id: &str, seeds: &[u64]) -> GenerationRequest {
    let sampling = Sampling { temperature: 0.7, top_p: 0.9, top_k: None, min_p: 0.0, max_tokens: 9, stop: Vec::new() };
    let draw =
        |(place, seed): (usize, &u64)| GenerationDraw { seed: *seed, sampling: sampling.clone(), draw: place as u32 };
    let draws = seeds.iter().enumerate().map(draw).collect();
    GenerationRequest { id: id.to_owned(), messages: vec![Message::user(id)], draws }
}

#[test]
fn every_draw_has_its_own_answer_in_its_place() {
    let server = Scripted::start(echo);
    let requests = [request("a", &[3, 1, 2]), request("none", &[]), request("b", &[1])];
    let watch = eyes(u64::MAX);
    let found = generator("openai", server.port, None).generate(&requests, &Guides::default(), &watch).unwrap();
    let texts: Vec<Vec<&str>> = found.iter().map(|of| of.iter().map(|answer| answer.text.as_str()).collect()).collect();
    assert_eq!(texts, [vec!["a (3)", "a (1)", "a (2)"], vec![], vec!["b (1)"]]);
    assert!(found[0].iter().all(|answer| answer.tokens == 3 && answer.finish == Finish::EndOfTurn));
    assert_eq!(watch.done.load(Ordering::SeqCst), 4);
}

#[test]
fn a_stop_is_a_stop_and_a_missing_answer_is_named() {
    let server = Scripted::start(echo);
    let many: Vec<GenerationRequest> = (0..200).map(|number| request(&number.to_string(), &[1, 2])).collect();
    let stopped = generator("openai", server.port, None).generate(&many, &Guides::default(), &eyes(10)).unwrap_err();
    assert_eq!(stopped, EngineError::Stopped);
    let server = Scripted::start(|body| echo(body).filter(|text| !text.starts_with("bad")));
    let mut quick = options();
    quick.schedule.retries = 1;
    let endpoint = endpoint(&server.address(), "scripted");
    let mut generator = RemoteGenerator::new(Pool::new(vec![endpoint], quick).unwrap(), None);
    let requests = [request("good", &[1]), request("bad", &[1, 2])];
    let error = generator.generate(&requests, &Guides::default(), &eyes(u64::MAX)).unwrap_err().to_string();
    assert!(error.starts_with("2 of 3 answers are missing; the first, bad: the connection was cut"), "{error}");
}

#[test]
fn what_a_server_cannot_be_told_is_refused_before_anything_is_sent() {
    let server = Scripted::start(echo);
    let mut top_k = request("a", &[1]);
    top_k.draws[0].sampling.top_k = Some(5);
    let requests = [request("first", &[1]), top_k];
    let error = generator("openai", server.port, None).generate(&requests, &Guides::default(), &eyes(9)).unwrap_err();
    assert!(matches!(&error, EngineError::Input { record, .. } if record == "a"), "{error}");
    assert!(server.seen().is_empty());
    assert!(generator("vllm", server.port, None).generate(&requests, &Guides::default(), &eyes(9)).is_ok());
}

/// Words as token ids.
struct Words;

impl ReadPrompt for Words {
    fn load(&mut self, _folder: &Path) -> Result<(), EngineError> {
        Ok(())
    }

    fn tokens(&self, messages: &[Message]) -> Result<Vec<u32>, EngineError> {
        Ok(messages.iter().flat_map(|message| message.content.bytes().map(u32::from)).collect())
    }

    fn answer(&self, text: &str) -> Result<(String, u32), EngineError> {
        Ok((text.to_owned(), text.len() as u32))
    }
}

#[test]
fn prompts_are_token_ids_where_they_can_be() {
    for (kind, as_tokens) in [("vllm", true), ("llama-cpp", true), ("openai", false)] {
        let server = Scripted::start(echo);
        let mut generator = generator(kind, server.port, Some(Box::new(Words)));
        generator.generate(&[request("ab", &[1])], &Guides::default(), &eyes(9)).unwrap();
        let seen = server.seen();
        let body: serde_json::Value = serde_json::from_str(seen.keys().next().unwrap()).unwrap();
        assert_eq!(
            body.get("prompt").is_some_and(|prompt| *prompt == serde_json::json!([97, 98])),
            as_tokens,
            "{kind}"
        );
        let counts = generator.count_tokens(&[vec![Message::user("abc")]]).unwrap();
        assert_eq!(counts, [3]);
    }
    // Without a reader the server counts.
    let server = Scripted::start(echo);
    assert_eq!(generator("openai", server.port, None).count_tokens(&[vec![Message::user("abc")]]).unwrap(), [5]);
}

#[test]
fn a_folder_says_what_it_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../torch/fixtures/models/llama-untied");
    let card = generator("openai", 1, None).load(&folder).unwrap();
    assert_eq!(
        (card.architecture.as_str(), card.context, card.vocabulary, card.layers),
        ("LlamaForCausalLM", 256, 150, 2)
    );
    // Both ends, two layers with biases, and the last norm.
    let layer = 4 * (32 * 32 + 32) + 3 * 32 * 48 + 48 + 48 + 32 + 2 * 32;
    assert_eq!((card.parameters, card.cache_bytes_per_token), (2 * 150 * 32 + 2 * layer + 32, 2 * 2 * 4 * 8 * 4));
    assert!(matches!(generator("openai", 1, None).load(Path::new("missing")), Err(EngineError::Model { .. })));
}
