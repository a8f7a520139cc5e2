//! Plans as people read them.

use std::fmt;

use super::{Plan, Sharding, TimePlan};
use crate::error::Bytes;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row =
            |f: &mut fmt::Formatter<'_>, place: &str, stage: &str, calls: u64, read: u64, written: u64, disk: u64| {
                let disk = Bytes(disk).to_string();
                writeln!(f, "{place:<24}{stage:<12}{calls:>12}{:>16}{:>16}{disk:>12}", tokens(read), tokens(written))
            };
        writeln!(
            f,
            "{:<24}{:<12}{:>12}{:>16}{:>16}{:>12}",
            "", "stage", "calls", "tokens read", "tokens written", "disk"
        )?;
        for cost in &self.stages {
            let (place, stage) = (cost.place.to_string(), cost.stage.to_string());
            row(f, &place, &stage, cost.calls, cost.tokens_read, cost.tokens_written, cost.disk_bytes)?;
        }
        let read = self.stages.iter().map(|cost| cost.tokens_read).sum();
        let written = self.stages.iter().map(|cost| cost.tokens_written).sum();
        row(f, "all", "", self.calls, read, written, self.disk_bytes)?;
        writeln!(f, "\nmodel: {} parameters", tokens(self.parameters))?;
        writeln!(f, "memory: generating {}, training {}", Bytes(self.generation_bytes), Bytes(self.training_bytes))?;
        self.assumptions.iter().try_for_each(|assumption| writeln!(f, "- {assumption}"))
    }
}

impl fmt::Display for TimePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<24}{:<12}{:>14}{:>12}   most of it for", "", "stage", "time", "cost")?;
        let cost = |cost: Option<f64>| cost.map_or(String::new(), |cost| format!("{cost:.2}"));
        let hour = self.cost.map(|cost| cost / self.seconds.max(f64::MIN_POSITIVE));
        for stage in &self.stages {
            let (place, name) = (stage.place.to_string(), stage.stage.to_string());
            let (time, paid) = (duration(stage.seconds), cost(hour.map(|each| each * stage.seconds)));
            let estimated = if stage.estimated { ", estimated" } else { "" };
            writeln!(f, "{place:<24}{name:<12}{time:>14}{paid:>12}   {}{estimated}", stage.binds)?;
        }
        for place in &self.places {
            let (name, time) = (place.place.to_string(), duration(place.seconds));
            writeln!(f, "{name:<24}{:<12}{time:>14}{:>12}", "in all", cost(place.cost))?;
        }
        let all = duration(self.seconds);
        writeln!(f, "{:<36}{all:>14}{:>12}   {:.1} GPU hours", "all", cost(self.cost), self.gpu_hours)?;
        writeln!(f, "\ngenerating: {} of {} GPUs for a copy of the model", self.gpus_per_copy, self.gpus)?;
        for rank in &self.rank_memory {
            let fits = match rank.fits {
                Some(true) => ", fits",
                Some(false) => ", does not fit",
                None => "",
            };
            let planned = if rank.sharding == self.sharding { ": planned" } else { "" };
            writeln!(f, "training, {}: {} a rank{fits}{planned}", rank.sharding, Bytes(rank.bytes))?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "- {note}"))
    }
}

impl fmt::Display for Sharding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Sharding::None => "all on every rank",
            Sharding::Optimizer => "optimizer state sharded (ZeRO 1)",
            Sharding::Gradients => "gradients too (ZeRO 2)",
            Sharding::Parameters => "weights too (ZeRO 3)",
        })
    }
}

/// A time as people read it.
fn duration(seconds: f64) -> String {
    match seconds {
        ..10.0 => format!("{seconds:.1} s"),
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

/// A large number as people read it.
pub(super) fn tokens(number: u64) -> String {
    let value = number as f64;
    match number {
        0..100_000 => number.to_string(),
        100_000..1_000_000_000 => format!("{:.1} M", value / 1e6),
        _ => format!("{:.2} G", value / 1e9),
    }
}
