//! Records as blocks of the page: a few prompts each, compressed, so that a page of 20,000 prompts opens at once and
//! unpacks only what is looked at.

use std::io::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use metareward_api::{PairKind, Winner};
use serde::{Deserialize, Serialize};

use crate::{HeldOutRecords, PromptRecords, ReportError};

/// A pack is closed when it holds this much JSON: about what a phone unpacks in a tenth of a second.
const PACK_BYTES: usize = 1 << 20;

/// A prompt in the list that one picks from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The prompt's name.
    pub id: String,
    /// How its text begins.
    pub text: String,
    /// Its category, if it has one.
    pub category: Option<String>,
    /// Which pack holds its records.
    pub pack: usize,
    /// The scores that its responses were given, lowest first, each once.
    pub scores: Vec<f64>,
    /// Whether there is an actor pair; `None` where there is neither a pair nor a reason.
    pub actor: Option<bool>,
    /// Whether there is a judge pair.
    pub judge: Option<bool>,
    /// Judgments and verdicts that could not be read.
    pub unreadable: u64,
    /// Pairs of judgments of which the meta-judge prefers another one when they change places.
    pub order_decides: u64,
}

/// Letters of a prompt shown in the list.
const BEGINNING: usize = 160;

impl Entry {
    pub(crate) fn of_iteration(records: &PromptRecords) -> Self {
        let has = |kind| {
            let paired = records.pairs.iter().any(|pair| pair.kind == kind);
            (paired || records.unpaired.iter().any(|unpaired| unpaired.kind == kind)).then_some(paired)
        };
        let unread = records.judgments.iter().filter(|judgment| judgment.score.is_none()).count()
            + records.verdicts.iter().filter(|verdict| verdict.winner.is_none()).count();
        let winner = |winner, first: u32, second: u32| match winner {
            Some(Winner::First) => Some(first),
            Some(Winner::Second) => Some(second),
            _ => None,
        };
        let order_decides = records.verdicts.iter().filter(|verdict| verdict.first < verdict.second).filter(|one| {
            let other = records
                .verdicts
                .iter()
                .find(|other| other.response == one.response && other.first == one.second && other.second == one.first);
            let wins = other.map(|other| {
                (winner(one.winner, one.first, one.second), winner(other.winner, other.first, other.second))
            });
            matches!(wins, Some((Some(here), Some(there))) if here != there)
        });
        Self {
            id: records.prompt.id.to_string(),
            text: records.prompt.text.chars().take(BEGINNING).collect(),
            category: records.prompt.category.clone(),
            pack: 0,
            scores: distinct(records.judgments.iter().filter_map(|judgment| judgment.score)),
            actor: has(PairKind::Actor),
            judge: has(PairKind::Judge),
            unreadable: unread as u64,
            order_decides: order_decides.count() as u64,
        }
    }

    pub(crate) fn of_evaluation(records: &HeldOutRecords) -> Self {
        let judgments = || records.models.iter().flat_map(|model| &model.judgments);
        Self {
            id: records.prompt.id.to_string(),
            text: records.prompt.text.chars().take(BEGINNING).collect(),
            category: records.prompt.category.clone(),
            pack: 0,
            scores: distinct(judgments().filter_map(|judgment| judgment.score)),
            actor: None,
            judge: None,
            unreadable: judgments().filter(|judgment| judgment.score.is_none()).count() as u64,
            order_decides: 0,
        }
    }
}

fn distinct(scores: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut scores: Vec<f64> = scores.collect();
    scores.sort_by(f64::total_cmp);
    scores.dedup();
    scores
}

/// The packs of one place, and the list of its prompts.
#[derive(Default)]
pub(crate) struct Packer {
    entries: Vec<Entry>,
    open: Vec<String>,
    bytes: usize,
    packs: Vec<String>,
    packed: u64,
    limit: Option<usize>,
    budget: u64,
}

impl Packer {
    /// Takes at most so many prompts, and no more once the packs hold so many bytes.
    pub fn new(limit: Option<usize>, budget: u64) -> Self {
        Self { limit, budget, ..Self::default() }
    }

    /// Adds the records of one prompt, unless there are as many as are wanted.
    pub fn add<T: Serialize>(&mut self, entry: Entry, records: &T) -> Result<(), ReportError> {
        if self.packed >= self.budget || self.limit.is_some_and(|limit| self.entries.len() >= limit) {
            return Ok(());
        }
        let json = serde_json::to_string(records).map_err(|error| encode("a prompt's records", &error))?;
        self.bytes += json.len();
        self.open.push(json);
        self.entries.push(Entry { pack: self.packs.len(), ..entry });
        if self.bytes >= PACK_BYTES { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), ReportError> {
        if !self.open.is_empty() {
            let pack = compressed(&format!("[{}]", self.open.join(",")))?;
            self.packed += pack.len() as u64;
            self.packs.push(pack);
            self.open.clear();
            self.bytes = 0;
        }
        Ok(())
    }

    /// Number of prompts, the list of prompts, and the packs.
    pub fn finish(mut self) -> Result<(usize, String, Vec<String>), ReportError> {
        self.close()?;
        let list = serde_json::to_string(&self.entries).map_err(|error| encode("the list of prompts", &error))?;
        Ok((self.entries.len(), compressed(&list)?, self.packs))
    }
}

pub(crate) fn encode(what: &str, error: &dyn std::error::Error) -> ReportError {
    ReportError::Encode { what: what.into(), message: error.to_string() }
}

/// gzip, then base64: what the page's script undoes with the browser's own `DecompressionStream`.
fn compressed(text: &str) -> Result<String, ReportError> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let bytes = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
    Ok(STANDARD.encode(bytes.map_err(|error| encode("a pack", &error))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_end_with_their_budget() {
        let entry = |id: u32| Entry {
            id: id.to_string(),
            text: String::new(),
            category: None,
            pack: 0,
            scores: Vec::new(),
            actor: None,
            judge: None,
            unreadable: 0,
            order_decides: 0,
        };
        // Letters that hardly compress, a quarter of a pack each.
        let text = |seed: u32| -> String {
            let digest = |n: u32| blake3::hash(&[seed.to_le_bytes(), n.to_le_bytes()].concat()).to_hex().to_string();
            (0..4096).map(digest).collect()
        };
        let fill = |limit, budget| {
            let mut packer = Packer::new(limit, budget);
            (0..40).for_each(|id| packer.add(entry(id), &text(id)).unwrap());
            packer.finish().unwrap()
        };
        let (all, _, packs) = fill(None, u64::MAX);
        assert_eq!((all, packs.len()), (40, 10));
        let size = packs[0].len() as u64;
        let (some, _, packs) = fill(None, 2 * size);
        assert!(
            some < 40 && some.is_multiple_of(4) && packs.len() == some / 4,
            "{some} prompts in {} packs",
            packs.len()
        );
        assert!(packs.iter().map(|pack| pack.len() as u64).sum::<u64>() < 4 * size);
        assert_eq!(fill(Some(3), u64::MAX).0, 3);
        assert_eq!(fill(None, 0).0, 0);
    }
}
