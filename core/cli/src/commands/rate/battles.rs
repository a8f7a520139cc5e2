//! Battles from a CSV.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read},
    path::Path,
};

use csv::{ReaderBuilder, StringRecord};
use metareward_api::Battle;

use crate::failure::{Code, Failure};

const COLUMNS: [&str; 3] = ["left", "right", "winner"];

/// What one player did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Battles won.
    pub wins: u64,
    /// Battles lost.
    pub losses: u64,
    /// Battles that nobody won.
    pub ties: u64,
}

/// The file's players and battles.
#[derive(Debug)]
pub struct Battles {
    /// Names, in the order in which they are first met.
    pub players: Vec<String>,
    /// What each player did.
    pub counts: Vec<Count>,
    /// One battle per line, in their order.
    pub battles: Vec<Battle>,
    /// Columns that are none of ours.
    pub unused: Vec<String>,
}

/// Reads the file; `-` is standard input.
///
/// # Errors
/// A file that cannot be read, a column that is missing, a line that is no battle: each with its line.
pub fn read(path: &Path) -> Result<Battles, Failure> {
    let standard_input = path == Path::new("-");
    let place = if standard_input { "standard input".to_owned() } else { path.display().to_string() };
    let mut bytes = Vec::new();
    let read = if standard_input { io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes) } else { fs::read(path) };
    let bytes = read.map_err(|error| Failure::new(Code::Input, format!("{place}: {error}")))?;
    parse(&bytes, &place)
}

fn parse(bytes: &[u8], place: &str) -> Result<Battles, Failure> {
    // Spreadsheets begin a file with a mark of its byte order.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let broken = |error: csv::Error| broken(&error, bytes, place);
    let header = reader.headers().map_err(broken)?.clone();
    let columns = columns(&header, place)?;
    let unused = header.iter().filter(|name| !COLUMNS.contains(name)).map(str::to_owned).collect();
    let mut known: HashMap<String, u32> = HashMap::new();
    let mut read = Battles { players: Vec::new(), counts: Vec::new(), battles: Vec::new(), unused };
    let mut record = StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return Ok(read),
            Err(error) => return Err(broken(error)),
        }
        let start = record.position().map(csv::Position::byte);
        let wrong = |message: String| Failure::new(Code::Input, format!("{place}:{}: {message}", line(bytes, start)));
        let [left, right, winner] = columns.map(|column| record.get(column).unwrap_or(""));
        if left.is_empty() || right.is_empty() {
            return Err(wrong("a player has no name".to_owned()));
        }
        if left == right {
            return Err(wrong(format!("{left} meets itself")));
        }
        let [left, right] = [left, right].map(|name| index(name, &mut known, &mut read));
        let mut battle = Battle { left, right, ..Battle::default() };
        match winner {
            "left" => battle.left_wins = 1.0,
            "right" => battle.right_wins = 1.0,
            "tie" => battle.ties = 1.0,
            other => return Err(wrong(format!("the winner is `{other}`, but must be `left`, `right` or `tie`"))),
        }
        for (player, won, lost) in
            [(left, battle.left_wins, battle.right_wins), (right, battle.right_wins, battle.left_wins)]
        {
            if let Some(count) = read.counts.get_mut(player as usize) {
                count.wins += u64::from(won > 0.0);
                count.losses += u64::from(lost > 0.0);
                count.ties += u64::from(battle.ties > 0.0);
            }
        }
        read.battles.push(battle);
    }
}

/// The player of this name, a new one where it is the first time.
fn index(name: &str, known: &mut HashMap<String, u32>, read: &mut Battles) -> u32 {
    if let Some(index) = known.get(name) {
        return *index;
    }
    let index = read.players.len() as u32;
    known.insert(name.to_owned(), index);
    read.players.push(name.to_owned());
    read.counts.push(Count::default());
    index
}

/// Where the three columns are.
fn columns(header: &StringRecord, place: &str) -> Result<[usize; 3], Failure> {
    let mut found = [0; 3];
    for (found, name) in found.iter_mut().zip(COLUMNS) {
        let named: Vec<usize> =
            header.iter().enumerate().filter(|(_, column)| *column == name).map(|(index, _)| index).collect();
        match named.as_slice() {
            [one] => *found = *one,
            other => {
                let what = if other.is_empty() { "no column" } else { "more than one column" };
                let columns: Vec<&str> = header.iter().collect();
                let message = format!("{place}:1: {what} `{name}`, the columns are `{}`", columns.join(","));
                return Err(Failure::new(Code::Input, message)
                    .hint("the first line must be left,right,winner, in any order; winner is left, right or tie"));
            }
        }
    }
    Ok(found)
}

/// The line of the record that is read from `start` on. csv's own count is where the reader stood before it passed over
/// empty lines.
fn line(bytes: &[u8], start: Option<u64>) -> usize {
    let start = start.and_then(|start| usize::try_from(start).ok()).unwrap_or(0).min(bytes.len());
    let (before, after) = bytes.split_at(start);
    let blank = after.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    1 + before.iter().chain(blank).filter(|byte| **byte == b'\n').count()
}

/// csv's error with the file's line.
fn broken(error: &csv::Error, bytes: &[u8], place: &str) -> Failure {
    let line = line(bytes, error.position().map(csv::Position::byte));
    let message = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} columns, where the first line has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "the text is not UTF-8".to_owned(),
        csv::ErrorKind::Io(error) => error.to_string(),
        _ => error.to_string(),
    };
    Failure::new(Code::Input, format!("{place}:{line}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_may_stand_in_any_order_with_blanks_and_quotes_around() {
        let csv = "\u{feff}winner, note ,right,left\r\nleft,x,\"b, the second\", a\r\ntie,,a,\"b, the second\"\r\n";
        let read = parse(csv.as_bytes(), "test.csv").unwrap();
        assert_eq!(read.players, ["a", "b, the second"]);
        assert_eq!(read.unused, ["note"]);
        assert_eq!(read.battles.len(), 2);
        assert_eq!(read.battles[0], Battle { left: 0, right: 1, left_wins: 1.0, ..Battle::default() });
        assert_eq!(read.battles[1], Battle { left: 1, right: 0, ties: 1.0, ..Battle::default() });
        assert_eq!(read.counts, [Count { wins: 1, losses: 0, ties: 1 }, Count { wins: 0, losses: 1, ties: 1 }]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (csv, part) in [
            ("", "t:1: no column `left`"),
            ("left,right\na,b\n", "t:1: no column `winner`, the columns are `left,right`"),
            ("left,left,right,winner\n", "t:1: more than one column `left`"),
            ("left,right,winner\na,b,left\n\na,c,draw\n", "t:4: the winner is `draw`"),
            ("left,right,winner\na,b,left\na,b\n", "t:3: 2 columns, where the first line has 3"),
            ("left,right,winner\r\na,b,left\r\n\r\na,b,left\r\na,c,draw", "t:5: the winner is `draw`"),
            ("left,right,winner\na,a,left\n", "t:2: a meets itself"),
            ("left,right,winner\n\"two\nlines\",b,left\n,a,left\n", "t:4: a player has no name"),
        ] {
            let failure = parse(csv.as_bytes(), "t").unwrap_err();
            assert!(failure.sentence.contains(part), "{csv:?}: {failure}");
        }
        assert!(parse(b"left,right,winner\n\xff,b,left\n", "t").unwrap_err().sentence.contains("t:2"));
    }

    #[test]
    fn a_file_without_battles_has_no_players() {
        let read = parse("left,right,winner\n".as_bytes(), "t").unwrap();
        assert!(read.players.is_empty() && read.battles.is_empty());
    }
}
