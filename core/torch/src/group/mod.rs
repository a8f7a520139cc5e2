//! Several processes that work on one thing: a process group.
//!
//! [`Group::from_env`] finds the others by what torchrun, SLURM or hand-set variables say. Every process then calls the same
//! operations in the same order. What is on the CPU goes through Gloo, what is on a GPU through NCCL. When a process dies,
//! its connections close, and whatever operation another one waits in, or begins, is an error there.

mod check;
mod environment;
mod gloo;
mod nccl;

use std::{ops::Range, time::Duration};

use tch::{Device, Kind, Tensor};

pub use self::{
    check::{GroupFound, ProcessFound},
    environment::Member,
};
use self::{
    gloo::{Gloo, GlooWork, Reduction},
    nccl::{Nccl, NcclWork},
};
use crate::{Result, TorchError};

/// How long a process waits for the others. A process that dies is noticed at once whatever stands here; these limits are
/// for one that is alive and does not answer, or whose machine lost its power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until all have started and met.
    pub join: Duration,
    /// For an operation on tensors: all are at the same place in the same computation.
    pub tensors: Duration,
    /// For bytes and barriers: another process may generate or write for hours before it comes to them.
    pub bytes: Duration,
}

impl Default for Patience {
    /// 10 minutes, 1 hour, 7 days.
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self { join: minutes(10), tensors: minutes(60), bytes: minutes(7 * 24 * 60) }
    }
}

/// The processes that work together, seen from one of them.
///
/// Operations match by their order: every process calls the same ones in the same order, on tensors of the same shape and
/// number format. One that fails leaves the group of no further use.
pub struct Group {
    member: Member,
    patience: Patience,
    device: Device,
    gloo: Gloo,
    nccl: Option<Nccl>,
}

/// An operation under way. Until [`Pending::wait`] returns, nobody may read or write the tensors that it was given.
#[must_use = "the result is there after `wait`"]
pub struct Pending {
    work: Work,
    result: Tensor,
    /// Elements of the result that count; the rest made the processes' parts equal.
    length: i64,
}

enum Work {
    /// There was nothing to send.
    Nothing,
    Gloo(GlooWork),
    Nccl(NcclWork),
}

impl Pending {
    /// The operation's result, when it is there.
    ///
    /// # Errors
    /// [`TorchError::Group`] when another process is gone or did not answer in time.
    pub fn wait(self) -> Result<Tensor> {
        match self.work {
            Work::Nothing => {}
            Work::Gloo(work) => work.wait()?,
            Work::Nccl(work) => work.wait()?,
        }
        match self.result.dim() {
            1 => Ok(self.result.f_narrow(0, 0, self.length)?),
            _ => Ok(self.result),
        }
    }
}

/// What process 0 tells the others to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Who understands it.
    pub kind: String,
    /// What it says.
    pub payload: Vec<u8>,
}

/// Elements of `length` that belong to process `rank` of `size`: parts of `length / size`, rounded up, as long as there are
/// any left.
pub fn share(length: i64, rank: usize, size: usize) -> Range<i64> {
    let each = part(length, size);
    let start = (each * rank as i64).min(length);
    start..(start + each).min(length)
}

/// Elements of a part, before the last ones are cut off.
fn part(length: i64, size: usize) -> i64 {
    (length + size as i64 - 1) / size.max(1) as i64
}

impl Group {
    /// The group that the environment says this process belongs to; `None` where it is alone. `device` is where its tensors
    /// will be; for a GPU, NCCL is set up too.
    ///
    /// # Errors
    /// [`TorchError::Group`] when the variables are half set or make no sense, or the others cannot be met;
    /// [`TorchError::Machine`] when there is no NCCL for a GPU.
    pub fn from_env(device: Device) -> Result<Option<Group>> {
        Member::of_process()?.map(|member| Self::join(member, device, Patience::default())).transpose()
    }

    /// Meets the other processes and connects to each.
    ///
    /// # Errors
    /// As [`Group::from_env`].
    pub fn join(member: Member, device: Device, patience: Patience) -> Result<Group> {
        let gloo = Gloo::join(&member, patience.join)?;
        let mut group = Group { member, patience, device, gloo, nccl: None };
        if let Device::Cuda(index) = device {
            // All know it or none goes on: one without NCCL must not leave the others waiting.
            let functions = nccl::functions();
            let lacking = i64::from(functions.is_err());
            let lacking = group.reduce(&Tensor::from_slice(&[lacking]), Reduction::Maximum)?.f_int64_value(&[0])?;
            let functions = functions?;
            if lacking != 0 {
                return Err(TorchError::Group("another process has no NCCL; it says why".to_owned()));
            }
            let id = if group.rank() == 0 { functions.unique_id()? } else { Vec::new() };
            let id = group.broadcast_bytes(0, id)?;
            group.nccl = Some(Nccl::join(functions, &id, group.rank(), group.size(), index)?);
        }
        Ok(group)
    }

    /// The same processes with connections of their own, for a thread that talks to the others while another one trains.
    /// All call it, with the same name.
    ///
    /// # Errors
    /// As [`Group::from_env`].
    pub fn another(&self, name: &str) -> Result<Group> {
        // The store of the first connections runs on.
        let prefix = format!("{}/{name}", self.member.prefix);
        Self::join(Member { serves: false, prefix, ..self.member.clone() }, Device::Cpu, self.patience)
    }

    /// Number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.member.rank
    }

    /// Number of processes, at least 2.
    pub fn size(&self) -> usize {
        self.member.size
    }

    /// Number of this process on its host, from 0.
    pub fn local_rank(&self) -> usize {
        self.member.local_rank
    }

    /// Number of processes on this one's host, as far as the launcher says; else of all.
    pub fn local_size(&self) -> usize {
        self.member.local_size
    }

    /// Where this process's tensors are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Elements of a flat tensor of `length` that belong to this process; see [`share`].
    pub fn share(&self, length: i64) -> Range<i64> {
        share(length, self.rank(), self.size())
    }

    /// Returns when all processes have come to it.
    ///
    /// # Errors
    /// [`TorchError::Group`] when another process is gone.
    pub fn barrier(&self) -> Result<()> {
        self.reduce(&Tensor::f_zeros([1], (Kind::Int64, Device::Cpu))?, Reduction::Maximum).map(|_| ())
    }

    /// Puts `tensor` of process `root` in place of every process's.
    ///
    /// # Errors
    /// [`TorchError::Group`] when another process is gone.
    pub fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<()> {
        self.start_broadcast(tensor, root)?.wait().map(|_| ())
    }

    /// Begins to put `tensor` of process `root` in place of every process's.
    ///
    /// # Errors
    /// [`TorchError::Group`] when another process is gone.
    pub fn start_broadcast(&self, tensor: &Tensor, root: usize) -> Result<Pending> {
        let flat = contiguous(tensor)?;
        let work = match self.nccl_for(&flat)? {
            _ if flat.numel() == 0 => Work::Nothing,
            Some(nccl) => Work::Nccl(nccl.broadcast(&flat, root, self.patience.tensors)?),
            None => Work::Gloo(self.gloo.broadcast(&flat, root, self.patience.tensors)?),
        };
        Ok(Pending { work, length: length(&flat), result: flat })
    }

    /// Begins to sum `tensor` over the processes, in place, at process `root`. What the others' tensors hold afterwards is
    /// not said.
    ///
    /// # Errors
    /// [`TorchError::Group`] when another process is gone.
    pub fn start_reduce(&self, tensor: &Tensor, root: usize) -> Result<Pending> {
        let flat = contiguous(tensor)?;
        let work = match self.nccl_for(&flat)? {
            _ if flat.numel() == 0 => Work::Nothing,
            Some(nccl) => Work::Nccl(nccl.reduce(&flat, root, self.patience.tensors)?),
            None => Work::Gloo(self.gloo.reduce(&flat, root, self.patience.tensors)?),
        };
        Ok(Pending { work, length: length(&flat), result: flat })
    }

    /// Sums `tensor` over the processes, in place.
    ///
    /// # Errors
    /// [`TorchError::Group`] when another process is gone.
    pub fn all_reduce(&self, tensor: &mut Tensor) -> Result<()> {
        self.start_all_reduce(tensor)?.wait().map(|_| ())
    }

    /// Begins to sum `tensor` over the processes, in place.
    ///
    /// # Errors
    /// [`TorchError::Group`] when another process is gone.
    pub fn start_all_reduce(&self, tensor: &Tensor) -> Result<Pending> {
        let flat = contiguous(tensor)?;
        let work = match self.nccl_for(&flat)? {
            _ if flat.numel() == 0 => Work::Nothing,
            Some(nccl) => Work::Nccl(nccl.all_reduce(&flat, self.patience.tensors)?),
            None => Work::Gloo(self.gloo.all_reduce(&flat, Reduction::Sum, self.patience.tensors)?),
        };
        Ok(Pending { work, length: length(&flat), result: flat })
    }

    /// Sums the flat tensor `full` over the processes and returns this process's [`share`] of the sum.
    ///
    /// # Errors
    /// [`TorchError::Group`] when another process is gone.
    pub fn reduce_scatter(&self, full: &Tensor) -> Result<Tensor> {
        self.start_reduce_scatter(full)?.wait()
    }

    /// Begins to sum the flat tensor `full` over the processes; the result is this process's [`share`] of the sum, in
    /// memory of its own.
    ///
    /// # Errors
    /// [`TorchError::Group`] when another process is gone.
    pub fn start_reduce_scatter(&self, full: &Tensor) -> Result<Pending> {
        let full = contiguous(full)?;
        let total = length(&full);
        let each = part(total, self.size());
        let full = padded(&full, each * self.size() as i64)?;
        let result = Tensor::f_empty([each], (full.kind(), full.device()))?;
        let work = match self.nccl_for(&full)? {
            _ if full.numel() == 0 => Work::Nothing,
            Some(nccl) => Work::Nccl(nccl.reduce_scatter(&full, &result, self.patience.tensors)?),
            None => Work::Gloo(self.gloo.reduce_scatter(&full, &result, self.patience.tensors)?),
        };
        let own = self.share(total);
        Ok(Pending { work, length: own.end - own.start, result })
    }

    /// Puts the processes' shares together: `part` is this process's [`share`] of a flat tensor of `length`, which is
    /// returned.
    ///
    /// # Errors
    /// [`TorchError::Group`] when another process is gone.
    pub fn all_gather(&self, part: &Tensor, length: i64) -> Result<Tensor> {
        self.start_all_gather(part, length)?.wait()
    }

    /// Begins to put the processes' shares together; see [`Group::all_gather`].
    ///
    /// # Errors
    /// [`TorchError::Group`] when another process is gone; [`TorchError::Input`] when `part` is not this process's share.
    pub fn start_all_gather(&self, part: &Tensor, length: i64) -> Result<Pending> {
        let own = self.share(length);
        let found = part.numel() as i64;
        if found != own.end - own.start {
            return Err(TorchError::Input(format!(
                "a share of {length} elements has {}, not {found}",
                own.end - own.start
            )));
        }
        let each = self::part(length, self.size());
        let part = padded(&contiguous(part)?, each)?;
        let result = Tensor::f_empty([each * self.size() as i64], (part.kind(), part.device()))?;
        let work = match self.nccl_for(&part)? {
            _ if part.numel() == 0 => Work::Nothing,
            Some(nccl) => Work::Nccl(nccl.all_gather(&part, &result, self.patience.tensors)?),
            None => Work::Gloo(self.gloo.all_gather(&part, &result, self.patience.tensors)?),
        };
        Ok(Pending { work, result, length })
    }

    /// The largest of the processes' numbers. Good for agreeing on something: whether any of them wants to stop.
    ///
    /// # Errors
    /// [`TorchError::Group`] when another process is gone.
    pub fn maximum(&self, number: i64) -> Result<i64> {
        Ok(self.reduce(&Tensor::f_from_slice(&[number])?, Reduction::Maximum)?.f_int64_value(&[0])?)
    }

    /// The bytes of process `root`, at every process; the others pass an empty list.
    ///
    /// # Errors
    /// [`TorchError::Group`] when another process is gone.
    pub fn broadcast_bytes(&self, root: usize, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let patience = self.patience.bytes;
        let count = Tensor::f_from_slice(&[bytes.len() as i64])?;
        self.gloo.broadcast(&count, root, patience)?.wait()?;
        let count = count.f_int64_value(&[0])?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let all =
            if self.rank() == root { Tensor::f_from_slice(&bytes)? } else { Tensor::f_empty([count], BYTES_ON_CPU)? };
        self.gloo.broadcast(&all, root, patience)?.wait()?;
        if self.rank() == root { Ok(bytes) } else { host_bytes(&all) }
    }

    /// Every process's bytes at process `root`, in the order of ranks; `None` at the others.
    ///
    /// # Errors
    /// [`TorchError::Group`] when another process is gone.
    pub fn gather_bytes(&self, root: usize, bytes: &[u8]) -> Result<Option<Vec<Vec<u8>>>> {
        if self.rank() != root {
            return self.send_bytes(root, bytes).map(|()| None);
        }
        (0..self.size())
            .map(|rank| if rank == root { Ok(bytes.to_vec()) } else { self.receive_bytes(rank) })
            .collect::<Result<Vec<_>>>()
            .map(Some)
    }

    /// Sends bytes to process `rank`, which calls [`Group::receive_bytes`] for them. Messages between two processes arrive
    /// in the order in which they were sent.
    ///
    /// # Errors
    /// [`TorchError::Group`] when that process is gone.
    pub fn send_bytes(&self, rank: usize, bytes: &[u8]) -> Result<()> {
        let count = Tensor::f_from_slice(&[bytes.len() as i64])?;
        self.gloo.send(&count, rank, BYTES_TAG, self.patience.bytes)?.wait()?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.gloo.send(&Tensor::f_from_slice(bytes)?, rank, BYTES_TAG, self.patience.bytes)?.wait()
    }

    /// The next bytes that process `rank` sends to this one.
    ///
    /// # Errors
    /// [`TorchError::Group`] when that process is gone.
    pub fn receive_bytes(&self, rank: usize) -> Result<Vec<u8>> {
        let count = Tensor::f_zeros([1], (Kind::Int64, Device::Cpu))?;
        self.gloo.receive(&count, rank, BYTES_TAG, self.patience.bytes)?.wait()?;
        let count = count.f_int64_value(&[0])?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let all = Tensor::f_empty([count], BYTES_ON_CPU)?;
        self.gloo.receive(&all, rank, BYTES_TAG, self.patience.bytes)?.wait()?;
        host_bytes(&all)
    }

    /// Process 0 tells all others what to do next: `kind` says who understands `payload`.
    ///
    /// # Errors
    /// [`TorchError::Group`] when another process is gone.
    pub fn command(&self, kind: &str, payload: &[u8]) -> Result<()> {
        let length = u8::try_from(kind.len()).map_err(|_| TorchError::Input(format!("{kind:?} is too long")))?;
        let mut bytes = Vec::with_capacity(1 + kind.len() + payload.len());
        bytes.push(length);
        bytes.extend_from_slice(kind.as_bytes());
        bytes.extend_from_slice(payload);
        self.broadcast_bytes(0, bytes).map(|_| ())
    }

    /// The other processes wait here for what process 0 tells them.
    ///
    /// # Errors
    /// [`TorchError::Group`] when another process is gone.
    pub fn next_command(&self) -> Result<Command> {
        let bytes = self.broadcast_bytes(0, Vec::new())?;
        let split = bytes.split_first().and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)));
        let Some((kind, payload)) = split else {
            return Err(TorchError::Group(
                "a command has no kind: the processes do not run the same program".to_owned(),
            ));
        };
        Ok(Command { kind: String::from_utf8_lossy(kind).into_owned(), payload: payload.to_vec() })
    }

    fn reduce(&self, tensor: &Tensor, reduction: Reduction) -> Result<Tensor> {
        self.gloo.all_reduce(tensor, reduction, self.patience.bytes)?.wait()?;
        Ok(tensor.shallow_clone())
    }

    /// NCCL where `tensor` is on a GPU, nothing where it is on the CPU.
    fn nccl_for(&self, tensor: &Tensor) -> Result<Option<&Nccl>> {
        match (tensor.device(), &self.nccl) {
            (Device::Cpu, _) => Ok(None),
            (device, Some(nccl)) if device == self.device => Ok(Some(nccl)),
            (device, _) => Err(TorchError::Group(format!("a tensor is on {device:?}, the group on {:?}", self.device))),
        }
    }
}

/// Tag of messages between two processes.
const BYTES_TAG: i32 = 1;

const BYTES_ON_CPU: (Kind, Device) = (Kind::Uint8, Device::Cpu);

/// The same memory, where it can be sent as it is.
fn contiguous(tensor: &Tensor) -> Result<Tensor> {
    if !tensor.is_contiguous() {
        return Err(TorchError::Input("a tensor with gaps cannot be sent in place".to_owned()));
    }
    Ok(tensor.f_detach()?)
}

fn length(tensor: &Tensor) -> i64 {
    tensor.numel() as i64
}

/// `flat`, followed by zeros up to `length`; the same memory if it is as long.
fn padded(flat: &Tensor, length: i64) -> Result<Tensor> {
    let flat = flat.f_view([-1])?;
    let lacking = length - flat.numel() as i64;
    if lacking == 0 { Ok(flat) } else { Ok(flat.f_constant_pad_nd([0, lacking])?) }
}

fn host_bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let mut bytes = vec![0; tensor.numel()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}
