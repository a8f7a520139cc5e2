//! A ranker with one fault per mode, for both forms. In mode `honest` it is a plain ranker: a rating is the number of wins.

use std::{
    hint::black_box,
    sync::atomic::{AtomicU32, Ordering},
};

use metareward_plugin::{
    FromOptions, Options,
    api::{Kind, OptionError, Plugin, PluginError, PluginInfo, Ranker, RankingProblem, Rating, Remark},
    log::{Level, log},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Nothing.
    #[default]
    Honest,
    /// It never answers.
    Loop,
    /// It asks for memory until there is none.
    Memory,
    /// An instruction that stops it.
    Trap,
    /// It panics.
    Panic,
    /// It calls itself without end.
    Overflow,
    /// It waits.
    Sleep,
    /// It ends the process, or tries to.
    Exit,
    /// A rating that is no number.
    Nan,
    /// A list of ratings without end.
    Endless,
    /// No answer to a problem.
    TooFew,
    /// An answer to a problem that nobody has.
    TooMany,
    /// No rating for the last player of a problem.
    Short,
    /// A remark about a player who is not there.
    Unknown,
    /// An error of 100 MB.
    Text,
    /// An error with control characters in it.
    Control,
    /// An error about an item that is not in the batch.
    Item,
    /// Log lines with control characters.
    LogControl,
    /// A log line of 10 MB.
    LogLong,
    /// Two hundred thousand log lines.
    LogFlood,
    /// The same on standard output, without an end of line.
    Print,
    /// Another answer every time.
    Fickle,
    /// Options are refused in 10 MB with control characters.
    Options,
    /// It never takes its options.
    ConfigureLoop,
    /// It panics over its options.
    ConfigurePanic,
}

/// Options of [`Hostile`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HostileOptions {
    /// What goes wrong.
    pub mode: Mode,
    /// Calls that are answered honestly before.
    pub patience: u32,
    /// Only where a problem has these honest ratings; everywhere, when empty.
    pub victim: Vec<f64>,
}

impl Options for HostileOptions {}

/// The ranker.
#[derive(Debug)]
pub struct Hostile {
    mode: Mode,
    patience: AtomicU32,
    victim: Vec<f64>,
}

impl FromOptions for Hostile {
    type Options = HostileOptions;

    fn describe() -> PluginInfo {
        PluginInfo {
            kind: Kind::Ranker,
            name: "hostile".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "One fault per mode".to_owned(),
        }
    }

    fn from_options(options: HostileOptions) -> Result<Self, OptionError> {
        match options.mode {
            Mode::Options => Err(OptionError::at("mo\u{1b}[2Jde", "no\u{7}".repeat(5 << 20))),
            Mode::ConfigureLoop => endless(),
            Mode::ConfigurePanic => panic!("options are not for me"),
            mode => Ok(Self { mode, patience: AtomicU32::new(options.patience), victim: options.victim }),
        }
    }
}

impl Plugin for Hostile {
    fn info(&self) -> PluginInfo {
        Self::describe()
    }
}

fn endless() -> ! {
    let mut turns = 0u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

fn deep(level: u64) -> u64 {
    if black_box(level) == u64::MAX { level } else { deep(level + 1) ^ black_box(level) }
}

fn honest(problem: &RankingProblem) -> Rating {
    let mut ratings = vec![0.0; problem.players as usize];
    for battle in &problem.battles {
        for (player, wins) in [(battle.left, battle.left_wins), (battle.right, battle.right_wins)] {
            if let Some(rating) = ratings.get_mut(player as usize) {
                *rating += wins;
            }
        }
    }
    Rating { ratings, converged: true, steps: 1, remarks: vec![] }
}

impl Ranker for Hostile {
    fn rate(&self, problems: &[RankingProblem]) -> Result<Vec<Rating>, PluginError> {
        let mut ratings: Vec<Rating> = problems.iter().map(honest).collect();
        let waits = |patience: u32| patience.checked_sub(1);
        if self.patience.fetch_update(Ordering::Relaxed, Ordering::Relaxed, waits).is_ok() {
            return Ok(ratings);
        }
        let hit = |rating: &Rating| self.victim.is_empty() || rating.ratings == self.victim;
        let Some(at) = ratings.iter().rposition(hit) else { return Ok(ratings) };
        match self.mode {
            Mode::Honest | Mode::Options | Mode::ConfigureLoop | Mode::ConfigurePanic => {}
            Mode::Loop => endless(),
            Mode::Memory => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(black_box(vec![1u8; 1 << 20]));
                }
            }
            #[cfg(target_family = "wasm")]
            Mode::Trap => std::arch::wasm32::unreachable(),
            #[cfg(not(target_family = "wasm"))]
            Mode::Trap => panic!("no trap outside WASM"),
            Mode::Panic => panic!("a panic with \u{1b}[31mcolour\u{7}"),
            Mode::Overflow => ratings[at].steps = deep(0) as u32,
            Mode::Sleep => std::thread::sleep(std::time::Duration::from_secs(86_400)),
            Mode::Exit => std::process::exit(0),
            Mode::Nan => ratings[at].ratings[0] = f64::NAN,
            Mode::Endless => loop {
                ratings[at].ratings.push(black_box(1.0));
            },
            Mode::TooFew => drop(ratings.remove(at)),
            Mode::TooMany => ratings.push(ratings[at].clone()),
            Mode::Short => drop(ratings[at].ratings.pop()),
            Mode::Unknown => ratings[at].remarks.push(Remark::Undefeated((0..100_000).collect())),
            Mode::Text => return Err(PluginError::new("x".repeat(100 << 20))),
            Mode::Control => return Err(PluginError::new("\u{1b}]0;title\u{7}\u{1b}[2Jall is well\r\nranker: done")),
            Mode::Item => return Err(PluginError::at(usize::MAX, "it was that one")),
            Mode::LogControl => log(Level::Warn, "\u{1b}[2J\u{1b}[31mred\r\nINFO forged\u{0}\u{7}"),
            Mode::LogLong => log(Level::Warn, &"x".repeat(10 << 20)),
            Mode::LogFlood => (0..200_000).for_each(|line| log(Level::Warn, &format!("line {line}"))),
            Mode::Print => (0..200_000).for_each(|_| print!("no end of line ")),
            Mode::Fickle => {
                static CALLS: AtomicU32 = AtomicU32::new(0);
                let calls = f64::from(CALLS.fetch_add(1, Ordering::Relaxed));
                for (player, rating) in ratings[at].ratings.iter_mut().enumerate() {
                    *rating = (calls * 7.0 + player as f64 * 3.0) % 5.0;
                }
            }
        }
        Ok(ratings)
    }
}

metareward_plugin::export!(ranker: Hostile);
