//! Generation on a device that really runs out of memory: the call is done at half the batch and gives the same answers;
//! where that does not fit either, one sentence says so with numbers.
//!
//! On a CPU the process that generates is started for it, and its address space is limited to what it has and a
//! little more, so that libtorch's allocator fails. On a GPU all memory but a little is taken first.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::Path,
    process::{self, Command},
};

use metareward_api::{
    EngineError, Generation, GenerationDraw, GenerationRequest, Generator, Guides, Message, Progress, Sampling,
    StepMetrics, Watch,
};
use metareward_torch::{
    CausalLm, Precision, Prompting, TemplateDate,
    generate::{EngineConfig, TorchGenerator},
    library::{Cuda, cuda, device_memory},
};
use tch::{Device, Kind, Tensor};

/// Keys and values that the engine may take, and takes because so many answers could become so long.
const CACHE: u64 = 200 << 20;
/// Room for half of it, and for no more than a quarter of it.
const HALF: u64 = 150 << 20;
const QUARTER: u64 = 50 << 20;

/// How much room the process that is started shall have.
const ROOM: &str = "METAREWARD_TEST_ROOM";

struct Quiet;

impl Watch for Quiet {
    fn progress(&self, _: Progress) {}
    fn step(&self, _: &StepMetrics, _: f64) {}
    fn stop(&self) -> bool {
        false
    }
}

/// An engine on libtorch's tensors, whose keys and values are allocated at once.
fn engine(device: Device, cache_bytes: u64) -> (TorchGenerator, u64) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/llama-untied");
    let model = CausalLm::load(&folder, device, Precision::F32).unwrap();
    let prompting = Prompting::read(&folder, model.config(), TemplateDate::default()).unwrap();
    let bytes = model.card().cache_bytes_per_token;
    let mut engine = TorchGenerator::new(EngineConfig { cache_bytes, ..EngineConfig::default() });
    engine.set_model_on_tensors(model, prompting);
    (engine, bytes)
}

/// Greedy answers to a few prompts, so many to each that their keys and values would take `bytes` if none were shared.
/// Equal ones are one row while they are drawn, so this takes no time.
fn requests(bytes: u64, per_token: u64) -> Vec<GenerationRequest> {
    let sampling =
        Sampling { temperature: 0.0, top_p: 1.0, top_k: None, min_p: 0.0, max_tokens: 100, stop: Vec::new() };
    let draws = u32::try_from(bytes / per_token / 100 / 4 + 1).unwrap();
    let draw = |draw| GenerationDraw { seed: u64::from(draw), sampling: sampling.clone(), draw };
    let request = |index: u32| GenerationRequest {
        id: format!("prompt {index}"),
        messages: vec![Message::user(format!("Sort list {index}"))],
        draws: (0..draws).map(draw).collect(),
    };
    (0..4).map(request).collect()
}

fn generate(engine: &mut TorchGenerator, requests: &[GenerationRequest]) -> Result<Vec<Vec<Generation>>, EngineError> {
    engine.generate(requests, &Guides::default(), &Quiet)
}

/// With `limit` having taken all memory but the room it is given.
fn check(device: Device, room: u64, limit: impl FnOnce(u64)) {
    let (mut ample, per_token) = engine(device, 8 << 20);
    let requests = requests(CACHE, per_token);
    let expected = generate(&mut ample, &requests).unwrap();
    drop(ample);
    let (mut engine, _) = engine(device, CACHE);
    limit(room);
    let found = generate(&mut engine, &requests);
    if room == HALF {
        assert!(found.unwrap() == expected, "half the batch gives other answers");
    } else {
        let text = found.unwrap_err().to_string();
        println!("{text}");
        let cache = format!("keys and values of {:.1} GB ({} tokens)", CACHE as f64 / 1e9, CACHE / per_token);
        assert!(
            text.starts_with("out of memory, also at half the batch: weights of ") && text.contains(&cache),
            "{text}"
        );
        assert!(
            text.contains(&format!("set engine.cache_bytes below {}", CACHE / per_token * per_token / 2)),
            "{text}"
        );
        assert!(!text.contains('\n'));
    }
}

/// What the process that [`a_cpu_without_memory`] starts does.
#[test]
#[ignore = "started by another test, with little memory"]
fn generates_in_little_memory() {
    tch::set_num_threads(1);
    let room = std::env::var(ROOM).unwrap().parse().unwrap();
    check(Device::Cpu, room, |room| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmSize:")).unwrap();
        let size: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        let pid = process::id().to_string();
        let limit = format!("--as={}", size * 1024 + room);
        let done = Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap();
        assert!(done.success());
    });
}

#[test]
fn a_cpu_without_memory() {
    if !Command::new("prlimit").arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: there is no prlimit to limit a process's memory with");
        return;
    }
    for room in [HALF, QUARTER] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "generates_in_little_memory", "--ignored", "--nocapture"])
            .env(ROOM, room.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
}

#[test]
fn a_gpu_without_memory() {
    match cuda() {
        Cuda::Ready { devices } if *devices > 0 => {}
        other => return println!("skipped: no GPU can be used: {other}"),
    }
    let device = Device::Cuda(0);
    for room in [HALF, QUARTER] {
        let mut ballast = Vec::new();
        check(device, room, |room| {
            // In pieces, as a whole it may not be there.
            let piece = 16u64 << 20;
            while device_memory(device).unwrap().free > room + piece {
                ballast.push(Tensor::zeros([piece as i64], (Kind::Uint8, device)));
            }
        });
    }
}
