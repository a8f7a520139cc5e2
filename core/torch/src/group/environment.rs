//! Which process this is among several, as the launcher tells it in environment variables.
//!
//! Three launchers are understood, in this order: `RANK` and `WORLD_SIZE`, which torchrun sets and which can be set by
//! hand; then those of a SLURM step (`srun`). What is half set or makes no sense is refused: a process that wrongly takes
//! itself to be alone would do the whole run beside the others.

use std::collections::BTreeMap;

use crate::{Result, TorchError};

/// Ports of stores that SLURM jobs open: from here, as many as [`SLURM_PORTS`]. Below what Linux gives to outgoing
/// connections.
const SLURM_FIRST_PORT: u64 = 20_000;
const SLURM_PORTS: u64 = 10_000;

/// One process of several: which it is, and where they meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Number of the process, from 0.
    pub rank: usize,
    /// Number of processes; at least 2.
    pub size: usize,
    /// Number of the process on its host: which GPU is its own.
    pub local_rank: usize,
    /// Number of processes on its host, as far as the launcher says; else of all.
    pub local_size: usize,
    /// Host of the store at which the processes meet.
    pub host: String,
    /// The store's port.
    pub port: u16,
    /// Whether this process runs the store. Nobody does where the launcher runs one.
    pub serves: bool,
    /// What this group's keys in the store begin with: another one after every restart by the launcher.
    pub prefix: String,
}

impl Member {
    /// What this process's environment says; `None` where it is alone.
    ///
    /// # Errors
    /// [`TorchError::Group`] when variables are half set or make no sense.
    pub fn of_process() -> Result<Option<Member>> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
            .collect();
        Self::read(&variables)
    }

    /// What `variables` say; `None` where they are those of a process alone.
    ///
    /// # Errors
    /// [`TorchError::Group`] when variables are half set or make no sense.
    pub fn read(variables: &BTreeMap<String, String>) -> Result<Option<Member>> {
        let variables = Variables(variables);
        if variables.has("RANK") || variables.has("WORLD_SIZE") {
            return variables.ranked();
        }
        // In a job's own shell SLURM's variables describe the job: only a step has tasks that run side by side.
        if variables.has("SLURM_STEP_ID") {
            return variables.slurm();
        }
        Ok(None)
    }
}

struct Variables<'a>(&'a BTreeMap<String, String>);

impl Variables<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn text(&self, name: &str) -> Result<&str> {
        match self.0.get(name).map(|value| value.trim()) {
            None => Err(refused(format!("{name} is not set: set it, or start the processes with torchrun or srun"))),
            Some("") => Err(refused(format!("{name} is empty"))),
            Some(value) => Ok(value),
        }
    }

    fn number(&self, name: &str) -> Result<usize> {
        let text = self.text(name)?;
        text.parse().map_err(|_| refused(format!("{name} is {text:?}; it must be a whole number from 0")))
    }

    fn port(&self, name: &str) -> Result<u16> {
        let text = self.text(name)?;
        match text.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(refused(format!("{name} is {text:?}; it must be a port from 1 to 65535"))),
        }
    }

    fn host(&self, name: &str) -> Result<String> {
        let text = self.text(name)?;
        if text.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            return Err(refused(format!("{name} is {text:?}; it must be a host's name or address")));
        }
        Ok(text.to_owned())
    }

    /// torchrun's variables, which are also those to set by hand.
    fn ranked(&self) -> Result<Option<Member>> {
        let (rank, size) = (self.number("RANK")?, self.number("WORLD_SIZE")?);
        within(rank, size, "RANK", "WORLD_SIZE")?;
        let local_rank = if self.has("LOCAL_RANK") { self.number("LOCAL_RANK")? } else { rank };
        if size == 1 {
            return Ok(None);
        }
        let launcher_serves = self.0.get("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
        let attempt =
            if self.has("TORCHELASTIC_RESTART_COUNT") { self.number("TORCHELASTIC_RESTART_COUNT")? } else { 0 };
        Ok(Some(Member {
            rank,
            size,
            local_rank,
            local_size: if self.has("LOCAL_WORLD_SIZE") { self.number("LOCAL_WORLD_SIZE")?.max(1) } else { size },
            host: self.host("MASTER_ADDR")?,
            port: self.port("MASTER_PORT")?,
            serves: rank == 0 && !launcher_serves,
            prefix: format!("metareward/attempt-{attempt}"),
        }))
    }

    /// A task of a SLURM step.
    fn slurm(&self) -> Result<Option<Member>> {
        let tasks = if self.has("SLURM_STEP_NUM_TASKS") { "SLURM_STEP_NUM_TASKS" } else { "SLURM_NTASKS" };
        if !self.has(tasks) && !self.has("SLURM_PROCID") {
            return Ok(None);
        }
        let (rank, size) = (self.number("SLURM_PROCID")?, self.number(tasks)?);
        within(rank, size, "SLURM_PROCID", tasks)?;
        if size == 1 {
            return Ok(None);
        }
        let host = if self.has("MASTER_ADDR") {
            self.host("MASTER_ADDR")?
        } else {
            let list = if self.has("SLURM_STEP_NODELIST") { "SLURM_STEP_NODELIST" } else { "SLURM_JOB_NODELIST" };
            let text = self.text(list)?;
            first_host(text).ok_or_else(|| {
                refused(format!("{list} is {text:?}, which is no list of hosts: set MASTER_ADDR to the first host"))
            })?
        };
        let (job, step) = (self.number("SLURM_JOB_ID")? as u64, self.number("SLURM_STEP_ID")? as u64);
        let port = if self.has("MASTER_PORT") {
            self.port("MASTER_PORT")?
        } else {
            // Steps of a job that run at the same time must not meet.
            (SLURM_FIRST_PORT + (job.wrapping_mul(31).wrapping_add(step)) % SLURM_PORTS) as u16
        };
        Ok(Some(Member {
            rank,
            size,
            local_rank: self.number("SLURM_LOCALID")?,
            // `4(x2)` or `2`: tasks on the step's hosts; the first number is that of the first.
            local_size: self
                .0
                .get("SLURM_STEP_TASKS_PER_NODE")
                .and_then(|text| text.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok())
                .filter(|tasks| (1..=size).contains(tasks))
                .unwrap_or(size),
            host,
            port,
            serves: rank == 0,
            prefix: format!("metareward/job-{job}-{step}"),
        }))
    }
}

fn within(rank: usize, size: usize, rank_name: &str, size_name: &str) -> Result<()> {
    if size == 0 {
        return Err(refused(format!("{size_name} is 0; it must be the number of processes")));
    }
    if rank >= size {
        return Err(refused(format!(
            "{rank_name} is {rank} and {size_name} is {size}: ranks count from 0 to {}",
            size - 1
        )));
    }
    Ok(())
}

fn refused(message: String) -> TorchError {
    TorchError::Group(message)
}

/// The first host of a SLURM list such as `node[03-07,12],login1`; `None` if it is none.
fn first_host(list: &str) -> Option<String> {
    let mut host = String::new();
    let mut letters = list.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ',' => break,
            '[' => {
                // Up to the end of the bracket's first number; the rest is the other hosts'.
                let inside: String = letters.by_ref().take_while(|letter| *letter != ']').collect();
                if !list.contains(']') {
                    return None;
                }
                let first: String = inside.chars().take_while(char::is_ascii_digit).collect();
                let rest = &inside[first.len()..];
                if first.is_empty() || !rest.chars().all(|letter| letter.is_ascii_digit() || ",-".contains(letter)) {
                    return None;
                }
                host.push_str(&first);
            }
            letter if letter.is_ascii_alphanumeric() || "-._:".contains(letter) => host.push(letter),
            _ => return None,
        }
    }
    if host.is_empty() { None } else { Some(host) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    const TORCHRUN: [(&str, &str); 7] = [
        ("RANK", "3"),
        ("WORLD_SIZE", "4"),
        ("LOCAL_RANK", "1"),
        ("MASTER_ADDR", "10.0.0.7"),
        ("MASTER_PORT", "29511"),
        ("TORCHELASTIC_USE_AGENT_STORE", "True"),
        ("TORCHELASTIC_RESTART_COUNT", "2"),
    ];

    const SLURM: [(&str, &str); 7] = [
        ("SLURM_JOB_ID", "123456"),
        ("SLURM_STEP_ID", "0"),
        ("SLURM_PROCID", "5"),
        ("SLURM_NTASKS", "16"),
        ("SLURM_STEP_NUM_TASKS", "8"),
        ("SLURM_LOCALID", "1"),
        ("SLURM_JOB_NODELIST", "gpu[003-005,9],login1"),
    ];

    fn without(pairs: &[(&str, &str)], name: &str) -> BTreeMap<String, String> {
        let mut all = variables(pairs);
        all.remove(name);
        all
    }

    #[test]
    fn torchrun_is_understood() {
        let member = Member::read(&variables(&TORCHRUN)).unwrap().unwrap();
        let expected = Member {
            rank: 3,
            size: 4,
            local_rank: 1,
            local_size: 4,
            host: "10.0.0.7".to_owned(),
            port: 29511,
            serves: false,
            prefix: "metareward/attempt-2".to_owned(),
        };
        assert_eq!(member, expected);
        // The launcher runs the store: not even the first process does.
        let mut first = variables(&TORCHRUN);
        first.insert("RANK".to_owned(), "0".to_owned());
        assert!(!Member::read(&first).unwrap().unwrap().serves);
        first.remove("TORCHELASTIC_USE_AGENT_STORE");
        assert!(Member::read(&first).unwrap().unwrap().serves);
    }

    #[test]
    fn a_step_of_slurm_is_understood_and_its_job_shell_is_not_taken_for_one() {
        let member = Member::read(&variables(&SLURM)).unwrap().unwrap();
        assert_eq!((member.rank, member.size, member.local_rank, member.host.as_str()), (5, 8, 1, "gpu003"));
        assert!(!member.serves && (20_000..30_000).contains(&member.port));
        assert_eq!(Member::read(&without(&SLURM, "SLURM_STEP_ID")).unwrap(), None);
        let mut alone = variables(&SLURM);
        alone.insert("SLURM_STEP_NUM_TASKS".to_owned(), "1".to_owned());
        alone.insert("SLURM_PROCID".to_owned(), "0".to_owned());
        assert_eq!(Member::read(&alone).unwrap(), None);
        // What torchrun inside of a step says goes before it.
        let both: Vec<(&str, &str)> = SLURM.iter().chain(&TORCHRUN).copied().collect();
        assert_eq!(Member::read(&variables(&both)).unwrap().unwrap().rank, 3);
    }

    #[test]
    fn lists_of_hosts() {
        for (list, first) in [
            ("node7", Some("node7")),
            ("node[03-07,12]", Some("node03")),
            ("node[12]", Some("node12")),
            ("rack[1-2]-node[08-09].cluster,x", Some("rack1-node08.cluster")),
            ("a,b[1-2]", Some("a")),
            ("", None),
            ("[", None),
            ("node[", None),
            ("node[a-b]", None),
            ("node[]", None),
            ("node 1", None),
        ] {
            assert_eq!(first_host(list).as_deref(), first, "{list:?}");
        }
    }

    #[test]
    fn half_of_it_is_refused_by_name() {
        for name in ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"] {
            let error = Member::read(&without(&TORCHRUN, name)).unwrap_err().to_string();
            assert!(error.contains(name), "{name}: {error}");
        }
        for name in ["SLURM_PROCID", "SLURM_LOCALID", "SLURM_JOB_NODELIST", "SLURM_JOB_ID"] {
            let error = Member::read(&without(&SLURM, name)).unwrap_err().to_string();
            assert!(error.contains(name), "{name}: {error}");
        }
    }

    proptest! {
        /// Whatever stands in the variables: a member that makes sense, or a refusal that names one of them.
        #[test]
        fn nothing_slips_through(
            slurm in any::<bool>(),
            changes in prop::collection::vec((0usize..7, prop_oneof![
                Just(None),
                (-3i64..70_000).prop_map(|number| Some(number.to_string())),
                "[ -~]{0,12}".prop_map(Some),
            ]), 0..4),
        ) {
            let base = if slurm { SLURM } else { TORCHRUN };
            let mut all = variables(&base);
            for (index, value) in changes {
                match value {
                    None => all.remove(base[index].0),
                    Some(value) => all.insert(base[index].0.to_owned(), value),
                };
            }
            match Member::read(&all) {
                Ok(None) => {}
                Ok(Some(member)) => {
                    prop_assert!(member.rank < member.size && member.size >= 2);
                    prop_assert!(member.port > 0 && !member.host.is_empty());
                    prop_assert!(!member.serves || member.rank == 0);
                }
                Err(error) => {
                    let error = error.to_string();
                    prop_assert!(base.iter().any(|(name, _)| error.contains(name)), "{}", error);
                }
            }
        }

        /// The first host of a list is the one that the list was made of.
        #[test]
        fn the_first_of_a_range_keeps_its_zeros(
            name in "[a-z][a-z0-9-]{0,8}", first in 0u32..1000, more in 0u32..50, width in 1usize..5, tail in "(,[a-z]{1,5})?",
        ) {
            let list = format!("{name}[{first:0width$}-{:0width$}]{tail}", first + more);
            prop_assert_eq!(first_host(&list), Some(format!("{name}{first:0width$}")));
        }

        /// All tasks of a step meet at one place, and exactly one of them serves it.
        #[test]
        fn a_step_meets_at_one_place(job in 1u64..u64::from(u32::MAX), step in 0u64..100, size in 2usize..200) {
            let members: Vec<Member> = (0..size)
                .map(|rank| {
                    let mut all = variables(&SLURM);
                    for (name, value) in [
                        ("SLURM_JOB_ID", job.to_string()),
                        ("SLURM_STEP_ID", step.to_string()),
                        ("SLURM_PROCID", rank.to_string()),
                        ("SLURM_STEP_NUM_TASKS", size.to_string()),
                    ] {
                        all.insert(name.to_owned(), value);
                    }
                    Member::read(&all).unwrap().unwrap()
                })
                .collect();
            let place = |member: &Member| (member.host.clone(), member.port, member.prefix.clone());
            prop_assert!(members.iter().all(|member| place(member) == place(&members[0])));
            prop_assert_eq!(members.iter().filter(|member| member.serves).count(), 1);
        }
    }
}
