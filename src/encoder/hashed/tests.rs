//! What the encoder promises, and its recorded values.

use proptest::prelude::*;

use super::super::{EncodeError, Encoder};
use super::{HashedEncoder, HashedEncoderError};
use crate::base::checksum;

const WIDTH: usize = 256;

const SENTENCES: [&str; 5] = [
    "Lithograph on paper by David Hockney",
    "Etching on paper by Lucian Freud",
    "Oil paint on canvas, 1994",
    "Zwei Häuser in Köln",
    "東京の夜景 on paper",
];

fn fitted(width: usize) -> HashedEncoder {
    HashedEncoder::fit(width, SENTENCES.into_iter()).unwrap()
}

fn encode(encoder: &HashedEncoder, text: &str) -> Vec<f32> {
    let mut out = vec![f32::NAN; encoder.width()];
    encoder.encode(&[text], &mut out).unwrap();
    out
}

fn cosine(encoder: &HashedEncoder, left: &str, right: &str) -> f64 {
    let (left, right) = (encode(encoder, left), encode(encoder, right));
    left.iter().zip(&right).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Recorded; a change here is another encoder, and needs another version in `to_bytes`.
#[test]
fn values_and_fingerprint_are_as_recorded() {
    let encoder = fitted(WIDTH);
    assert_eq!(
        encoder.fingerprint().to_string(),
        "6d03084b85cdfc79a264b01d84598b5ae9ea1c9e5bab0df6de19a8f0a41f30d3"
    );
    assert_eq!(encoder.to_bytes().len(), 208);
    // The first three values that are not 0, and the checksum of all.
    let recorded = [
        (SENTENCES[0], [0xbce2_9bd7, 0xbc62_9bd7, 0x3d62_9bd7_u32], 0xb411_1a5f_08db_d76e),
        (
            "Ein Haus, zwei Häuser, drei Häuser",
            [0xbd34_f59d, 0xbd19_320a, 0xbc92_01f4],
            0xefe9_f522_4d55_66a3,
        ),
        ("夜景", [0x3eae_ff7d, 0x3d8b_ff97, 0xbeae_ff7d], 0xd325_5459_4205_4e85_u64),
    ];
    for (text, first, all) in recorded {
        let vector = encode(&encoder, text);
        let found = vector.iter().filter(|value| **value != 0.0).map(|value| value.to_bits());
        assert_eq!(found.take(3).collect::<Vec<_>>(), first, "{text}");
        let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(checksum(&bytes), all, "{text} {:#x}", checksum(&bytes));
    }
}

#[test]
fn a_text_alone_and_in_any_batch_gives_the_same_vector() {
    let encoder = fitted(WIDTH);
    let texts = [SENTENCES[0], "", "a", SENTENCES[4], SENTENCES[0], "a a a b"];
    let mut together = vec![f32::NAN; texts.len() * WIDTH];
    encoder.encode(&texts, &mut together).unwrap();
    for (text, vector) in texts.iter().zip(together.chunks_exact(WIDTH)) {
        assert_eq!(encode(&encoder, text), vector, "{text}");
    }
}

#[test]
fn what_is_not_a_letter_or_digit_gives_zero() {
    let encoder = fitted(WIDTH);
    for text in ["", " ", "!?., -", "\u{301}", "😀", "\0\n\t"] {
        assert_eq!(encode(&encoder, text), [0.0; WIDTH], "{text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_text_with_a_letter_or_digit_has_norm_one(text in any::<String>(), width in 8..300_usize, letter in any::<char>()) {
        let encoder = fitted(width);
        let text = format!("{text}{letter}");
        let vector = encode(&encoder, &text);
        let norm: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
        if text.chars().any(char::is_alphanumeric) {
            prop_assert!((norm - 1.0).abs() < 1e-5, "{norm}");
        } else {
            prop_assert_eq!(norm, 0.0);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), at in 0..24_usize) {
        prop_assert!(HashedEncoder::from_bytes(&bytes).is_err());
        let mut header = fitted(8).to_bytes();
        header.truncate(at);
        header.extend(bytes);
        let _ = HashedEncoder::from_bytes(&header);
    }
}

#[test]
fn capitals_and_separate_accents_do_not_matter() {
    let encoder = fitted(WIDTH);
    for (left, right) in
        [("HOCKNEY", "hockney"), ("ÄPFEL", "äpfel"), ("İstanbul", "istanbul"), ("e\u{301}t", "et")]
    {
        assert_eq!(encode(&encoder, left), encode(&encoder, right), "{left}");
    }
    assert_eq!(encode(&encoder, "oil, paint; on: canvas"), encode(&encoder, "  oil paint on canvas!"));
}

#[test]
fn shared_words_order_and_spelling_raise_the_cosine() {
    let encoder = fitted(1024);
    let ordered = [
        ("David Hockney", "Hockney, David (lithograph)"),
        ("David Hockney", "David Hockny"),
        ("David Hockney", "Tracey Emin"),
    ];
    let cosines = ordered.map(|(left, right)| cosine(&encoder, left, right));
    assert!(cosines[0] > cosines[1] && cosines[1] > cosines[2] + 0.1, "{cosines:?}");
    assert!(
        cosine(&encoder, "red house blue", "red house") > cosine(&encoder, "red blue house", "red house")
    );
    assert!(
        cosine(&encoder, "東京都の夜景", "東京タワー") > 0.15,
        "{}",
        cosine(&encoder, "東京都の夜景", "東京タワー")
    );
    assert!(cosine(&encoder, "東京都の夜景", "大阪タワー").abs() < 0.1);
}

#[test]
fn rare_words_weigh_more_than_common_ones() {
    let documents: Vec<String> = (0..50).map(|number| format!("paper number{}", number / 2)).collect();
    let encoder = HashedEncoder::fit(1024, documents.iter().map(String::as_str)).unwrap();
    let rare = cosine(&encoder, "paper number3", "number3");
    let common = cosine(&encoder, "paper number3", "paper");
    assert!(rare > common + 0.3, "{rare} {common}");
}

#[test]
fn repeating_a_word_helps_less_and_less() {
    let encoder = fitted(1024);
    let once = cosine(&encoder, "oil house", "oil");
    let four = cosine(&encoder, "oil house oil oil oil", "oil");
    let many = cosine(&encoder, &format!("house {}", "oil ".repeat(400)), "oil");
    assert!(once + 0.1 < four && four < many && many < 0.99, "{once} {four} {many}");
}

#[test]
fn bytes_read_back_to_the_same_encoder() {
    let encoder = fitted(100);
    let read = HashedEncoder::from_bytes(&encoder.to_bytes()).unwrap();
    assert_eq!(read.to_bytes(), encoder.to_bytes());
    assert_eq!(
        (read.fingerprint(), read.name(), read.documents()),
        (encoder.fingerprint(), "hashed:100".into(), 5)
    );
    assert_eq!(encode(&read, SENTENCES[1]), encode(&encoder, SENTENCES[1]));
    let reversed = HashedEncoder::fit(100, SENTENCES.into_iter().rev()).unwrap();
    assert_eq!(reversed.fingerprint(), encoder.fingerprint());
    assert_ne!(fitted(101).fingerprint(), encoder.fingerprint());
}

#[test]
fn the_bytes_are_as_the_table_says() {
    // Two documents share "a" alone: one word and one n-gram, "<a>".
    let encoder = HashedEncoder::fit(8, ["a", "a b"].into_iter()).unwrap();
    let bytes = encoder.to_bytes();
    let words: Vec<u32> =
        bytes[8..].chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(&bytes[..8], b"ASCRHASH");
    assert_eq!((&words[..4], words.len()), (&[1, 8, 2, 2][..], 8));
    assert!(words[4] < words[6] && words[6] < 1 << 20);
    assert_eq!((words[5], words[7]), (2, 2));
}

#[test]
fn damaged_bytes_are_refused() {
    let bytes = fitted(64).to_bytes();
    for length in 0..bytes.len() {
        assert!(HashedEncoder::from_bytes(&bytes[..length]).is_err(), "{length}");
    }
    let changed = |offset: usize, value: u32| {
        let mut bytes = bytes.clone();
        bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        HashedEncoder::from_bytes(&bytes).unwrap_err()
    };
    let value = |offset: usize| u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap());
    assert!(matches!(changed(0, 0), HashedEncoderError::Magic { .. }));
    assert_eq!(changed(8, 2), HashedEncoderError::Version { found: 2 });
    for width in [0, 7, 4097, u32::MAX] {
        assert_eq!(changed(12, width), HashedEncoderError::Width { width: width as usize });
    }
    for entries in [0, value(20) - 1, value(20) + 1, u32::MAX] {
        assert!(matches!(changed(20, entries), HashedEncoderError::Length { .. }));
    }
    let wrong_entries = [(16, 1), (32, value(24)), (24, value(32)), (24, 1 << 20), (28, 0), (28, 1), (28, 6)];
    for (offset, value) in wrong_entries {
        assert!(matches!(changed(offset, value), HashedEncoderError::Entry { .. }), "{offset} {value}");
    }
    let long = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(HashedEncoder::from_bytes(&long), Err(HashedEncoderError::Length { .. })));
}

#[test]
fn every_changed_byte_gives_an_error_or_another_fingerprint() {
    let encoder = fitted(64);
    let mut bytes = encoder.to_bytes();
    for at in 0..bytes.len() {
        bytes[at] ^= 0x11;
        if let Ok(read) = HashedEncoder::from_bytes(&bytes) {
            assert_ne!(read.fingerprint(), encoder.fingerprint(), "{at}");
        }
        bytes[at] ^= 0x11;
    }
}

#[test]
fn wrong_widths_outputs_and_missing_documents_are_errors() {
    for width in [0, 7, 4097, usize::MAX] {
        assert_eq!(
            HashedEncoder::fit(width, SENTENCES.into_iter()).unwrap_err(),
            HashedEncoderError::Width { width }
        );
    }
    for length in [0, 15, 17] {
        let error = fitted(8).encode(&["a", "b"], &mut vec![0.0; length]).unwrap_err();
        assert!(matches!(error, EncodeError::OutputLength { texts: 2, needed: 16, .. }), "{error}");
    }
    let unfitted = HashedEncoder::fit(8, std::iter::empty()).unwrap();
    assert!(matches!(unfitted.encode(&["a"], &mut [0.0; 8]), Err(EncodeError::NotFitted { .. })));
    assert!(HashedEncoder::from_bytes(&unfitted.to_bytes()).is_ok());
    let empty = HashedEncoder::fit(8, [""].into_iter()).unwrap();
    assert_ne!(encode(&empty, "a"), [0.0; 8]);
}
