//! The process group, in processes of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod processes;

use std::{
    env,
    process::Command,
    time::{Duration, Instant},
};

use metareward_torch::group::{Group, Member, Patience, share};
use processes::{all_well, end, free_port, play, prepare, scene};
use tch::{Device, Kind, Tensor};

const LIMIT: Duration = Duration::from_secs(60);

/// What a process of a scene does.
#[test]
#[ignore = "started by the other tests"]
fn worker() {
    tch::set_num_threads(1);
    match scene().as_deref() {
        Some("collectives") => collectives(&joined()),
        Some("bytes") => bytes(&joined()),
        Some("order") => order(&joined()),
        Some("dead") => dead(&joined(), &env::var("METAREWARD_TEST_WAITS_IN").unwrap()),
        Some("late") => late(),
        Some("silent") => silent(),
        other => panic!("no scene {other:?}"),
    }
}

fn joined() -> Group {
    Group::from_env(Device::Cpu).unwrap().expect("started as one of several")
}

/// SplitMix64.
struct Stream(u64);

impl Stream {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Small whole numbers, which every number format adds up without rounding: what process `rank` holds in `case`.
fn numbers(case: u64, rank: usize, length: i64, kind: Kind) -> Tensor {
    let mut stream = Stream(case.wrapping_mul(1000) + rank as u64);
    let values: Vec<i64> = (0..length).map(|_| stream.below(9) as i64 - 4).collect();
    Tensor::from_slice(&values).to_kind(kind)
}

/// Every operation, on lengths that the number of processes divides and on those that it does not, against the same
/// arithmetic done by each process alone.
fn collectives(group: &Group) {
    let (rank, size) = (group.rank(), group.size());
    let mut lengths = Stream(7);
    for case in 0..60 {
        let length = if case == 40 { 300_001 } else { lengths.below(40) as i64 };
        let kind = [Kind::Float, Kind::BFloat16, Kind::Double, Kind::Int64][case as usize % 4];
        let all: Vec<Tensor> = (0..size).map(|rank| numbers(case, rank, length, kind)).collect();
        let sum = all.iter().skip(1).fold(all[0].copy(), |sum, next| sum + next);
        let own = share(length, rank, size);
        let name = format!("case {case}, {length} of {kind:?}, process {rank} of {size}");

        let mut reduced = all[rank].copy();
        group.all_reduce(&mut reduced).unwrap();
        assert!(reduced.equal(&sum), "all_reduce: {name}");

        let part = group.reduce_scatter(&all[rank]).unwrap();
        assert!(part.equal(&sum.narrow(0, own.start, own.end - own.start)), "reduce_scatter: {name}");

        let gathered = group.all_gather(&part, length).unwrap();
        assert!(gathered.equal(&sum), "all_gather: {name}");

        let root = case as usize % size;
        let mut given = all[rank].copy();
        group.broadcast(&mut given, root).unwrap();
        assert!(given.equal(&all[root]), "broadcast: {name}");

        let given = all[rank].copy();
        let found = group.start_reduce(&given, root).unwrap().wait().unwrap();
        assert!(rank != root || found.equal(&sum), "reduce: {name}");
    }
    for rounds in 0..3 {
        assert_eq!(group.maximum(rank as i64 - rounds).unwrap(), size as i64 - 1 - rounds);
    }
    let wrong = group.all_gather(&Tensor::zeros([3], (Kind::Float, Device::Cpu)), 100 * size as i64).unwrap_err();
    assert!(wrong.to_string().contains("a share of"), "{wrong}");
    group.barrier().unwrap();
}

/// Several operations under way at a time, ended in another order than begun.
fn order(group: &Group) {
    let size = group.size();
    for case in 0..20u64 {
        let lengths = [1000, 17, 50_000, 1];
        let held: Vec<Vec<Tensor>> = lengths
            .iter()
            .enumerate()
            .map(|(index, &length)| {
                (0..size).map(|rank| numbers(100 * case + index as u64, rank, length, Kind::Float)).collect()
            })
            .collect();
        let sums: Vec<Tensor> =
            held.iter().map(|all| all.iter().skip(1).fold(all[0].copy(), |sum, next| sum + next)).collect();
        let own: Vec<Tensor> = held.iter().map(|all| all[group.rank()].copy()).collect();
        let first = group.start_all_reduce(&own[0]).unwrap();
        let second = group.start_reduce_scatter(&own[1]).unwrap();
        let third = group.start_all_reduce(&own[2]).unwrap();
        let fourth = group.start_all_reduce(&own[3]).unwrap();
        assert!(third.wait().unwrap().equal(&sums[2]));
        assert!(fourth.wait().unwrap().equal(&sums[3]));
        assert!(first.wait().unwrap().equal(&sums[0]) && own[0].equal(&sums[0]), "in place");
        let part = group.share(17);
        assert!(second.wait().unwrap().equal(&sums[1].narrow(0, part.start, part.end - part.start)));
        // One that nobody waits for does no harm.
        drop(group.start_all_reduce(&own[1]).unwrap());
    }
    group.barrier().unwrap();
}

fn bytes(group: &Group) {
    let (rank, size) = (group.rank(), group.size());
    // Other connections of the same processes, beside these.
    let another = group.another("beside").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..200)
                .for_each(|round| assert_eq!(another.maximum(rank as i64 + round).unwrap(), size as i64 - 1 + round))
        });
        exchange(group);
    });
}

fn exchange(group: &Group) {
    let (rank, size) = (group.rank(), group.size());
    let text = |rank: usize, length: usize| -> Vec<u8> { (0..length).map(|at| (at * 31 + rank * 7) as u8).collect() };
    for length in [0, 1, 5, 3_000_000] {
        for root in 0..size {
            let given = if rank == root { text(root, length) } else { Vec::new() };
            assert_eq!(group.broadcast_bytes(root, given).unwrap(), text(root, length));
            let gathered = group.gather_bytes(root, &text(rank, length * rank)).unwrap();
            assert_eq!(gathered.is_some(), rank == root);
            for (from, bytes) in gathered.iter().flatten().enumerate() {
                assert_eq!(*bytes, text(from, length * from));
            }
        }
    }
    if rank == 0 {
        group.command("train", b"this").unwrap();
        group.command("", &[]).unwrap();
    } else {
        let command = group.next_command().unwrap();
        assert_eq!((command.kind.as_str(), command.payload.as_slice()), ("train", b"this".as_slice()));
        let command = group.next_command().unwrap();
        assert_eq!((command.kind.as_str(), command.payload.len()), ("", 0));
    }
    // Messages between two keep their order.
    if rank == 1 {
        (0..10).for_each(|index| group.send_bytes(0, &text(1, index)).unwrap());
    } else if rank == 0 {
        (0..10).for_each(|index| assert_eq!(group.receive_bytes(1).unwrap(), text(1, index)));
    }
}

/// The last process dies; what do the others wait in, and when do they know?
fn dead(group: &Group, place: &str) {
    group.barrier().unwrap();
    if group.rank() + 1 == group.size() {
        std::thread::sleep(Duration::from_millis(300));
        // As `kill -9` does: nothing is closed in good order.
        std::process::abort();
    }
    let begun = Instant::now();
    let mut tensor = Tensor::zeros([1001], (Kind::Float, Device::Cpu));
    let error = match place {
        "barrier" => group.barrier().unwrap_err(),
        "all_reduce" => group.all_reduce(&mut tensor).unwrap_err(),
        "reduce_scatter" => group.reduce_scatter(&tensor).map(|_| ()).unwrap_err(),
        "all_gather" => group.all_gather(&tensor, 1001 * group.size() as i64).map(|_| ()).unwrap_err(),
        "commands" => group.broadcast_bytes(group.size() - 1, Vec::new()).unwrap_err(),
        "results" => group.receive_bytes(group.size() - 1).unwrap_err(),
        "afterwards" => {
            std::thread::sleep(Duration::from_secs(1));
            group.all_reduce(&mut tensor).unwrap_err()
        }
        other => panic!("no place {other}"),
    };
    let seconds = begun.elapsed().as_secs_f64();
    let error = error.to_string();
    assert!(seconds < 10.0, "{seconds} s until {error}");
    assert!(error.starts_with("process group: another process is gone") && !error.contains('\n'), "{error}");
    println!("knew after {seconds:.2} s: {error}");
    assert!(group.barrier().is_err(), "a group that lost a process is of no further use");
}

/// One process too few.
fn late() {
    let member = Member::of_process().unwrap().unwrap();
    let patience = Patience { join: Duration::from_secs(3), ..Patience::default() };
    let begun = Instant::now();
    let error = Group::join(Member { size: member.size + 1, ..member }, Device::Cpu, patience).map(|_| ()).unwrap_err();
    let (error, seconds) = (error.to_string(), begun.elapsed().as_secs_f64());
    assert!(error.contains("could not meet the others at 127.0.0.1:") && !error.contains('\n'), "{error}");
    assert!(seconds < 20.0, "{seconds} s");
    println!("after {seconds:.1} s: {error}");
}

/// One that is alive and does not answer.
fn silent() {
    let member = Member::of_process().unwrap().unwrap();
    let second = Duration::from_secs(2);
    let patience = Patience { tensors: second, bytes: second, ..Patience::default() };
    let group = Group::join(member, Device::Cpu, patience).unwrap();
    if group.rank() == 0 {
        std::thread::sleep(Duration::from_secs(6));
        return;
    }
    let begun = Instant::now();
    let error = group.broadcast_bytes(0, Vec::new()).unwrap_err().to_string();
    assert!(begun.elapsed() < Duration::from_secs(5), "{error}");
    assert!(!error.contains('\n'), "{error}");
    println!("{error}");
}

#[test]
fn operations_are_what_each_process_computes_alone() {
    for size in [2, 3] {
        all_well(&play("collectives", size, &[], LIMIT));
    }
}

#[test]
fn operations_end_in_any_order() {
    all_well(&play("order", 3, &[], LIMIT));
}

#[test]
fn bytes_arrive_whole() {
    all_well(&play("bytes", 3, &[], LIMIT));
}

#[test]
fn a_process_that_dies_is_an_error_in_seconds() {
    for place in ["barrier", "all_reduce", "reduce_scatter", "all_gather", "commands", "results", "afterwards"] {
        let ended = play("dead", 3, &[("METAREWARD_TEST_WAITS_IN", place.to_owned())], LIMIT);
        all_well(&ended[..2]);
        assert!(!ended[2].status.success());
    }
}

#[test]
fn a_process_that_never_comes_is_an_error() {
    all_well(&play("late", 2, &[], LIMIT));
}

#[test]
fn a_process_that_does_not_answer_is_an_error() {
    all_well(&play("silent", 2, &[], LIMIT));
}

/// The launcher runs the store, and gives the variables.
#[test]
fn under_torchrun() {
    let Some(torchrun) = torchrun() else { return };
    let mut command = Command::new(torchrun);
    command.args(["--no-python", "--nproc-per-node", "2", "--master-port", &free_port().to_string()]);
    command.arg(env::current_exe().unwrap());
    command.args(["--exact", "worker", "--ignored", "--nocapture", "--test-threads", "1"]);
    prepare(&mut command, "collectives", &[]);
    all_well(&[end(command.spawn().unwrap(), Instant::now(), LIMIT)]);
}

/// torchrun beside the Python that the tests are told to use.
fn torchrun() -> Option<std::path::PathBuf> {
    let Some(python) = env::var_os("METAREWARD_PYTHON") else {
        println!("METAREWARD_PYTHON is not set: nothing is run under torchrun");
        return None;
    };
    let torchrun = std::path::Path::new(&python).with_file_name("torchrun");
    assert!(torchrun.is_file(), "{} is not there", torchrun.display());
    Some(torchrun)
}
