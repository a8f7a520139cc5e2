//! The binary as several processes: under torchrun, under variables set by hand, and as SLURM would start it.

use std::{
    env,
    ffi::OsStr,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{binary, metareward};

/// Python's launcher, in the folder of the Python that `METAREWARD_PYTHON` names. Without it, says so.
///
/// # Panics
/// When it is missing where the references are required.
pub fn torchrun() -> Option<PathBuf> {
    let found = env::var_os("METAREWARD_PYTHON").map(|python| Path::new(&python).with_file_name("torchrun"));
    let there = found.filter(|path| path.is_file());
    if there.is_none() {
        let required = env::var_os("METAREWARD_REFERENCES").is_some_and(|value| value == "required");
        assert!(!required, "METAREWARD_PYTHON names no Python with torchrun");
        println!("skipped: METAREWARD_PYTHON names no Python with torchrun");
    }
    there
}

/// What becomes of standard input and of what the processes print.
fn piped(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

/// The command line `arguments` of the binary as `size` processes under torchrun, which begins again after up to
/// `restarts` failures.
pub fn under_torchrun<I: AsRef<OsStr>>(
    torchrun: &Path,
    size: usize,
    restarts: usize,
    arguments: impl IntoIterator<Item = I>,
) -> Command {
    let ours = metareward([""; 0]);
    let mut command = Command::new(torchrun);
    command.current_dir(crate::root());
    for (name, value) in ours.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.args(["--no-python", "--standalone", "--monitor-interval", "0.1"]);
    command.args(["--nproc-per-node", &size.to_string(), "--max-restarts", &restarts.to_string()]);
    // Without the two dashes torchrun takes `--run` for one of its own options, cut short.
    command.arg("--").arg(binary()).args(arguments);
    piped(&mut command);
    command
}

/// A port that nobody has at the moment.
///
/// # Panics
/// When there is none.
pub fn free_port() -> String {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port().to_string()
}

/// The command line of one of several processes, with torchrun's variables set by hand.
pub fn by_hand<I: AsRef<OsStr>>(
    (rank, size): (usize, usize),
    port: &str,
    arguments: impl IntoIterator<Item = I>,
) -> Command {
    let mut command = metareward(arguments);
    command.env("RANK", rank.to_string()).env("WORLD_SIZE", size.to_string());
    command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port);
    piped(&mut command);
    command
}

/// The same as a task of a SLURM step, which names no port: steps find theirs by the job's number.
pub fn as_slurm<I: AsRef<OsStr>>(
    (rank, size): (usize, usize),
    port: &str,
    arguments: impl IntoIterator<Item = I>,
) -> Command {
    let mut command = metareward(arguments);
    let size = size.to_string();
    for (name, value) in [
        ("SLURM_JOB_ID", "4711"),
        ("SLURM_STEP_ID", "0"),
        ("SLURM_PROCID", &rank.to_string()),
        ("SLURM_LOCALID", &rank.to_string()),
        ("SLURM_NTASKS", &size),
        ("SLURM_STEP_NUM_TASKS", &size),
        ("SLURM_JOB_NODELIST", "localhost"),
        ("MASTER_PORT", port),
    ] {
        command.env(name, value);
    }
    piped(&mut command);
    command
}

/// The processes that a launcher has started, by rank: number of the rank, number of the process.
pub fn ranks_of(launcher: &Child) -> Vec<(usize, u32)> {
    let launcher = launcher.id();
    let children = fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap_or_default();
    let mut ranks: Vec<(usize, u32)> = children
        .split_whitespace()
        .filter_map(|id| {
            let id: u32 = id.parse().ok()?;
            let environment = fs::read(format!("/proc/{id}/environ")).ok()?;
            let rank = environment.split(|byte| *byte == 0).find_map(|line| line.strip_prefix(b"RANK="))?;
            Some((std::str::from_utf8(rank).ok()?.parse().ok()?, id))
        })
        .collect();
    ranks.sort_unstable();
    ranks
}

/// Ends a process that a launcher of ours has started, as `kill` does with this signal.
///
/// # Panics
/// When there is no `kill`.
pub fn signal(process: u32, name: &str) -> bool {
    Command::new("kill").args([name, &process.to_string()]).stderr(Stdio::null()).status().unwrap().success()
}
