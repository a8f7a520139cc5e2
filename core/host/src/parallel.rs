//! Large batches spread over threads, for the kinds whose items are independent of each other.

use std::sync::atomic::{AtomicUsize, Ordering};

use metareward_api::{
    Candidate, DrawPlan, Match, Message, MetaJudge, MetaJudgeItem, MetaJudgePromises, NextTokens, NoPair, Plugin,
    PluginError, PluginInfo, PositionWins, Ranker, RankerPromises, RankingProblem, Rating, Rubric, RubricItem, Sampler,
    SamplerItem, Scale, Selection, Selector, SelectorPromises, Unreadable, VerdictSet, Weighed, WeightScope, Winner,
};

/// Items per call. Fixed, so that what a plugin is asked never depends on the machine.
const CHUNK: usize = 256;

/// A plugin whose batches are cut into calls of 256 items, answered by several threads.
pub(crate) struct Parallel<P: ?Sized> {
    pub inner: Box<P>,
    pub threads: usize,
}

impl<P: Plugin + ?Sized> Plugin for Parallel<P> {
    fn info(&self) -> PluginInfo {
        self.inner.info()
    }
}

impl<P: Plugin + ?Sized> Parallel<P> {
    /// The answers to all items, in order; of several errors, the first by item.
    fn spread<T: Send>(
        &self,
        items: usize,
        call: impl Fn(&P, std::ops::Range<usize>) -> Result<Vec<T>, PluginError> + Sync,
    ) -> Result<Vec<T>, PluginError> {
        let chunks = items.div_ceil(CHUNK).max(1);
        let answer = |chunk: usize| {
            let (start, end) = (chunk * CHUNK, items.min((chunk + 1) * CHUNK));
            let answers = call(&self.inner, start..end).map_err(|mut error| {
                // An item that was not in the call would name a stranger.
                error.item = error.item.filter(|item| *item < end - start).map(|item| item + start);
                error
            })?;
            // A wrong number must not be mended by the next chunk's. Of one chunk alone, whoever asked sees it.
            if chunks > 1 && answers.len() != end - start {
                let message = format!("{} answers to the {} items from item {start}", answers.len(), end - start);
                return Err(PluginError::new(message));
            }
            Ok(answers)
        };
        let threads = self.threads.min(chunks);
        if threads <= 1 {
            let mut all = Vec::with_capacity(items);
            for chunk in 0..chunks {
                all.extend(answer(chunk)?);
            }
            return Ok(all);
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                let chunk = next.fetch_add(1, Ordering::Relaxed);
                if chunk >= chunks {
                    return done;
                }
                let answers = answer(chunk);
                let failed = answers.is_err();
                done.push((chunk, answers));
                if failed {
                    // Chunks before this one are taken already; later ones cannot hold the first error.
                    next.store(chunks, Ordering::Relaxed);
                    return done;
                }
            }
        };
        let mut done = std::thread::scope(|scope| {
            let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for worker in workers {
                match worker.join() {
                    Ok(chunks) => done.extend(chunks),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            done
        });
        done.sort_by_key(|(chunk, _)| *chunk);
        let mut all = Vec::with_capacity(items);
        for (_, answers) in done {
            all.extend(answers?);
        }
        Ok(all)
    }
}

impl Sampler for Parallel<dyn Sampler> {
    fn plan(&self, items: &[SamplerItem]) -> Result<Vec<Vec<DrawPlan>>, PluginError> {
        self.spread(items.len(), |sampler, range| sampler.plan(&items[range]))
    }

    fn reshapes(&self) -> Result<Option<u32>, PluginError> {
        self.inner.reshapes()
    }

    fn reshape(&self, rows: &[NextTokens]) -> Result<Vec<Vec<f64>>, PluginError> {
        self.spread(rows.len(), |sampler, range| sampler.reshape(&rows[range]))
    }
}

impl Rubric for Parallel<dyn Rubric> {
    fn scale(&self) -> Result<Scale, PluginError> {
        self.inner.scale()
    }

    fn criteria(&self) -> Result<String, PluginError> {
        self.inner.criteria()
    }

    fn compares(&self) -> Result<bool, PluginError> {
        self.inner.compares()
    }

    fn render(&self, items: &[RubricItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        self.spread(items.len(), |rubric, range| rubric.render(&items[range]))
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<f64, Unreadable>>, PluginError> {
        self.spread(texts.len(), |rubric, range| rubric.parse(&texts[range]))
    }

    fn closing_line(&self, score: f64) -> Result<Option<String>, PluginError> {
        self.inner.closing_line(score)
    }

    fn aggregate(&self, scores: &[Vec<f64>]) -> Result<Vec<Option<f64>>, PluginError> {
        self.spread(scores.len(), |rubric, range| rubric.aggregate(&scores[range]))
    }
}

impl MetaJudge for Parallel<dyn MetaJudge> {
    fn promises(&self) -> Result<MetaJudgePromises, PluginError> {
        self.inner.promises()
    }

    fn scope(&self) -> Result<WeightScope, PluginError> {
        self.inner.scope()
    }

    fn schedule(&self, players: &[u32]) -> Result<Vec<Vec<Match>>, PluginError> {
        self.spread(players.len(), |judge, range| judge.schedule(&players[range]))
    }

    fn render(&self, items: &[MetaJudgeItem<'_>]) -> Result<Vec<Vec<Message>>, PluginError> {
        self.spread(items.len(), |judge, range| judge.render(&items[range]))
    }

    fn parse(&self, texts: &[&str]) -> Result<Vec<Result<Winner, Unreadable>>, PluginError> {
        self.spread(texts.len(), |judge, range| judge.parse(&texts[range]))
    }

    fn closing_line(&self, winner: Winner) -> Result<Option<String>, PluginError> {
        self.inner.closing_line(winner)
    }

    fn weigh(&self, sets: &[VerdictSet], wins: &[PositionWins]) -> Result<Vec<Weighed>, PluginError> {
        if sets.len() != wins.len() {
            return self.inner.weigh(sets, wins);
        }
        self.spread(sets.len(), |judge, range| judge.weigh(&sets[range.clone()], &wins[range]))
    }
}

impl Ranker for Parallel<dyn Ranker> {
    fn promises(&self) -> Result<RankerPromises, PluginError> {
        self.inner.promises()
    }

    fn rate(&self, problems: &[RankingProblem]) -> Result<Vec<Rating>, PluginError> {
        self.spread(problems.len(), |ranker, range| ranker.rate(&problems[range]))
    }
}

impl Selector for Parallel<dyn Selector> {
    fn promises(&self) -> Result<SelectorPromises, PluginError> {
        self.inner.promises()
    }

    fn length_unit(&self) -> Result<String, PluginError> {
        self.inner.length_unit()
    }

    fn select(&self, groups: &[Vec<Candidate>]) -> Result<Vec<Result<Selection, NoPair>>, PluginError> {
        self.spread(groups.len(), |selector, range| selector.select(&groups[range]))
    }
}
