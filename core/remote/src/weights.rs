//! Proof that every server answers with the same weights, and with the right ones: after training, servers are told to
//! load another model, and one that did not would spoil a run without a word.

use crate::{Answer, Cache, Pool, Prompt, RemoteError, Request};

impl Pool {
    /// Puts each probe to every server, past the cache, and holds the answers against each other and against `expected`,
    /// where that is given: the same texts, and log-probabilities that are at most `tolerance` apart. Probes must be greedy
    /// and ask for log-probabilities. Gives the first server's answers, for a comparison another day.
    ///
    /// # Errors
    /// [`RemoteError::Weights`] with the server that differs or does not answer; a probe that proves nothing;
    /// [`RemoteError::Stopped`].
    pub fn prove_weights(
        &mut self,
        probes: &[Request],
        expected: Option<&[Answer]>,
        tolerance: f64,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Answer>, RemoteError> {
        let proves =
            |probe: &Request| probe.parameters.sampling.temperature == 0.0 && probe.parameters.logprobs.is_some();
        if probes.is_empty() || !probes.iter().all(proves) {
            let message = "there must be some, greedy and with log-probabilities".to_owned();
            return Err(RemoteError::Setting { name: "probes", message });
        }
        let cache: Option<Cache> = self.take_cache();
        let found = self.ask_each(probes, stop);
        self.put_cache(cache);
        let mut first: Option<Vec<Answer>> = expected.map(<[Answer]>::to_vec);
        let mut kept = None;
        for (server, answers) in found? {
            let differs = |message: String| RemoteError::Weights { server: server.clone(), message };
            let answers: Vec<Answer> = answers
                .into_iter()
                .collect::<Result<_, _>>()
                .map_err(|failure| differs(format!("it does not answer a probe: {failure}")))?;
            match &first {
                None => first = Some(answers.clone()),
                Some(first) => {
                    for ((probe, one), other) in probes.iter().zip(first).zip(&answers) {
                        compare(one, other, tolerance)
                            .map_err(|why| differs(format!("{why}, asked {}", shown(probe))))?;
                    }
                }
            }
            kept.get_or_insert(answers);
        }
        Ok(kept.unwrap_or_default())
    }
}

/// Whether two answers can be one model's.
fn compare(one: &Answer, other: &Answer, tolerance: f64) -> Result<(), String> {
    let (Some(expected), Some(found)) = (one.completions.first(), other.completions.first()) else {
        return Err("it gave no answer".to_owned());
    };
    if expected.text != found.text {
        return Err(format!("it says {:?} where {:?} was expected", found.text, expected.text));
    }
    let (Some(expected), Some(found)) = (&expected.logprobs, &found.logprobs) else {
        return Err("it gave no log-probabilities".to_owned());
    };
    if expected.len() != found.len() {
        return Err(format!("it gave {} log-probabilities where {} were expected", found.len(), expected.len()));
    }
    let apart = expected.iter().zip(found).map(|(one, other)| (one.logprob - other.logprob).abs());
    let most = apart.fold(0.0, f64::max);
    if most <= tolerance { Ok(()) } else { Err(format!("its log-probabilities are up to {most:.4} apart")) }
}

/// The beginning of a probe.
fn shown(probe: &Request) -> String {
    match &probe.prompt {
        Prompt::Chat(messages) => {
            let last = messages.last().map_or("", |message| message.content.as_str());
            format!("{:?}", crate::fault::shortened(last))
        }
        Prompt::Text(text) => format!("{:?}", crate::fault::shortened(text)),
        Prompt::Tokens(tokens) => format!("{} token ids", tokens.len()),
    }
}
