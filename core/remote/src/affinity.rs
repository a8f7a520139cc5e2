//! Which server has read most of a prompt already. Prompts that begin alike (a rubric, then a question, then one of its
//! responses) share the keys and values of what they have in common, on a server that has read it.
//!
//! A prompt is a chain of hashes, one for each of its beginnings in steps of a block. Of each beginning is remembered which
//! servers got it lately.

use std::collections::{BTreeMap, VecDeque};

/// Beginnings that are remembered; the oldest are forgotten first, as servers do.
const MOST: usize = 1 << 16;

/// Beginnings of prompts and the servers that got them.
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    known: BTreeMap<u64, Known>,
    /// In the order in which they were used, with the time of that use: an entry whose time is not the beginning's last one
    /// has been used since.
    used: VecDeque<(u64, u64)>,
    now: u64,
}

#[derive(Debug)]
struct Known {
    servers: Vec<usize>,
    used: u64,
}

impl Affinity {
    /// The servers that got the longest beginning of a prompt; empty where no server got any.
    pub fn nearest(&self, chain: &[u64]) -> &[usize] {
        chain.iter().rev().find_map(|hash| self.known.get(hash)).map_or(&[], |known| &known.servers)
    }

    /// A server gets a prompt.
    pub fn got(&mut self, chain: &[u64], server: usize) {
        self.now += 1;
        for hash in chain {
            let known = self.known.entry(*hash).or_insert(Known { servers: Vec::new(), used: 0 });
            known.used = self.now;
            if let Err(place) = known.servers.binary_search(&server) {
                known.servers.insert(place, server);
            }
            self.used.push_back((*hash, self.now));
        }
        while self.known.len() > MOST || self.used.len() > 4 * MOST {
            let Some((hash, used)) = self.used.pop_front() else { return };
            if self.known.get(&hash).is_some_and(|known| known.used == used) {
                self.known.remove(&hash);
            }
        }
    }

    /// A server was away: what it had read is gone.
    pub fn forget(&mut self, server: usize) {
        self.known.retain(|_, known| {
            known.servers.retain(|of| *of != server);
            !known.servers.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_counts() {
        let mut affinity = Affinity::default();
        assert!(affinity.nearest(&[1, 2]).is_empty());
        affinity.got(&[1, 2, 3], 0);
        affinity.got(&[1, 4, 5], 1);
        assert_eq!(affinity.nearest(&[1, 2, 9]), [0]);
        assert_eq!(affinity.nearest(&[1, 4, 5, 6]), [1]);
        assert_eq!(affinity.nearest(&[1, 7]), [0, 1]);
        affinity.forget(0);
        assert_eq!(affinity.nearest(&[1, 2, 9]), [1]);
    }

    #[test]
    fn memory_stays_flat_and_what_is_used_is_kept() {
        let mut affinity = Affinity::default();
        for number in 0..5 * MOST as u64 {
            affinity.got(&[1, 1000 + number], 0);
        }
        assert!(affinity.known.len() <= MOST + 2 && affinity.used.len() <= 4 * MOST + 2);
        assert_eq!(affinity.nearest(&[1, 2]), [0], "used all the time");
        assert!(affinity.nearest(&[1000]).is_empty(), "the oldest");
    }
}
