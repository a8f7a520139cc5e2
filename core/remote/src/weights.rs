//! Proof that every server answers with the same weights, and with the right ones: after training, servers are told to
//! load another model, and one that did not would spoil a run without a word.

use std::path::Path;

use metareward_api::{EngineError, Message};

use crate::{Answer, Cache, Pool, Prompt, RemoteError, Request, TokenLogProb, pool::OfServer};

/// What a server said, for an engine that computes how probable that is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Said<'a> {
    /// The conversation.
    pub messages: &'a [Message],
    /// The server's words, which may end before the turn does.
    pub text: &'a str,
}

/// A token of what was said, as an engine sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Its text; blanks around it do not count.
    pub token: String,
    /// Natural logarithm of its probability, given everything before it.
    pub logprob: f64,
    /// The highest of any token in its place.
    pub best: f64,
}

/// Computes log-probabilities with the weights in a folder: what servers are held against.
pub trait Measure: Send {
    /// Every text's tokens, the end of the turn left out, in the order of the texts.
    ///
    /// # Errors
    /// [`EngineError::Model`] when the folder cannot be used.
    fn measure(&mut self, folder: &Path, said: &[Said<'_>]) -> Result<Vec<Vec<Measured>>, EngineError>;
}

/// How far a server is from weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Distance {
    /// Mean over tokens of the difference in log-probability where the server gives them. Else of what greedy tokens fall
    /// short of the most probable ones, of the middle one of the texts.
    pub mean: f64,
    /// Tokens of which it is the mean.
    pub tokens: usize,
    /// Whether the server gave log-probabilities.
    logprobs: bool,
}

impl Distance {
    /// What was compared.
    pub fn by(&self) -> &'static str {
        if self.logprobs { "log-probabilities" } else { "greedy texts" }
    }

    /// Whether a server at this distance has the weights: within `tolerance`, and not much nearer to the weights that it
    /// had before.
    ///
    /// # Errors
    /// What is different.
    pub fn judge(&self, before: Option<&Distance>, tolerance: f64) -> Result<(), String> {
        // Below this, numbers are rounding.
        const ROUNDING: f64 = 1e-6;
        if let Some(before) = before
            && before.mean < self.mean / 2.0
            && self.mean > ROUNDING
        {
            return Err(format!(
                "it still answers with the model before: by {} it is {:.2e} from that one and {:.2e} from the one that it \
                 was told to serve",
                self.by(),
                before.mean,
                self.mean
            ));
        }
        if self.mean > tolerance {
            return Err(format!(
                "by {} of {} tokens it is {:.2e} from the model that it was told to serve, more than the tolerance of \
                 {tolerance}",
                self.by(),
                self.tokens,
                self.mean
            ));
        }
        Ok(())
    }
}

/// How far each server's greedy answers are from the weights in a folder, which is read once. `None` where nothing can be
/// compared.
pub(crate) fn distances(
    measure: &mut dyn Measure,
    folder: &Path,
    conversations: &[Vec<Message>],
    servers: &[Vec<Answer>],
) -> Result<Vec<Option<Distance>>, RemoteError> {
    let text = |answer: &'_ Answer| answer.completions.first().map_or(String::new(), |found| found.text.clone());
    let texts: Vec<String> = servers.iter().flatten().map(text).collect();
    let said: Vec<Said<'_>> =
        conversations.iter().cycle().zip(&texts).map(|(messages, text)| Said { messages, text }).collect();
    let mut measured = measure.measure(folder, &said).map_err(RemoteError::Engine)?.into_iter();
    Ok(servers.iter().map(|answers| distance(&mut measured, answers)).collect())
}

/// How far one server's answers are from what was measured of them.
fn distance(measured: &mut dyn Iterator<Item = Vec<Measured>>, answers: &[Answer]) -> Option<Distance> {
    let (mut apart, mut short) = (Vec::new(), Vec::new());
    for (answer, tokens) in answers.iter().zip(measured) {
        let given = answer.completions.first().and_then(|found| found.logprobs.as_ref());
        match given.filter(|given| !given.is_empty()) {
            // Some give the end of the turn, too. What was said may have been said in other tokens than those that it is
            // read as: then the numbers are of other things.
            Some(given) => {
                let alike = |(one, other): (&Measured, &TokenLogProb)| one.token.trim() == other.token.trim();
                let counts = given.len() == tokens.len() || given.len() == tokens.len() + 1;
                if counts && tokens.iter().zip(given).all(alike) {
                    apart.extend(tokens.iter().zip(given).map(|(one, other)| (one.logprob - other.logprob).abs()));
                }
            }
            None if tokens.is_empty() => {}
            None => {
                let sum: f64 = tokens.iter().map(|token| token.best - token.logprob).sum();
                short.push((sum / tokens.len() as f64, tokens.len()));
            }
        }
    }
    if !apart.is_empty() {
        let (sum, tokens): (f64, usize) = (apart.iter().sum(), apart.len());
        return Some(Distance { mean: sum / tokens as f64, tokens, logprobs: true });
    }
    // Of a text alone nobody knows in which tokens it was said. Where it is read as others it looks improbable, so the
    // middle one of the texts counts.
    short.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mean, _) = *short.get(short.len().saturating_sub(1) / 2)?;
    Some(Distance { mean, tokens: short.iter().map(|(_, tokens)| tokens).sum(), logprobs: false })
}

impl Pool {
    /// Puts each probe to every server, past the cache, and gives each server's URL with what became of them.
    ///
    /// # Errors
    /// As [`Pool::run`].
    pub(crate) fn ask_past_cache(
        &mut self,
        probes: &[Request],
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<OfServer>, RemoteError> {
        let cache: Option<Cache> = self.take_cache();
        let found = self.ask_each(probes, stop);
        self.put_cache(cache);
        found
    }

    /// Puts each probe to every server, past the cache, and holds the answers against each other and against `expected`,
    /// where that is given: the same texts, and log-probabilities that are at most `tolerance` apart in the mean. Probes must
    /// be greedy and ask for log-probabilities. Gives the first server's answers, for a comparison another day.
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
        let mut first: Option<Vec<Answer>> = expected.map(<[Answer]>::to_vec);
        let mut kept = None;
        for (server, answers) in self.ask_past_cache(probes, stop)? {
            let differs = |message: String| RemoteError::Weights { server: server.clone(), message };
            let answers: Vec<Answer> = answers
                .into_iter()
                .collect::<Result<_, _>>()
                .map_err(|failure| differs(format!("it does not answer a probe: {failure}")))?;
            match &first {
                None => first = Some(answers.clone()),
                Some(first) => same(probes, first, &answers, tolerance).map_err(differs)?,
            }
            kept.get_or_insert(answers);
        }
        Ok(kept.unwrap_or_default())
    }
}

/// Whether two servers' answers can be one model's. Greedy texts may part where two tokens are all but equally probable:
/// from there on nothing is compared.
pub(crate) fn same(probes: &[Request], one: &[Answer], other: &[Answer], tolerance: f64) -> Result<(), String> {
    let (mut sum, mut tokens) = (0.0, 0usize);
    for ((probe, one), other) in probes.iter().zip(one).zip(other) {
        let (Some(expected), Some(found)) = (one.completions.first(), other.completions.first()) else {
            return Err(format!("it gave no answer, asked {}", shown(probe)));
        };
        match (&expected.logprobs, &found.logprobs) {
            (Some(expected), Some(found)) => {
                for (one, other) in expected.iter().zip(found) {
                    let apart = (one.logprob - other.logprob).abs();
                    if one.token != other.token && apart > tolerance {
                        return Err(format!(
                            "it says {:?} where {:?} was expected, asked {}",
                            other.token,
                            one.token,
                            shown(probe)
                        ));
                    }
                    (sum, tokens) = (sum + apart, tokens + 1);
                    if one.token != other.token {
                        break;
                    }
                }
            }
            (None, None) if expected.text == found.text => {}
            (None, None) => {
                return Err(format!(
                    "it says {:?} where {:?} was expected, asked {}",
                    found.text,
                    expected.text,
                    shown(probe)
                ));
            }
            _ => return Err("only some servers give log-probabilities".to_owned()),
        }
    }
    let mean = if tokens == 0 { 0.0 } else { sum / tokens as f64 };
    if mean <= tolerance { Ok(()) } else { Err(format!("its log-probabilities are {mean:.4} apart in the mean")) }
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

#[cfg(test)]
mod tests {
    use metareward_api::Finish;

    use super::*;
    use crate::Completion;

    /// An engine of which each token is so probable.
    struct Fixed(f64, f64);

    impl Measure for Fixed {
        fn measure(&mut self, _: &Path, said: &[Said<'_>]) -> Result<Vec<Vec<Measured>>, EngineError> {
            let token = |letter: char| Measured { token: letter.into(), logprob: self.0, best: self.1 };
            let tokens = |said: &Said<'_>| said.text.chars().map(token).collect();
            Ok(said.iter().map(tokens).collect())
        }
    }

    fn answer(text: &str, logprobs: Option<&[f64]>) -> Answer {
        let token = |(place, logprob): (usize, &f64)| TokenLogProb {
            token: format!(" {}", text.chars().nth(place).unwrap_or_default()),
            logprob: *logprob,
        };
        let logprobs = logprobs.map(|given| given.iter().enumerate().map(token).collect());
        let completion = Completion { text: text.to_owned(), finish: Finish::EndOfTurn, logprobs };
        Answer { completions: vec![completion], usage: None }
    }

    #[test]
    fn distances_are_of_log_probabilities_or_of_greedy_choices() {
        let conversations = vec![vec![Message::user("x")]; 2];
        let of = |answers: &[Answer]| {
            let servers = [answers.to_vec(), answers.to_vec()];
            let found = distances(&mut Fixed(-1.0, -0.75), Path::new(""), &conversations, &servers).unwrap();
            assert_eq!(found[0], found[1]);
            found[0]
        };
        let given = [answer("ab", Some(&[-1.0, -1.5, -9.0])), answer("abc", Some(&[-1.0]))];
        let found = of(&given).unwrap();
        assert_eq!(
            (found.mean, found.tokens, found.by()),
            (0.25, 2, "log-probabilities"),
            "the second is cut otherwise"
        );
        let found = of(&[answer("ab", None), answer("", None)]).unwrap();
        assert_eq!((found.mean, found.tokens, found.by()), (0.25, 2, "greedy texts"));
        assert_eq!(of(&[answer("", None), answer("", None)]), None);
    }

    #[test]
    fn the_model_before_is_told_from_rounding() {
        let at = |mean| Distance { mean, tokens: 9, logprobs: true };
        assert!(at(0.01).judge(None, 0.05).is_ok());
        assert!(at(0.01).judge(Some(&at(0.012)), 0.05).is_ok());
        assert!(at(0.06).judge(None, 0.05).unwrap_err().contains("tolerance"));
        assert!(at(0.01).judge(Some(&at(0.001)), 0.05).unwrap_err().contains("the model before"));
        assert!(at(1e-7).judge(Some(&at(0.0)), 0.05).is_ok(), "the two are one model");
    }
}
