//! What a run shows while it goes on: a bar per stage, a few lines at its end, or one JSON object per event.

use std::{
    io::{IsTerminal, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use metareward_api::{Progress, StepMetrics, Watch};
use metareward_runtime::{
    Event, JudgmentStatistics, Mean, Observer, PairSummary, Share, Statistics, VerdictStatistics,
};

use crate::{interrupt, logging::Logs};

/// Shows events to a person or, with `--json`, to a program.
pub struct Show {
    logs: Logs,
    json: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Show {
    /// Shows events beside the log.
    pub fn new(logs: &Logs, json: bool) -> Self {
        Self { logs: logs.clone(), json, bar: Mutex::new(None) }
    }

    /// A line for people: standard output holds results, so it goes to standard error.
    fn line(&self, text: &str) {
        self.logs.bars.suspend(|| eprintln!("{text}"));
    }

    fn replace_bar(&self, bar: Option<ProgressBar>) {
        let old = std::mem::replace(&mut *self.bar.lock().unwrap_or_else(PoisonError::into_inner), bar);
        if let Some(old) = old {
            old.finish_and_clear();
            self.logs.bars.remove(&old);
        }
    }

    fn start_bar(&self, name: String) {
        let bar = self.logs.bars.add(ProgressBar::new(1000));
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("{prefix:<28} {wide_bar:.cyan/dim} {percent:>3} %  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name);
        bar.enable_steady_tick(Duration::from_millis(500));
        self.replace_bar(Some(bar));
    }

    fn people(&self, event: &Event) {
        match event {
            Event::RunStarted { name, folder, resumed } => {
                let verb = if *resumed { "going on with" } else { "running" };
                self.line(&format!("{verb} {name} in {}", folder.display()));
            }
            Event::StageStarted { place, stage } => self.start_bar(format!("{place}: {stage}")),
            Event::StageProgress { share, tokens_per_second, seconds_left, .. } => {
                let guard = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(bar) = guard.as_ref() {
                    bar.set_position((share * 1000.0) as u64);
                    let left = seconds_left.map(|seconds| format!(", {} left", duration(seconds))).unwrap_or_default();
                    bar.set_message(format!("{} tok/s{left}", thousands(*tokens_per_second)));
                }
            }
            Event::StageFinished {
                place,
                stage,
                records,
                reused,
                shared,
                shards,
                tokens,
                seconds,
                tokens_per_second,
                statistics,
            } => {
                self.replace_bar(None);
                let kept = match (reused, shared) {
                    (0, 0) => String::new(),
                    (0, _) => ", taken over from another run".to_owned(),
                    (all, 0) if all == shards => ", all kept from before".to_owned(),
                    (some, 0) => format!(", {some} of {shards} shards kept from before"),
                    (all, shared) if all == shards && all == shared => ", all taken over from another run".to_owned(),
                    (some, shared) => {
                        format!(
                            ", {some} of {shards} shards kept from before, {shared} of them taken over from another run"
                        )
                    }
                };
                let speed = if *tokens > 0 && reused < shards {
                    format!(" in {} at {} tok/s", duration(*seconds), thousands(*tokens_per_second))
                } else {
                    format!(" in {}", duration(*seconds))
                };
                self.line(&format!("{:<28} {records} records{speed}{kept}", format!("{place}: {stage}")));
                for line in lines(statistics) {
                    self.line(&format!("{:<28}   {line}", ""));
                }
            }
            Event::ModelReady { model } => self.line(&format!("{:<28} {}", model.name, model.folder.display())),
            // Warnings are log events, and shown as such.
            Event::Warning { .. } | Event::Step { .. } | Event::RunFailed { .. } => {}
            Event::RunFinished { seconds } => self.line(&format!("done in {}", duration(*seconds))),
        }
    }
}

impl Observer for Show {
    fn event(&self, event: &Event) {
        if matches!(event, Event::RunFinished { .. } | Event::RunFailed { .. }) {
            self.replace_bar(None);
        }
        if let Event::RunStarted { folder, .. } = event
            && let Err(error) = self.logs.write_to(&folder.join("log.jsonl"))
        {
            tracing::warn!("no log in the run folder: {error}");
        }
        if self.json {
            if let Ok(line) = serde_json::to_string(event) {
                let mut out = std::io::stdout().lock();
                // A reader that went away must not end the run.
                let _ = writeln!(out, "{line}");
            }
        } else {
            self.people(event);
        }
    }

    fn stop(&self) -> bool {
        interrupt::asked()
    }
}

/// What a stage's figures say, a line each.
fn lines(statistics: &Statistics) -> Vec<String> {
    match statistics {
        Statistics::Records => Vec::new(),
        Statistics::Responses(it) => vec![format!(
            "{} distinct of {}; mean length {} characters, {} tokens",
            it.responses - it.duplicates,
            it.responses,
            mean(&it.characters, 1),
            mean(&it.tokens, 1),
        )],
        Statistics::Judgments(it) => judgments(it),
        Statistics::Verdicts(it) => verdicts(it),
        Statistics::Ratings(it) => {
            let remarks: Vec<String> = it.remarks.iter().map(|(remark, count)| format!("{remark} {count}")).collect();
            let remarks = if remarks.is_empty() { String::new() } else { format!("; remarks: {}", remarks.join(", ")) };
            vec![format!("{} rated; w1 {}, w2 {}{remarks}", it.rated, mean(&it.w1, 3), mean(&it.w2, 3))]
        }
        Statistics::Pairs(it) => {
            let kinds = [("actor", &it.actor), ("judge", &it.judge)];
            kinds.into_iter().filter_map(|(kind, pairs)| Some(summary(kind, pairs.as_ref()?))).collect()
        }
        Statistics::Training(it) => {
            let kind = if it.actor_pairs + it.judge_pairs > 0 {
                format!("{} actor and {} judge pairs", it.actor_pairs, it.judge_pairs)
            } else {
                format!("{} examples", it.examples)
            };
            let epochs: Vec<String> = it
                .epochs
                .iter()
                .map(|epoch| match epoch.validation_loss {
                    Some(validation) => format!("{:.4} (validation {validation:.4})", epoch.train_loss),
                    None => format!("{:.4}", epoch.train_loss),
                })
                .collect();
            let cut =
                if it.truncated > 0 { format!("; {} cut at the largest length", it.truncated) } else { String::new() };
            vec![format!(
                "{kind}, {} steps; first loss {:.4}, per epoch {}; kept epoch {}{cut}",
                it.steps,
                it.first_loss,
                epochs.join(", "),
                it.kept
            )]
        }
        Statistics::Points(it) => vec![format!("oracle: mean {} points", mean(&it.points, 3))],
    }
}

fn judgments(it: &JudgmentStatistics) -> Vec<String> {
    let failures = it.failure_rate();
    let reasons: Vec<String> = it.unreadable.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    // Fractions fall into the whole points below them, so that the line stays short; stage.json has every score.
    let mut points: std::collections::BTreeMap<i64, u64> = std::collections::BTreeMap::new();
    for entry in &it.histogram {
        *points.entry(entry.score.floor() as i64).or_default() += entry.count;
    }
    let histogram: Vec<String> = points.iter().map(|(score, count)| format!("{score}: {count}")).collect();
    vec![
        format!(
            "unreadable {}{reasons}; mean score {}; entropy {:.2} bits",
            share(&failures),
            mean(&it.score, 2),
            it.entropy
        ),
        format!("scores {}; prompts with tied rewards {}", histogram.join("  "), share(&it.tied_prompts)),
    ]
}

fn verdicts(it: &VerdictStatistics) -> Vec<String> {
    let unreadable = Share { count: it.unreadable.values().sum(), of: it.verdicts };
    vec![
        format!("unreadable {}; ties {}; higher score wins {}", share(&unreadable), it.ties, share(&it.higher_wins)),
        format!(
            "first position wins {}; with equal scores {}, with different scores {}",
            share(&it.first),
            share(&it.first_equal),
            share(&it.first_different)
        ),
    ]
}

fn summary(kind: &str, pairs: &PairSummary) -> String {
    let none: Vec<String> = pairs.none.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let none = if none.is_empty() { String::new() } else { format!("; none: {}", none.join(", ")) };
    format!(
        "{kind}: {} pairs, chosen {} and rejected {} {} long on average{none}",
        pairs.pairs,
        mean(&pairs.chosen_length, 1),
        mean(&pairs.rejected_length, 1),
        pairs.unit
    )
}

fn mean(mean: &Mean, digits: usize) -> String {
    mean.value().map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

fn share(share: &Share) -> String {
    share.value().map_or_else(|| "–".to_owned(), |value| format!("{:.1} %", value * 100.0))
}

fn thousands(value: f64) -> String {
    if value >= 10_000.0 { format!("{:.0}k", value / 1000.0) } else { format!("{value:.0}") }
}

/// Seconds as people say them.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// Shows a training run that is not part of an experiment's run.
pub struct Training {
    logs: Logs,
    json: bool,
    bar: ProgressBar,
    started: Instant,
    tokens: Mutex<u64>,
}

impl Training {
    /// A bar of `steps` optimizer steps.
    pub fn new(logs: &Logs, json: bool, name: &str, steps: u64) -> Self {
        let bar = logs.bars.add(ProgressBar::new(steps));
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("{prefix} {wide_bar:.cyan/dim} {pos}/{len}, {eta} left  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name.to_owned());
        Self { logs: logs.clone(), json, bar, started: Instant::now(), tokens: Mutex::new(0) }
    }
}

impl Drop for Training {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.logs.bars.remove(&self.bar);
    }
}

impl Watch for Training {
    fn progress(&self, _progress: Progress) {}

    fn step(&self, metrics: &StepMetrics, _seconds: f64) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        *tokens += metrics.tokens;
        let speed = *tokens as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
        if self.json {
            println!("{}", serde_json::json!({ "event": "step", "metrics": metrics, "tokens_per_second": speed }));
        }
        self.bar.set_position(u64::from(metrics.step));
        self.bar.set_message(format!("loss {:.4}, {} trained tok/s", metrics.loss, thousands(speed)));
        if !std::io::stderr().is_terminal() && !self.json && metrics.step.is_multiple_of(500) {
            eprintln!("step {}: loss {:.4}, {} trained tok/s", metrics.step, metrics.loss, thousands(speed));
        }
    }

    fn stop(&self) -> bool {
        interrupt::asked()
    }
}
