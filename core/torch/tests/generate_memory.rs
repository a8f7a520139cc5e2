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

/// The same for our own code, which is slower to fill it. What it took and gave back before is room, too.
const OWN_CACHE: u64 = 128 << 20;
const OWN_HALF: u64 = 96 << 20;
const OWN_LITTLE: u64 = 2 << 20;

/// How much room the process that is started shall have.
const ROOM: &str = "METAREWARD_TEST_ROOM";
/// Which code it computes with: `own`, or libtorch's tensors.
const CODE: &str = "METAREWARD_TEST_CODE";

/// What computes the model.
#[derive(Clone, Copy, PartialEq)]
enum Code {
    /// Our own code for CPUs, which takes keys and values as they come.
    Own,
    /// libtorch's tensors, which take them all at once.
    Tensors,
}

struct Quiet;

impl Watch for Quiet {
    fn progress(&self, _: Progress) {}
    fn step(&self, _: &StepMetrics, _: f64) {}
    fn stop(&self) -> bool {
        false
    }
}

/// An engine of one worker, and the bytes of a token's keys and values.
fn engine(code: Code, device: Device, cache_bytes: u64) -> (TorchGenerator, u64) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/llama-untied");
    if code == Code::Own {
        // So many rows that keys and values are what limits them.
        let config = EngineConfig { cache_bytes, threads: 1, max_rows: 1 << 13, ..EngineConfig::default() };
        let mut engine = TorchGenerator::new(config);
        let bytes = engine.load(&folder).unwrap().cache_bytes_per_token;
        // Our own code fills heads of 8 numbers up to a vector of 16.
        return (engine, 2 * bytes);
    }
    let model = CausalLm::load(&folder, device, Precision::F32).unwrap();
    let prompting = Prompting::read(&folder, model.config(), TemplateDate::default()).unwrap();
    let bytes = model.card().cache_bytes_per_token;
    let mut engine = TorchGenerator::new(EngineConfig { cache_bytes, ..EngineConfig::default() });
    engine.set_model_on_tensors(model, prompting);
    (engine, bytes)
}

/// Answers to a few prompts, so many to each that their keys and values would take `bytes` if none were shared. For tensors
/// they are greedy: equal ones are one row while they are drawn, so this takes no time. Our own code takes memory as it is
/// filled, so for it they are different, and twice as many, for some end early.
fn requests(code: Code, bytes: u64, per_token: u64) -> Vec<GenerationRequest> {
    let (temperature, times) = match code {
        Code::Own => (1.0, 2),
        Code::Tensors => (0.0, 1),
    };
    let sampling = Sampling { temperature, top_p: 1.0, top_k: None, min_p: 0.0, max_tokens: 100, stop: Vec::new() };
    let draws = u32::try_from(times * bytes / per_token / 100 / 4 + 1).unwrap();
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
fn check(code: Code, device: Device, room: u64, limit: impl FnOnce(u64)) {
    let (mut ample, per_token) = engine(code, device, 8 << 20);
    let cache = if code == Code::Own { OWN_CACHE } else { CACHE };
    let requests = requests(code, cache, per_token);
    let expected = generate(&mut ample, &requests).unwrap();
    drop(ample);
    let (mut engine, _) = engine(code, device, cache);
    limit(room);
    // Without the texts, which are many.
    let found = generate(&mut engine, &requests).map(|found| found == expected);
    if [HALF, OWN_HALF].contains(&room) {
        assert!(found.unwrap(), "half the batch gives other answers");
    } else {
        let text = found.expect_err("there is room after all").to_string();
        println!("{text}");
        let taken = format!("keys and values of {:.1} GB ({} tokens)", cache as f64 / 1e9, cache / per_token);
        assert!(
            text.starts_with("out of memory, also at half the batch: weights of ") && text.contains(&taken),
            "{text}"
        );
        assert!(
            text.contains(&format!("set engine.cache_bytes below {}", cache / per_token * per_token / 2)),
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
    let code = if std::env::var(CODE).unwrap() == "own" { Code::Own } else { Code::Tensors };
    check(code, Device::Cpu, room, |room| {
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
    for (room, code) in [(HALF, "tensors"), (QUARTER, "tensors"), (OWN_HALF, "own"), (OWN_LITTLE, "own")] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "generates_in_little_memory", "--ignored", "--nocapture"])
            .env(ROOM, room.to_string())
            .env(CODE, code)
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
        check(Code::Tensors, device, room, |room| {
            // In pieces, as a whole it may not be there.
            let piece = 16u64 << 20;
            while device_memory(device).unwrap().free > room + piece {
                ballast.push(Tensor::zeros([piece as i64], (Kind::Uint8, device)));
            }
        });
    }
}
