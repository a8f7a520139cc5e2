//! `metareward rate`: ratings from a CSV of comparisons, by any ranker.

mod battles;

use metareward_api::{Kind, RankingProblem, Rating, Remark};
use metareward_host::PluginRecord;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    args::RateArgs,
    failure::{Code, Failure},
    plugins,
};
use battles::Battles;

/// A player's row.
#[derive(Serialize)]
struct Row<'a> {
    player: &'a str,
    rating: f64,
    wins: u64,
    losses: u64,
    ties: u64,
}

/// Prints the players from the highest rating down, and what a reader should know of the ratings; with `--json` one
/// object.
///
/// # Errors
/// A file that is no such CSV, with the line; a ranker that is not there or fails.
pub fn run(args: &RateArgs, json: bool) -> Result<(), Failure> {
    let settings = plugins::settings(&args.limits);
    let registry = plugins::registry(settings.clone())?;
    let named = plugins::find(&registry, &settings, &args.ranker, Some(Kind::Ranker), &args.trust)?;
    let options = plugins::options(args.options.as_deref())?;
    let ranker = registry.ranker(&named.source, &options).map_err(plugins::failure)?;
    let record = registry.record(Kind::Ranker, &named.source, &options).map_err(plugins::failure)?;

    let Battles { players, counts, battles, unused } = battles::read(&args.battles)?;
    if !unused.is_empty() {
        tracing::warn!("{}: not used: {}", args.battles.display(), unused.join(", "));
    }
    let number = battles.len();
    let problem = RankingProblem { players: u32::try_from(players.len()).unwrap_or(u32::MAX), battles };
    let ratings = ranker.rate(&[problem]).map_err(|error| Failure::new(Code::Plugin, error.message))?;
    let missing = || Failure::new(Code::Plugin, format!("ranker {} gave no rating", record.info.name));
    let rating = ratings.into_iter().next().ok_or_else(missing)?;

    let mut rows: Vec<Row<'_>> = players
        .iter()
        .zip(&counts)
        .zip(&rating.ratings)
        .map(|((player, count), rating)| Row {
            player,
            rating: *rating,
            wins: count.wins,
            losses: count.losses,
            ties: count.ties,
        })
        .collect();
    // Names decide between equal ratings, so that the order is never an accident of the file.
    rows.sort_by(|a, b| b.rating.total_cmp(&a.rating).then_with(|| a.player.cmp(b.player)));
    if json {
        let Rating { converged, steps, remarks, .. } = &rating;
        let remarks: Vec<Value> = remarks.iter().map(|remark| as_json(remark, &players)).collect();
        println!(
            "{}",
            json!({
                "ranker": record, "battles": number, "players": rows, "converged": converged, "steps": steps,
                "remarks": remarks,
            })
        );
    } else {
        let remarks = rating.remarks.iter().map(|remark| in_words(remark, &players)).collect();
        show(&record, number, &rows, &rating, remarks);
    }
    Ok(())
}

fn show(record: &PluginRecord, battles: usize, rows: &[Row<'_>], rating: &Rating, mut remarks: Vec<String>) {
    let info = &record.info;
    println!("{} {} ({}): {} players, {battles} battles\n", info.name, info.version, record.form, rows.len());
    let width = rows.iter().map(|row| row.player.chars().count()).chain([6]).max().unwrap_or(6);
    println!("{:>5}  {:<width$}  {:>12}  {:>7}  {:>7}  {:>7}", "place", "player", "rating", "wins", "losses", "ties");
    for (place, Row { player, rating, wins, losses, ties }) in rows.iter().enumerate() {
        // What rounds to nothing has no sign.
        let rating = format!("{rating:.4}").replace("-0.0000", "0.0000");
        println!("{:>5}  {player:<width$}  {rating:>12}  {wins:>7}  {losses:>7}  {ties:>7}", place + 1);
    }
    if !rating.converged && !rating.remarks.contains(&Remark::NotConverged) {
        remarks.push(in_words(&Remark::NotConverged, &[]));
    }
    if !remarks.is_empty() {
        println!();
    }
    for remark in remarks {
        println!("note: {remark}");
    }
}

/// The names of the players that a remark is about, sorted.
fn named<'a>(remark: &Remark, players: &'a [String]) -> Vec<&'a str> {
    let (Remark::Undefeated(who) | Remark::Winless(who)) = remark else { return Vec::new() };
    let mut names: Vec<&str> = who.iter().filter_map(|who| players.get(*who as usize)).map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// A remark as a sentence.
fn in_words(remark: &Remark, players: &[String]) -> String {
    let names = named(remark, players).join(", ");
    match remark {
        Remark::NoBattles => "there are no battles, so the ratings say nothing".to_owned(),
        Remark::Undefeated(_) => format!("never lost, so the battles say only how good at least: {names}"),
        Remark::Winless(_) => format!("never won, so the battles say only how good at most: {names}"),
        Remark::Disconnected(groups) => {
            format!("{groups} groups of players without battles between them: ratings compare only within one")
        }
        Remark::NotConverged => "the ranker stopped before its ratings settled".to_owned(),
    }
}

/// A remark with the players' names instead of their indices.
fn as_json(remark: &Remark, players: &[String]) -> Value {
    let name = match remark {
        Remark::NoBattles => "no-battles",
        Remark::Undefeated(_) => "undefeated",
        Remark::Winless(_) => "winless",
        Remark::Disconnected(_) => "disconnected",
        Remark::NotConverged => "not-converged",
    };
    json!({ "remark": name, "players": named(remark, players), "words": in_words(remark, players) })
}
