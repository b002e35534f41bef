//! The same vectors on a GPU, in every precision; without one, an error that says why.

use std::path::Path;

use ascribe::encoder::{BertEncoder, BertError, BertPrecision, Device, DeviceError, Encoder};

use crate::directories::{cosine, texts, tiny};
use crate::model::minilm;

fn vectors(encoder: &BertEncoder, texts: &[&str]) -> Vec<f32> {
    let mut vectors = vec![0.0; texts.len() * encoder.width()];
    encoder.encode(texts, &mut vectors).unwrap();
    vectors
}

/// Vectors of `texts` by the model in `directory` on the processor and on a GPU, in each precision.
fn check(directory: &Path, texts: &[&str]) {
    let open = || BertEncoder::from_directory(directory).unwrap();
    let expected = vectors(&open(), texts);
    for (precision, least) in
        [(BertPrecision::F32, 0.99999), (BertPrecision::F16, 0.999), (BertPrecision::Bf16, 0.999)]
    {
        let encoder = match open().on_device(Device::Cuda(0), precision) {
            Ok(encoder) => encoder,
            Err(error) => {
                assert!(matches!(error, BertError::Device(DeviceError::Unavailable { .. })), "{error}");
                let message = error.to_string();
                assert!(message.starts_with("device cuda:0 cannot be used: "), "{message}");
                assert!(message.contains("--device cpu"), "{message}");
                eprintln!("skipped: {message}");
                return;
            }
        };
        assert_eq!(encoder.fingerprint(), open().fingerprint());
        let found = vectors(&encoder, texts);
        let width = encoder.width();
        let cosines = found.chunks_exact(width).zip(expected.chunks_exact(width));
        let worst = cosines.map(|(found, expected)| cosine(found, expected)).fold(1.0, f64::min);
        eprintln!("{precision:?}: least cosine with the processor: {worst:.9}");
        assert!(worst >= least, "{precision:?}: {worst}");
    }
}

#[test]
fn every_precision_agrees_with_the_processor() {
    let texts = texts(&tiny());
    check(&tiny(), &texts.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn every_precision_agrees_with_the_processor_on_minilm() {
    let Some(directory) = minilm() else { return };
    check(
        &directory,
        &["a lithograph", "", "The red house stands by the river, and nobody lives in it any more."],
    );
}
