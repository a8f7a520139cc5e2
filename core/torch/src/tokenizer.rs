//! Text to tokens and back, as `tokenizer.json` describes it.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use tokenizers::Tokenizer;

use crate::{Result, TorchError};

/// A tokenizer. Cloning it is cheap.
///
/// Special tokens are recognised wherever their text stands, also inside a person's or a model's words, as in
/// transformers: a message that contains `<|eot_id|>` ends the turn there. Who feeds in text from strangers removes such
/// strings before.
#[derive(Clone, Debug)]
pub struct TextTokenizer {
    inner: Arc<Tokenizer>,
    special: Arc<BTreeSet<i64>>,
}

impl TextTokenizer {
    /// Reads `tokenizer.json`. Truncation and padding that it may ask for are switched off.
    ///
    /// # Errors
    /// [`TorchError::Model`] when it is missing or not a tokenizer.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            return Err(TorchError::model(folder, "tokenizer.json is missing"));
        }
        let tokenizer = Tokenizer::from_file(&path)
            .map_err(|error| TorchError::model(folder, format!("tokenizer.json: {error}")))?;
        Self::new(tokenizer).map_err(|error| TorchError::model(folder, format!("tokenizer.json: {error}")))
    }

    /// A tokenizer made in memory.
    ///
    /// # Errors
    /// [`TorchError::Input`] when truncation cannot be switched off.
    pub fn new(mut tokenizer: Tokenizer) -> Result<Self> {
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| TorchError::Input(error.to_string()))?;
        let mut special = BTreeSet::new();
        let added = tokenizer.get_added_tokens_decoder();
        special.extend(added.iter().filter(|(_, token)| token.special).map(|(id, _)| i64::from(*id)));
        Ok(Self { inner: Arc::new(tokenizer), special: Arc::new(special) })
    }

    /// Tokens of `text`, without adding any: a chat template writes the beginning-of-text token itself.
    ///
    /// # Errors
    /// [`TorchError::Input`] when the tokenizer refuses.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| TorchError::Input(format!("the tokenizer refused a text: {error}")))?;
        Ok(encoding.get_ids().iter().map(|id| i64::from(*id)).collect())
    }

    /// Text of `ids`, special tokens left out.
    ///
    /// # Errors
    /// [`TorchError::Input`] when the tokenizer refuses.
    pub fn decode(&self, ids: &[i64]) -> Result<String> {
        let ids: Vec<u32> = ids.iter().filter_map(|id| u32::try_from(*id).ok()).collect();
        self.inner.decode(&ids, true).map_err(|error| TorchError::Input(format!("tokens do not decode: {error}")))
    }

    /// Text of one token as it reads by itself, special tokens included; bytes that are no whole character show as `�`.
    pub fn token_text(&self, id: i64) -> String {
        let Ok(id) = u32::try_from(id) else { return String::new() };
        match self.inner.decode(&[id], false) {
            Ok(text) if !text.is_empty() => text,
            _ => self.inner.id_to_token(id).unwrap_or_default(),
        }
    }

    /// The id of a token by its text.
    pub fn id(&self, token: &str) -> Option<i64> {
        self.inner.token_to_id(token).map(i64::from)
    }

    /// Whether `id` is a special token: one that is left out of decoded text.
    pub fn is_special(&self, id: i64) -> bool {
        self.special.contains(&id)
    }

    /// The tokenizer itself, for decoding piece by piece.
    pub fn inner(&self) -> &Tokenizer {
        &self.inner
    }
}
