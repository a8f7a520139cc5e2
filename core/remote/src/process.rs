//! Commands of the user's: run by the shell, in a process group of their own, with a log file.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use serde::{Deserialize, Serialize};

use crate::RemoteError;

/// How much of a log is read for a message, in bytes and in lines.
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 12;

/// Process groups that this process started and has not ended: what a hard stop ends.
static GROUPS: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// Ends every process group that this process started, at once. For a second Ctrl-C, after which nothing is tidied up.
pub fn kill_all() {
    for group in GROUPS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        signal(group, Signal::KILL);
    }
}

/// A process group as a file remembers it. The time at which its first process started tells it from a later one with the
/// same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    number: i32,
    started: Option<u64>,
}

impl Group {
    /// Whether any of its processes runs.
    pub fn is_there(&self) -> bool {
        let Some(pid) = Pid::from_raw(self.number) else { return false };
        // A number is not given away while a group has it: without its first process the group is still this one.
        let same = started(self.number).is_none_or(|now| self.started.is_none_or(|then| now == then));
        same && test_kill_process_group(pid).is_ok() && lives(self.number)
    }

    /// Asks all of its processes to end, and after `grace` makes them.
    pub fn end(&self, grace: Duration) {
        if !self.is_there() {
            return;
        }
        signal(self.number, Signal::TERM);
        let asked = Instant::now();
        while self.is_there() {
            if asked.elapsed() > grace {
                signal(self.number, Signal::KILL);
                thread::sleep(Duration::from_millis(20));
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn signal(group: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(group) {
        // It may have ended by itself meanwhile.
        let _ = kill_process_group(pid, signal);
    }
}

/// Whether a group has a process that has not ended. Ended ones that nobody waits for stay in it. Where the system does not
/// say: yes.
fn lives(group: i32) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else { return true };
    let mut known = false;
    for entry in entries.flatten() {
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        known = true;
        // After the name in parentheses: state, parent, group.
        let mut fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let (state, of) = (fields.next(), fields.nth(1));
        if of.and_then(|of| of.parse().ok()) == Some(group) && !matches!(state, Some("Z" | "X")) {
            return true;
        }
    }
    !known
}

/// When a process started, in the kernel's ticks. `None` where the system does not say, or it is not there.
fn started(process: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name stands in parentheses and may hold anything; the time is the twentieth field after it.
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    group: Group,
    log: PathBuf,
}

impl Running {
    /// Starts `command` by the shell. What it prints is added to the file `log`.
    ///
    /// # Errors
    /// When the log cannot be written or there is no shell.
    pub fn start(command: &str, log: &Path, variables: &[(String, String)]) -> Result<Running, RemoteError> {
        let failed = |error: std::io::Error| RemoteError::Process {
            command: command.to_owned(),
            message: format!("it cannot be started: {error}"),
        };
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = File::options().append(true).create(true).open(log).map_err(failed)?;
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).process_group(0).stdin(Stdio::null());
        shell.stdout(file.try_clone().map_err(failed)?).stderr(file);
        shell.envs(variables.iter().map(|(name, value)| (name, value)));
        let child = shell.spawn().map_err(failed)?;
        let number = i32::try_from(child.id()).unwrap_or_default();
        GROUPS.lock().unwrap_or_else(PoisonError::into_inner).push(number);
        Ok(Running { child, group: Group { number, started: started(number) }, log: log.to_owned() })
    }

    /// Its process group.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// How its first process ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The end of its log, for a message.
    pub fn tail(&self) -> String {
        tail(&self.log)
    }

    /// Ends the whole group.
    pub fn end(&mut self, grace: Duration) {
        signal(self.group.number, Signal::TERM);
        let asked = Instant::now();
        // The first process stays in the group until it is waited for.
        while self.ended().is_none() || self.group.is_there() {
            if asked.elapsed() > grace {
                signal(self.group.number, Signal::KILL);
                drop(self.child.wait());
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        GROUPS.lock().unwrap_or_else(PoisonError::into_inner).retain(|group| *group != self.group.number);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(Duration::from_secs(10));
    }
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Words in braces that a template may hold, and what stands for them.
pub(crate) struct Words<'a>(pub Vec<(&'a str, String)>);

impl Words<'_> {
    /// The template with its words filled in. `quote` says how a value is written where it goes.
    pub fn fill(&self, template: &str, quote: &dyn Fn(&str) -> String) -> String {
        let mut text = String::new();
        let mut rest = template;
        'next: while let Some(place) = rest.find('{') {
            let (before, after) = rest.split_at(place);
            text.push_str(before);
            // ${name} is the shell's own.
            if !before.ends_with('$') {
                for (name, value) in &self.0 {
                    if let Some(tail) = after.strip_prefix(&format!("{{{name}}}")) {
                        text.push_str(&quote(value));
                        rest = tail;
                        continue 'next;
                    }
                }
            }
            text.push('{');
            rest = &after[1..];
        }
        text.push_str(rest);
        text
    }
}

/// A value as one word of the shell's.
pub(crate) fn shell_word(value: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// A value as it stands between the quotes of a JSON text.
pub(crate) fn json_word(value: &str) -> String {
    let text = serde_json::Value::from(value).to_string();
    text[1..text.len() - 1].to_owned()
}

/// Words in braces of a template that look like those it may hold: likely slips of the pen, with what was meant.
pub fn misspelt<'a>(template: &str, known: &[&'a str]) -> Option<(String, &'a str)> {
    let mut rest = template;
    while let Some(place) = rest.find('{') {
        let (before, after) = (&rest[..place], &rest[place + 1..]);
        if !before.ends_with('$')
            && let Some(end) = after.find('}')
        {
            let word = &after[..end];
            let is_word = !word.is_empty() && word.chars().all(|letter| letter.is_ascii_alphabetic() || letter == '_');
            if is_word && !known.contains(&word) {
                let like = known.iter().find(|name| alike(word, name));
                if let Some(name) = like {
                    return Some((word.to_owned(), name));
                }
            }
        }
        rest = after;
    }
    None
}

/// Whether two words share three of four letters in their order.
fn alike(one: &str, other: &str) -> bool {
    let (one, other): (Vec<char>, Vec<char>) = (one.to_lowercase().chars().collect(), other.chars().collect());
    let mut row = vec![0usize; other.len() + 1];
    for letter in &one {
        let mut corner = 0;
        for (place, found) in other.iter().enumerate() {
            let above = row[place + 1];
            row[place + 1] = if letter == found { corner + 1 } else { above.max(row[place]) };
            corner = above;
        }
    }
    4 * row[other.len()] >= 3 * one.len().max(other.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_and_quoted_where_they_go() {
        let words = Words(vec![("model", "/my models/it's".to_owned()), ("port", "8000".to_owned())]);
        assert_eq!(
            words.fill("serve {model} --port {port} --x ${HOME} '{\"a\": 1}' {other}", &shell_word),
            r#"serve '/my models/it'\''s' --port 8000 --x ${HOME} '{"a": 1}' {other}"#
        );
        let body = words.fill(r#"{"model_path": "{model}"}"#, &json_word);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap()["model_path"], "/my models/it's");
        assert_eq!(misspelt("serve {modle} {port}", &["model", "port"]), Some(("modle".to_owned(), "model")));
        assert_eq!(misspelt("serve {model} ${modle} {x} {print}", &["model", "port"]), None);
    }

    #[test]
    fn a_group_ends_as_a_whole_and_its_log_stays() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        // A child of the shell's that does not listen to a polite request.
        let command = "echo begun; sh -c 'trap \"\" TERM; sleep 60' & wait";
        let mut running = Running::start(command, &log, &[]).unwrap();
        while !running.tail().contains("begun") {
            thread::sleep(Duration::from_millis(5));
        }
        let group = running.group().clone();
        let read: Group = serde_json::from_str(&serde_json::to_string(&group).unwrap()).unwrap();
        assert!(read.is_there() && running.ended().is_none());
        let wrong = Group { started: group.started.map(|time| time + 1), ..group.clone() };
        assert!(!wrong.is_there(), "another process with the same number");
        running.end(Duration::from_millis(200));
        thread::sleep(Duration::from_millis(50));
        assert!(!group.is_there());
        assert_eq!(tail(&log), "begun");
    }

    #[test]
    fn a_group_of_an_earlier_process_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let running = Running::start("sleep 60", &folder.path().join("log"), &[]).unwrap();
        let group = running.group().clone();
        // As after a kill: nobody waits for it here.
        std::mem::forget(running);
        assert!(group.is_there());
        group.end(Duration::from_secs(5));
    }

    #[test]
    fn how_a_command_ended_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("logs/log");
        let mut running = Running::start("echo $WORD >&2; exit 3", &log, &[("WORD".into(), "said".into())]).unwrap();
        let status = loop {
            if let Some(status) = running.ended() {
                break status;
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert_eq!((status.code(), running.tail().as_str()), (Some(3), "said"));
    }
}
