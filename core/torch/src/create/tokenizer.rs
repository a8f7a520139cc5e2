//! A tokenizer of whole words, with bytes for everything else.

use std::collections::BTreeMap;

use tokenizers::{
    AddedToken, PreTokenizer, PreTokenizerWrapper, Tokenizer,
    decoders::{self, strip::Strip},
    models::bpe::{BPE, Vocab},
    normalizers::Prepend,
    pre_tokenizers::{byte_level::ByteLevel, split::Split, split::SplitPattern},
    tokenizer::{OffsetReferential, OffsetType, PreTokenizedString, SplitDelimiterBehavior},
};

use crate::error::{Result, TorchError};

/// Stands before every text.
const SPACE: &str = " ";

/// Trains a tokenizer on `texts`: special tokens first, then the 256 bytes, then every word that occurs, the most
/// frequent first.
///
/// A word carries the space before it, and a text is read as if a space stood before it: so a word is the same token
/// wherever it stands, and decoding takes that space away and gives the text back exactly. A word that never occurred
/// is spelled in bytes, so that any text can be encoded. The result is an ordinary byte-level BPE without merges
/// (`ignore_merges`, as in Llama 3; the space as in Llama 2): other tools load it.
///
/// # Errors
/// [`TorchError::Input`] with what the tokenizer library says.
pub fn train_word_tokenizer<'a>(texts: impl Iterator<Item = &'a str>, special_tokens: &[&str]) -> Result<Tokenizer> {
    let failed = |source: tokenizers::Error| TorchError::Input(format!("tokenizer: {source}"));
    let words = pre_tokenizer().map_err(failed)?;
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for text in texts {
        let mut pieces = PreTokenizedString::from(format!("{SPACE}{text}"));
        words.pre_tokenize(&mut pieces).map_err(failed)?;
        for (word, _, _) in pieces.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
    }
    let mut bytes: Vec<String> = ByteLevel::alphabet().into_iter().map(String::from).collect();
    bytes.sort_unstable();
    let mut frequent: Vec<(String, u64)> = counts.into_iter().filter(|(word, _)| word.chars().count() > 1).collect();
    frequent.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));

    let vocabulary = special_tokens
        .iter()
        .map(|token| (*token).to_owned())
        .chain(bytes)
        .chain(frequent.into_iter().map(|(word, _)| word))
        .zip(0u32..)
        .collect::<Vocab>();
    let model = BPE::builder().vocab_and_merges(vocabulary, Vec::new()).ignore_merges(true).build().map_err(failed)?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(Prepend::new(SPACE.to_owned()))).map_err(failed)?;
    tokenizer.with_pre_tokenizer(Some(words));
    tokenizer.with_decoder(Some(decoders::sequence::Sequence::new(vec![
        ByteLevel::new(false, true, false).into(),
        Strip::new(' ', 1, 0).into(),
    ])));
    let special: Vec<AddedToken> = special_tokens.iter().map(|token| AddedToken::from(*token, true)).collect();
    tokenizer.add_special_tokens(special).map_err(failed)?;
    Ok(tokenizer)
}

/// Words with the space before them; digits, punctuation and line breaks on their own.
fn pre_tokenizer() -> tokenizers::Result<PreTokenizerWrapper> {
    let split = Split::new(
        SplitPattern::Regex(r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\s".to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    )?;
    Ok(PreTokenizerWrapper::Sequence(tokenizers::pre_tokenizers::sequence::Sequence::new(vec![
        split.into(),
        ByteLevel::new(false, true, false).into(),
    ])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trained() -> Tokenizer {
        train_word_tokenizer(
            ["sort the list: cat dog", "the answer is dog cat . score 4"].into_iter(),
            &["<s>", "</s>"],
        )
        .unwrap()
    }

    #[test]
    fn words_are_one_token_each_and_decode_exactly() {
        let tokenizer = trained();
        let encoding = tokenizer.encode("sort the list: dog cat", false).unwrap();
        assert_eq!(encoding.get_tokens(), ["Ġsort", "Ġthe", "Ġlist", ":", "Ġdog", "Ġcat"]);
        assert_eq!(tokenizer.decode(encoding.get_ids(), true).unwrap(), "sort the list: dog cat");
    }

    #[test]
    fn unknown_words_are_spelled_in_bytes() {
        let tokenizer = trained();
        for text in ["zebra naïve 🦓\n\ttab", "cat\nscore 4", " cat", "\ncat", "  ", "4 5"] {
            let ids = tokenizer.encode(text, false).unwrap().get_ids().to_vec();
            assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
        }
    }

    #[test]
    fn special_tokens_come_first_and_are_recognised_in_text() {
        let tokenizer = trained();
        let ids = tokenizer.encode("<s>cat</s>", false).unwrap().get_ids().to_vec();
        assert_eq!((ids.first(), ids.last()), (Some(&0), Some(&1)));
    }

    #[test]
    fn the_same_texts_give_the_same_bytes() {
        assert_eq!(trained().to_string(false).unwrap(), trained().to_string(false).unwrap());
    }
}
