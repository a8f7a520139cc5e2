//! What is asked, and how it is written for a server.

use metareward_api::{Message, Sampling};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{Dialect, RemoteError};

/// What is continued.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prompt {
    /// A conversation; the server applies the model's chat template.
    Chat(Vec<Message>),
    /// A text as it is.
    Text(String),
    /// Token ids as they are.
    Tokens(Vec<u32>),
}

/// How an answer is drawn.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parameters {
    /// Temperature, top-p, top-k, min-p, longest answer, stop texts.
    pub sampling: Sampling,
    /// Seed of the answer's random stream. Servers take 31 bits of it and promise nothing.
    pub seed: u64,
    /// Number of answers to the one request.
    pub n: u32,
    /// Asks for the log-probability of every token of the answer, and for this many of the most probable ones beside it.
    pub logprobs: Option<u32>,
}

/// One request. Two equal requests to one model have one answer: draws that shall differ have different seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Request {
    /// What is continued.
    pub prompt: Prompt,
    /// How.
    pub parameters: Parameters,
}

impl Request {
    /// One answer to a conversation.
    pub fn chat(messages: Vec<Message>, sampling: Sampling, seed: u64) -> Request {
        Request { prompt: Prompt::Chat(messages), parameters: Parameters { sampling, seed, n: 1, logprobs: None } }
    }

    /// A hash of what is continued. Requests that have it in common (the draws of one prompt, the judgments of one
    /// response) go to the same server, which then reads the prompt once.
    pub fn prefix(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        // Plain data: writing it into a hasher cannot fail, and a prefix shared by mistake is harmless.
        if let Err(error) = serde_json::to_writer(&mut hasher, &self.prompt) {
            tracing::debug!("a prompt without a hash: {error}");
        }
        hasher.finalize().as_bytes()[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Hashes of the beginnings of what is continued, the shortest first, in steps of 16 tokens or 64 bytes. Two requests
    /// have as many of them in common as they have of such steps.
    pub fn beginnings(&self) -> Vec<u64> {
        const TOKENS: usize = 16;
        const BYTES: usize = 64;
        let mut hasher = blake3::Hasher::new();
        let mut all = Vec::new();
        let mut step = |hasher: &mut blake3::Hasher, bytes: &[u8], whole: bool| {
            hasher.update(bytes);
            if whole {
                let hash = hasher.finalize();
                all.push(hash.as_bytes()[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
            }
        };
        match &self.prompt {
            Prompt::Tokens(tokens) => {
                for part in tokens.chunks(TOKENS) {
                    let bytes: Vec<u8> = part.iter().flat_map(|token| token.to_le_bytes()).collect();
                    step(&mut hasher, &bytes, part.len() == TOKENS);
                }
            }
            Prompt::Text(text) => {
                text.as_bytes().chunks(BYTES).for_each(|part| step(&mut hasher, part, part.len() == BYTES))
            }
            Prompt::Chat(messages) => {
                for message in messages {
                    step(&mut hasher, message.role.as_str().as_bytes(), false);
                    for part in message.content.as_bytes().chunks(BYTES) {
                        step(&mut hasher, part, part.len() == BYTES);
                    }
                    // Where the turn ends, the next begins alike for all that had it.
                    step(&mut hasher, &[0], true);
                }
            }
        }
        all
    }

    /// About how many tokens it will use, before that is known: a quarter of the prompt's bytes and the longest answers.
    pub(crate) fn estimate(&self) -> u32 {
        let prompt = match &self.prompt {
            Prompt::Chat(messages) => messages.iter().map(|message| message.content.len() / 4 + 4).sum(),
            Prompt::Text(text) => text.len() / 4,
            Prompt::Tokens(tokens) => tokens.len(),
        };
        let answers = u64::from(self.parameters.sampling.max_tokens) * u64::from(self.parameters.n);
        u32::try_from(prompt as u64 + answers).unwrap_or(u32::MAX)
    }

    /// The service that answers it.
    pub(crate) fn service(&self) -> &'static str {
        match self.prompt {
            Prompt::Chat(_) => "chat/completions",
            Prompt::Text(_) | Prompt::Tokens(_) => "completions",
        }
    }

    /// The body for a server that speaks `dialect`.
    ///
    /// # Errors
    /// [`RemoteError::Request`] for what the dialect cannot say.
    pub fn body(&self, model: &str, dialect: Dialect) -> Result<Value, RemoteError> {
        let Parameters { sampling, seed, n, logprobs } = &self.parameters;
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
        put("model", json!(model));
        let chat = match &self.prompt {
            Prompt::Chat(messages) => {
                put("messages", json!(messages));
                true
            }
            Prompt::Text(text) => {
                put("prompt", json!(text));
                false
            }
            Prompt::Tokens(_) if !dialect.takes_tokens() => {
                let message = "OpenAI's own form has no prompts by token ids".to_owned();
                return Err(RemoteError::Request { name: "a prompt by token ids", message });
            }
            Prompt::Tokens(tokens) => {
                put("prompt", json!(tokens));
                false
            }
        };
        put("max_tokens", json!(sampling.max_tokens));
        put("temperature", json!(sampling.temperature));
        // Every server takes 31 bits.
        put("seed", json!(seed & 0x7fff_ffff));
        if sampling.top_p < 1.0 || dialect != Dialect::OpenAi {
            put("top_p", json!(sampling.top_p));
        }
        if *n != 1 {
            put("n", json!(n));
        }
        if !sampling.stop.is_empty() {
            put("stop", json!(sampling.stop));
        }
        match logprobs {
            Some(top) if chat => {
                put("logprobs", json!(true));
                put("top_logprobs", json!(top));
            }
            Some(top) => {
                put("logprobs", json!(top));
            }
            None => {}
        }
        let top_k = sampling.top_k.map_or(-1, i64::from);
        match dialect {
            Dialect::OpenAi => {
                for (name, said) in [("top-k", sampling.top_k.is_some()), ("min-p", sampling.min_p > 0.0)] {
                    if said && sampling.temperature > 0.0 {
                        let message =
                            "OpenAI's own form does not know it; vllm:, sglang: or llama-cpp: servers do".to_owned();
                        return Err(RemoteError::Request { name, message });
                    }
                }
            }
            Dialect::Vllm => {
                put("top_k", json!(top_k));
                put("min_p", json!(sampling.min_p));
                put("repetition_penalty", json!(1.0));
            }
            Dialect::LlamaCpp => {
                put("top_k", json!(top_k));
                put("min_p", json!(sampling.min_p));
                put("repeat_penalty", json!(1.0));
            }
        }
        Ok(Value::Object(body))
    }

    /// The name of an answer: a hash of model and request. The server's address, kind and key are not part of it.
    pub fn fingerprint(&self, model: &str) -> Fingerprint {
        #[derive(Serialize)]
        struct Named<'a> {
            form: u32,
            model: &'a str,
            request: &'a Request,
        }
        let named = Named { form: 1, model, request: self };
        // Plain data with text keys: writing it into a hasher cannot fail.
        let mut hasher = blake3::Hasher::new();
        if serde_json::to_writer(&mut hasher, &named).is_err() {
            hasher.update(b"not serialisable");
        }
        Fingerprint(*hasher.finalize().as_bytes())
    }
}

/// The name of an answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub(crate) [u8; 32]);

impl Fingerprint {
    /// 64 hexadecimal digits.
    pub fn to_hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// Reads [`Fingerprint::to_hex`].
    pub fn from_hex(text: &str) -> Option<Fingerprint> {
        blake3::Hash::from_hex(text).ok().map(|hash| Fingerprint(*hash.as_bytes()))
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sampling() -> Sampling {
        Sampling { temperature: 0.7, top_p: 0.9, top_k: None, min_p: 0.0, max_tokens: 16, stop: vec!["\n".into()] }
    }

    #[test]
    fn each_dialect_says_what_it_can() {
        let request = Request::chat(vec![Message::user("hello")], sampling(), u64::MAX);
        assert_eq!(
            request.body("m", Dialect::OpenAi).unwrap(),
            json!({"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 16, "temperature": 0.7,
                   "seed": 0x7fff_ffff, "top_p": 0.9, "stop": ["\n"]})
        );
        let vllm = request.body("m", Dialect::Vllm).unwrap();
        assert_eq!(
            (&vllm["top_k"], &vllm["min_p"], &vllm["repetition_penalty"]),
            (&json!(-1), &json!(0.0), &json!(1.0))
        );
        assert_eq!(request.body("m", Dialect::LlamaCpp).unwrap()["repeat_penalty"], json!(1.0));
        let mut tokens = request.clone();
        tokens.prompt = Prompt::Tokens(vec![1, 2]);
        tokens.parameters.n = 3;
        tokens.parameters.logprobs = Some(2);
        assert!(tokens.body("m", Dialect::OpenAi).is_err());
        let body = tokens.body("m", Dialect::Vllm).unwrap();
        assert_eq!((&body["prompt"], &body["n"], &body["logprobs"]), (&json!([1, 2]), &json!(3), &json!(2)));
        let mut top_k = request;
        top_k.parameters.sampling.top_k = Some(5);
        assert!(top_k.body("m", Dialect::OpenAi).unwrap_err().to_string().starts_with("top-k cannot be asked"));
        top_k.parameters.sampling.temperature = 0.0;
        assert!(top_k.body("m", Dialect::OpenAi).is_ok(), "greedy: top-k says nothing");
    }

    proptest! {
        #[test]
        fn different_requests_have_different_names(a in "[ab]{0,3}", b in "[ab]{0,3}", seeds in any::<(u8, u8)>(), models in ("[mn]", "[mn]")) {
            let one = Request::chat(vec![Message::user(&a)], sampling(), seeds.0.into());
            let other = Request::chat(vec![Message::user(&b)], sampling(), seeds.1.into());
            let same = a == b && seeds.0 == seeds.1 && models.0 == models.1;
            prop_assert_eq!(one.fingerprint(&models.0) == other.fingerprint(&models.1), same);
            let name = one.fingerprint(&models.0);
            prop_assert_eq!(Fingerprint::from_hex(&name.to_hex()), Some(name));
        }

        /// As many steps in common as the texts have.
        #[test]
        fn beginnings_are_shared_as_far_as_texts_are(common in 0usize..400, one in 0usize..300, other in 0usize..300) {
            let tokens = |number: u32, more: usize| {
                let prompt = Prompt::Tokens([vec![7; common], vec![number; more]].concat());
                let request = Request::chat(Vec::new(), sampling(), 1);
                Request { prompt, ..request }.beginnings()
            };
            let (one, other) = (tokens(8, one), tokens(9, other));
            let shared = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
            prop_assert_eq!(shared, common / 16);
            let text = |tail: &str| Request::chat(vec![Message::user("x".repeat(common) + tail)], sampling(), 1).beginnings();
            let (one, other) = (text("a"), text("b"));
            prop_assert_eq!(one.iter().zip(&other).take_while(|(one, other)| one == other).count(), common / 64);
        }

        #[test]
        fn draws_of_one_prompt_have_one_prefix(text in ".{0,20}", other in ".{0,20}", seeds in any::<(u64, u64)>()) {
            let prefix = |text: &str, seed| Request::chat(vec![Message::user(text)], sampling(), seed).prefix();
            prop_assert_eq!(prefix(&text, seeds.0), prefix(&text, seeds.1));
            prop_assert_eq!(prefix(&text, 1) == prefix(&other, 1), text == other);
        }
    }
}
