//! 200 texts through all-MiniLM-L6-v2: the tokens and vectors of PyTorch.

use ascribe::encoder::{BertEncoder, Device, Encoder};
use bytes::Bytes;

use crate::directories::{cosine, cut, fixtures, reference, texts};
use crate::model::minilm;

#[test]
fn tokens_and_vectors_are_those_of_the_reference() {
    let Some(directory) = minilm() else { return };
    let encoder = BertEncoder::from_directory(&directory).unwrap();
    let folder = fixtures().join("bert");
    let (texts, reference) = (texts(&folder), reference(&folder));
    let expected = cut(&reference["tokens"], &reference["token_counts"]);
    assert_eq!((texts.len(), expected.len(), encoder.width()), (200, 200, 384));
    let prepared: Vec<_> = texts.iter().map(|text| encoder.prepare(text).unwrap()).collect();
    for ((text, prepared), expected) in texts.iter().zip(&prepared).zip(&expected) {
        assert_eq!(prepared.as_tokens().unwrap(), expected, "{text:?}");
    }
    assert_eq!(expected.iter().map(Vec::len).max(), Some(256), "some texts are cut");

    let mut vectors = vec![0.0; texts.len() * 384];
    encoder.encode_prepared(&prepared, &mut vectors).unwrap();
    let least = vectors
        .chunks_exact(384)
        .zip(reference["embeddings"].chunks_exact(384))
        .zip(&texts)
        .map(|((found, expected), text)| (cosine(found, expected), text))
        .min_by(|left, right| left.0.total_cmp(&right.0))
        .unwrap();
    eprintln!("least cosine with PyTorch over 200 texts: {:.9}", least.0);
    assert!(least.0 >= 0.9999, "{least:?}");
    for vector in vectors.chunks_exact(384) {
        let norm: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
        assert!((norm - 1.0).abs() < 1e-5, "{norm}");
    }
}

#[test]
fn the_state_gives_the_same_encoder() {
    let Some(directory) = minilm() else { return };
    let encoder = BertEncoder::from_directory(&directory).unwrap();
    let state = Bytes::from(encoder.state().unwrap().concat());
    let read = BertEncoder::from_state(state, Device::Cpu).unwrap();
    assert_eq!((read.fingerprint(), read.name()), (encoder.fingerprint(), "bert:384".to_owned()));
    let [mut left, mut right] = [(); 2].map(|()| vec![0.0; 384]);
    encoder.encode(&["a lithograph"], &mut left).unwrap();
    read.encode(&["a lithograph"], &mut right).unwrap();
    assert_eq!(left, right);
}
