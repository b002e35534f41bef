//! From a text to the numbers of its tokens.

use std::fmt;

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use super::configuration::{BertConfiguration, read_json};
use super::error::BertError;
use crate::base::limits::BERT_WORD_CHARACTERS_MAX;

/// Tokens that stand at both ends of a text.
const ENDS: usize = 2;

/// Bytes of a text that are looked at first, for each token that it may have. English has four to five, most scripts
/// fewer; where it was not enough, more are looked at.
const BYTES_PER_TOKEN: usize = 16;

/// The tokenizer of a model: WordPiece behind the normalisation of BERT, as the model's `tokenizer.json` describes it.
/// Padding and truncation of the file are ignored: a text has as many tokens as the configuration admits.
///
/// ```
/// use ascribe::encoder::BertEncoder;
/// # let directory = std::path::Path::new("tests/fixtures/tiny-bert");
/// let encoder = BertEncoder::from_directory(directory)?;
/// assert_eq!(encoder.tokenizer().tokens("Red")?, [2, 7, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BertTokenizer {
    tokenizer: Tokenizer,
    first: u32,
    last: u32,
    tokens_max: usize,
}

impl BertTokenizer {
    /// Reads the bytes of a `tokenizer.json`, which is called `file` in messages.
    ///
    /// # Errors
    /// The file is damaged; works in another way than BERT's tokenizers; or is of another vocabulary than the model:
    /// a token's number has no row in the table of embeddings, or `[CLS]`, `[SEP]` or `[UNK]` is missing.
    pub fn open(bytes: &[u8], configuration: &BertConfiguration, file: &str) -> Result<Self, BertError> {
        let refused = |reason: String| BertError::Tokenizer { file: file.to_owned(), reason };
        let mut fields: Map<String, Value> = read_json(bytes, file)?;
        check_kinds(&mut fields, file)?;
        check_vocabulary(&fields, configuration.vocabulary_size).map_err(refused)?;
        let added = check_added_tokens(&fields, configuration.vocabulary_size).map_err(refused)?;
        let ends = read_ends(&fields).ok_or_else(|| refused(ENDS_REASON.to_owned()))?;
        // Only what is used and was checked reaches the library, which panics over some of the rest.
        fields.retain(|name, _| {
            ["version", "added_tokens", "normalizer", "pre_tokenizer", "model"].contains(&name.as_str())
        });
        let tokenizer: Tokenizer =
            serde_json::from_value(Value::Object(fields)).map_err(|error| refused(error.to_string()))?;
        for (content, id) in added {
            let found = tokenizer.token_to_id(&content);
            if found != Some(id) {
                return Err(refused(format!(
                    "added token {content:?} has number {id}, but is read as {found:?}"
                )));
            }
        }
        let number = |token: &str| {
            let missing =
                || refused(format!("token {token:?} is missing: it is the tokenizer of another model"));
            tokenizer.token_to_id(token).ok_or_else(missing)
        };
        let (first, last) = (number("[CLS]")?, number("[SEP]")?);
        if ends != (u64::from(first), u64::from(last)) {
            let reason =
                format!("it puts tokens {} and {} around a text instead of [CLS] and [SEP]", ends.0, ends.1);
            return Err(refused(reason));
        }
        Ok(Self { tokenizer, first, last, tokens_max: configuration.tokens_max })
    }

    /// That a `vocab.txt`, whose line i names token i, agrees.
    ///
    /// # Errors
    /// It names a token that is missing here, or has another number.
    pub fn check_word_list(&self, words: &[u8], file: &str) -> Result<(), BertError> {
        let refused = |reason: String| BertError::Tokenizer { file: file.to_owned(), reason };
        let words = str::from_utf8(words).map_err(|error| refused(format!("it is not UTF-8: {error}")))?;
        let lines = words.strip_suffix('\n').unwrap_or(words).split('\n');
        for (line, word) in lines.map(|word| word.strip_suffix('\r').unwrap_or(word)).enumerate() {
            let found = self.tokenizer.token_to_id(word);
            if found.map(|id| id as usize) != Some(line) {
                let found = found.map_or_else(|| "missing".to_owned(), |id| format!("number {id}"));
                return Err(refused(format!(
                    "token {word:?} has number {line}, but is {found} in tokenizer.json: one of them is of another vocabulary"
                )));
            }
        }
        Ok(())
    }

    /// The numbers of a text's tokens, at most as many as the configuration says, those at both ends included.
    ///
    /// # Errors
    /// The library refuses the text.
    ///
    /// # Complexity
    /// Linear in the bytes that are looked at: a small multiple of the number of tokens, unless a text has no spaces.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, String> {
        let room = self.tokens_max - ENDS;
        let mut length = room * BYTES_PER_TOKEN;
        let inner = loop {
            let part = up_to_space(text, length);
            let encoding = self.tokenizer.encode_fast(part, false).map_err(|error| error.to_string())?;
            if encoding.len() >= room || part.len() == text.len() {
                break encoding;
            }
            length = length.saturating_mul(4);
        };
        let mut tokens = Vec::with_capacity(inner.len().min(room) + ENDS);
        tokens.push(self.first);
        tokens.extend(inner.get_ids().iter().take(room));
        tokens.push(self.last);
        Ok(tokens)
    }
}

impl fmt::Debug for BertTokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BertTokenizer({} tokens a text)", self.tokens_max)
    }
}

/// `text` up to the first space from byte `length` on. Tokens never reach over a space, so that those of a part that
/// ends at one are the first of the whole.
fn up_to_space(text: &str, length: usize) -> &str {
    let start = text.floor_char_boundary(length);
    // Other kinds of space are removed instead, which joins what stands around them.
    let end = text[start..].find([' ', '\n', '\t', '\r']).map_or(text.len(), |at| start + at);
    &text[..end]
}

/// That each part of the tokenizer is of the kind that BERT has. Others can do anything, at any cost.
fn check_kinds(fields: &mut Map<String, Value>, file: &str) -> Result<(), BertError> {
    // Files of old versions leave out the kind of the model.
    if let Some(Value::Object(model)) = fields.get_mut("model")
        && !model.contains_key("type")
    {
        model.insert("type".to_owned(), Value::from("WordPiece"));
    }
    let kinds: [(&str, &[&str]); 4] = [
        ("model", &["WordPiece"]),
        ("normalizer", &["BertNormalizer"]),
        ("pre_tokenizer", &["BertPreTokenizer"]),
        ("post_processor", &["TemplateProcessing", "BertProcessing"]),
    ];
    for (field, accepted) in kinds {
        let found = fields.get(field).and_then(|part| part.get("type")).and_then(Value::as_str);
        if !found.is_some_and(|found| accepted.contains(&found)) {
            return Err(BertError::Unsupported {
                file: file.to_owned(),
                field: format!("the type of {field}"),
                found: found.map_or_else(|| "missing".to_owned(), |found| format!("{found:?}")),
                accepted: accepted.join(" and "),
            });
        }
    }
    Ok(())
}

/// That each token has a number of its own, and one that has a row in the table of embeddings.
fn check_vocabulary(fields: &Map<String, Value>, vocabulary_size: usize) -> Result<(), String> {
    let model = fields.get("model").and_then(Value::as_object);
    let field = |name: &str| model.and_then(|model| model.get(name));
    let vocabulary = field("vocab")
        .and_then(Value::as_object)
        .ok_or("model.vocab is no object of tokens and their numbers")?;
    let unknown = field("unk_token").and_then(Value::as_str).ok_or("model.unk_token is missing")?;
    if !vocabulary.contains_key(unknown) {
        return Err(format!("the token for unknown words, {unknown:?}, is missing in model.vocab"));
    }
    // What the library takes where it is left out.
    let longest = field("max_input_chars_per_word").map_or(Some(100), Value::as_u64);
    if !longest.is_some_and(|longest| (1..=BERT_WORD_CHARACTERS_MAX as u64).contains(&longest)) {
        return Err(format!("model.max_input_chars_per_word must be from 1 to {BERT_WORD_CHARACTERS_MAX}"));
    }
    let mut seen = vec![false; vocabulary_size];
    for (token, number) in vocabulary {
        let place = number.as_u64().and_then(|number| usize::try_from(number).ok());
        match place.and_then(|place| seen.get_mut(place)) {
            Some(place) if !*place => *place = true,
            Some(_) => return Err(format!("token {token:?} has number {number}, and so has another")),
            None => {
                return Err(format!(
                    "token {token:?} has number {number}, but the model has {vocabulary_size} tokens: it is the tokenizer \
                     of another model"
                ));
            }
        }
    }
    Ok(())
}

const ENDS_REASON: &str =
    "its post_processor does something else than to put one token before a text and one behind it";

/// The numbers of the tokens that the file puts before and behind a text, if that is all it does.
fn read_ends(fields: &Map<String, Value>) -> Option<(u64, u64)> {
    let processor = fields.get("post_processor")?;
    let number = |value: &Value| value.as_u64();
    if let (Some(first), Some(last)) = (processor.get("cls"), processor.get("sep")) {
        return Some((number(first.get(1)?)?, number(last.get(1)?)?));
    }
    let special = |piece: &Value| {
        let piece =
            piece.get("SpecialToken").filter(|piece| piece.get("type_id") == Some(&Value::from(0)))?;
        let token = processor.get("special_tokens")?.get(piece.get("id")?.as_str()?)?;
        match token.get("ids")?.as_array()?.as_slice() {
            [only] => number(only),
            _ => None,
        }
    };
    let [first, text, last] = processor.get("single")?.as_array()?.as_slice() else { return None };
    let text = text.get("Sequence")?;
    let whole = text.get("id") == Some(&Value::from("A")) && text.get("type_id") == Some(&Value::from(0));
    whole.then_some((special(first)?, special(last)?))
}

/// The added tokens with their numbers, each below `vocabulary_size`.
fn check_added_tokens(
    fields: &Map<String, Value>,
    vocabulary_size: usize,
) -> Result<Vec<(String, u32)>, String> {
    let list = match fields.get("added_tokens") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err("added_tokens is no list".to_owned()),
    };
    let read = |token: &Value| {
        let content =
            token.get("content").and_then(Value::as_str).ok_or("an added token lacks its content")?;
        let id = token.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        let id = id.filter(|id| (*id as usize) < vocabulary_size);
        let id = id.ok_or_else(|| {
            format!("the number of added token {content:?} is not below {vocabulary_size}: it is the tokenizer of another model")
        })?;
        // A text is cut at spaces, which no token may reach over.
        if content.is_empty() || content.contains(char::is_whitespace) {
            return Err(format!("added token {content:?} is empty or has a space"));
        }
        Ok((content.to_owned(), id))
    };
    list.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn configuration(tokens: usize) -> BertConfiguration {
        let json = json!({"model_type": "bert", "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1,
            "intermediate_size": 4, "vocab_size": 9, "max_position_embeddings": tokens});
        BertConfiguration::from_config_json(json.to_string().as_bytes(), "config.json").unwrap()
    }

    fn tokenizer(tokens: usize) -> BertTokenizer {
        let file = json!({"version": "1.0", "added_tokens": [],
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
            "model": {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "b": 4, "##a": 5, "##b": 6, "!": 7, "e": 8}}});
        BertTokenizer::open(file.to_string().as_bytes(), &configuration(tokens), "tokenizer.json").unwrap()
    }

    #[test]
    fn words_are_cut_into_pieces_between_the_ends() {
        let tokens = |text: &str| tokenizer(16).tokens(text).unwrap();
        assert_eq!(tokens("ab BA! é c"), [1, 3, 6, 4, 5, 7, 8, 0, 2]);
        assert_eq!(tokens(""), [1, 2]);
        assert_eq!(tokens(" \u{0}\u{200b}\n"), [1, 2]);
        assert_eq!(tokenizer(5).tokens("a b a b a").unwrap(), [1, 3, 4, 3, 2]);
        assert_eq!(tokenizer(3).tokens("abab").unwrap(), [1, 3, 2]);
    }

    /// Texts are looked at in growing parts: the tokens are those of the whole.
    #[test]
    fn parts_of_a_text_give_the_tokens_of_the_whole() {
        let tokenizer = tokenizer(8);
        let texts = [
            format!("{}ab a!b", " ".repeat(5000)),
            format!("a{}b a", "\u{b}".repeat(3000)),
            format!("{}\u{301}b é", "\u{0} ".repeat(700)),
            "ab".repeat(4000),
            format!("{} b", "é".repeat(200)),
            "a b ".repeat(1000),
            format!("a {}", "\t\n\r".repeat(1000)),
        ];
        for text in texts {
            let whole = tokenizer.tokenizer.encode(text.as_str(), false).unwrap();
            let expected: Vec<u32> =
                std::iter::once(1).chain(whole.get_ids().iter().copied().take(6)).chain([2]).collect();
            assert_eq!(tokenizer.tokens(&text).unwrap(), expected, "{:?}", &text[..20]);
        }
    }

    #[test]
    fn a_part_ends_before_a_space() {
        assert_eq!(up_to_space("ab cd ef", 0), "ab");
        assert_eq!(up_to_space("ab cd ef", 3), "ab cd");
        assert_eq!(up_to_space("ab cd ef", 2), "ab");
        assert_eq!(up_to_space("ab cd ef", 100), "ab cd ef");
        assert_eq!(up_to_space("aéb c", 2), "aéb");
        assert_eq!(up_to_space("a\u{b}b\tc", 1), "a\u{b}b");
        assert_eq!(up_to_space("", 5), "");
    }
}
