//! The golden files of evalica: comparisons, and the ratings that a reference ranker gives them. For the tests of rankers.

use std::{collections::BTreeMap, fs, path::Path};

use metareward_api::{Battle, RankingProblem};

/// Comparisons with the ratings of a reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Golden {
    /// Name of the file.
    pub name: &'static str,
    /// Names of the players, in the order of the problem.
    pub players: Vec<String>,
    /// The comparisons in their order, a battle each.
    pub problem: RankingProblem,
    /// The reference's ratings, in the same order.
    pub ratings: Vec<f64>,
}

/// The golden files in `folder` with the ratings of `algorithm`, such as `elo`. `None` where there is no such folder.
///
/// # Errors
/// A file that is missing or holds something else, with its name.
pub fn golden(folder: &Path, algorithm: &str) -> Result<Option<Vec<Golden>>, String> {
    if !folder.is_dir() {
        return Ok(None);
    }
    ["simple", "food"].map(|name| read(folder, name, algorithm)).into_iter().collect::<Result<Vec<_>, _>>().map(Some)
}

fn read(folder: &Path, name: &'static str, algorithm: &str) -> Result<Golden, String> {
    let text = |file: String| fs::read_to_string(folder.join(&file)).map_err(|error| format!("{file}: {error}"));
    let (players, problem) =
        comparisons(&text(format!("{name}.csv"))?).ok_or_else(|| format!("{name}.csv is no list of comparisons"))?;
    let golden = text(format!("{name}-golden.csv"))?;
    let of_player: BTreeMap<&str, f64> = golden
        .lines()
        .filter_map(|line| line.strip_prefix(algorithm)?.strip_prefix(',')?.split_once(','))
        .filter_map(|(player, score)| Some((player, score.trim().parse().ok()?)))
        .collect();
    let rating = |player: &String| of_player.get(player.as_str()).copied();
    let ratings: Option<Vec<f64>> = players.iter().map(rating).collect();
    match ratings.filter(|ratings| ratings.len() == of_player.len()) {
        Some(ratings) => Ok(Golden { name, players, problem, ratings }),
        None => Err(format!("{name}-golden.csv rates other players with {algorithm} than {name}.csv has")),
    }
}

/// Players and their battles from a CSV of `left,right,winner`.
fn comparisons(csv: &str) -> Option<(Vec<String>, RankingProblem)> {
    let rows: Vec<[&str; 3]> = csv
        .lines()
        .skip(1)
        .map(|line| line.trim().split(',').collect::<Vec<_>>().try_into().ok())
        .collect::<Option<_>>()?;
    let mut players: Vec<String> =
        rows.iter().flat_map(|[left, right, _]| [*left, *right]).map(str::to_owned).collect();
    players.sort();
    players.dedup();
    let place = |name: &str| u32::try_from(players.iter().position(|player| player == name)?).ok();
    let battle = |[left, right, winner]: &[&str; 3]| {
        let weight = |name| if *winner == name { 1.0 } else { 0.0 };
        let (left_wins, right_wins, ties) = (weight("left"), weight("right"), weight("tie"));
        Some(Battle { left: place(left)?, right: place(right)?, left_wins, right_wins, ties })
    };
    let battles = rows.iter().map(battle).collect::<Option<Vec<_>>>()?;
    let players_count = u32::try_from(players.len()).ok()?;
    Some((players, RankingProblem { players: players_count, battles }))
}
