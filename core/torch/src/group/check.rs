//! A look at a group: who is in it, where, and how fast they exchange numbers.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::Group;
use crate::{Result, TorchError};

/// Numbers summed over the processes to measure the bandwidth: 100 MB of f32.
const NUMBERS: i64 = 25_000_000;

/// Times that is done; the first one is not counted.
const ROUNDS: usize = 4;

/// A process of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFound {
    /// Its number.
    pub rank: usize,
    /// Its number on its host.
    pub local_rank: usize,
    /// Its host's name.
    pub host: String,
    /// Its number in the host's system.
    pub process: u32,
    /// Where its tensors are: `cpu`, or `cuda:1`.
    pub device: String,
    /// GPUs that it was given, where something says so (`CUDA_VISIBLE_DEVICES`).
    pub visible: Option<String>,
    /// Threads that one of its operations uses.
    pub threads: usize,
}

/// What a look at a group found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupFound {
    /// The processes, in order.
    pub processes: Vec<ProcessFound>,
    /// Bytes that each process put into the all-reduce.
    pub bytes: u64,
    /// Seconds that it took: the fastest of three.
    pub seconds: f64,
    /// What is wrong with the group; nothing, as a rule.
    pub faults: Vec<String>,
}

impl GroupFound {
    /// Bytes per second that leave a process, and that come in, while all sum up their numbers: each has to be sent
    /// 2 (n − 1) / n times at least. What NCCL's tests call bus bandwidth.
    pub fn bandwidth(&self) -> f64 {
        let processes = self.processes.len() as f64;
        self.bytes as f64 / self.seconds * 2.0 * (processes - 1.0) / processes
    }
}

impl Group {
    /// Looks at the group; all processes call it. Process 0 gets what was found, the others nothing.
    ///
    /// # Errors
    /// [`TorchError::Group`] when another process is gone, or sums come out wrong.
    pub fn look(&self) -> Result<Option<GroupFound>> {
        let own = ProcessFound {
            rank: self.rank(),
            local_rank: self.local_rank(),
            host: host_name(),
            process: std::process::id(),
            device: match self.device() {
                Device::Cuda(index) => format!("cuda:{index}"),
                _ => "cpu".to_owned(),
            },
            visible: std::env::var("CUDA_VISIBLE_DEVICES").ok(),
            threads: usize::try_from(tch::get_num_threads()).unwrap_or(1),
        };
        let own = serde_json::to_vec(&own).map_err(|error| TorchError::Group(error.to_string()))?;
        let processes = self.gather_bytes(0, &own)?;
        let mut fastest = Duration::MAX;
        for round in 0..ROUNDS {
            let mut numbers = Tensor::f_full([NUMBERS], (self.rank() + 1) as f64, (Kind::Float, self.device()))?;
            self.barrier()?;
            let begun = Instant::now();
            self.all_reduce(&mut numbers)?;
            if round > 0 {
                fastest = fastest.min(begun.elapsed());
            }
            let expected = (self.size() * (self.size() + 1) / 2) as f64;
            for place in [0, NUMBERS / 2, NUMBERS - 1] {
                let found = numbers.f_double_value(&[place])?;
                if found != expected {
                    return Err(TorchError::Group(format!("the processes' sum is {found} instead of {expected}")));
                }
            }
        }
        let Some(processes) = processes else { return Ok(None) };
        let processes = processes
            .iter()
            .map(|bytes| serde_json::from_slice(bytes))
            .collect::<std::result::Result<Vec<ProcessFound>, _>>()
            .map_err(|error| TorchError::Group(format!("the processes do not run the same program: {error}")))?;
        let faults = faults(&processes);
        Ok(Some(GroupFound { processes, bytes: 4 * NUMBERS as u64, seconds: fastest.as_secs_f64(), faults }))
    }
}

/// GPUs that several processes take for their own.
fn faults(processes: &[ProcessFound]) -> Vec<String> {
    let mut owners: BTreeMap<(&str, Option<&str>, &str), Vec<usize>> = BTreeMap::new();
    for process in processes.iter().filter(|process| process.device != "cpu") {
        let place = (process.host.as_str(), process.visible.as_deref(), process.device.as_str());
        owners.entry(place).or_default().push(process.rank);
    }
    owners
        .into_iter()
        .filter(|(_, ranks)| ranks.len() > 1)
        .map(|((host, _, device), ranks)| {
            let ranks: Vec<String> = ranks.iter().map(usize::to_string).collect();
            format!("processes {} share {device} of {host}: give each its own (LOCAL_RANK)", ranks.join(", "))
        })
        .collect()
}

fn host_name() -> String {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    read("/proc/sys/kernel/hostname").filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(rank: usize, host: &str, device: &str, visible: Option<&str>) -> ProcessFound {
        ProcessFound {
            rank,
            local_rank: rank,
            host: host.to_owned(),
            process: 1,
            device: device.to_owned(),
            visible: visible.map(str::to_owned),
            threads: 1,
        }
    }

    #[test]
    fn a_gpu_with_two_owners_is_a_fault() {
        let fine = [
            process(0, "a", "cuda:0", Some("0")),
            process(1, "a", "cuda:0", Some("1")),
            process(2, "b", "cuda:0", Some("0")),
            process(3, "b", "cpu", None),
            process(4, "b", "cpu", None),
        ];
        assert_eq!(faults(&fine), Vec::<String>::new());
        let shared =
            [process(0, "a", "cuda:1", None), process(1, "a", "cuda:1", None), process(2, "b", "cuda:1", None)];
        assert_eq!(faults(&shared).len(), 1);
        assert!(faults(&shared)[0].starts_with("processes 0, 1 share cuda:1 of a"));
    }

    #[test]
    fn bandwidth_is_what_each_has_to_send() {
        let processes = (0..4).map(|rank| process(rank, "a", "cpu", None)).collect();
        let found = GroupFound { processes, bytes: 100_000_000, seconds: 0.1, faults: Vec::new() };
        assert!((found.bandwidth() - 1.5e9).abs() < 1.0);
    }
}
