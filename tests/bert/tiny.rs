//! Vectors and gradients of a model of two layers: those of PyTorch.

use std::collections::BTreeMap;

use ascribe::encoder::{BertBatch, BertEncoder, BertModel, BertTrained, Encoder};
use candle_core::{DType, Device, Tensor};

use crate::directories::{cut, reference, texts, tiny};

/// Largest difference, relative to the largest value expected.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let off = found.iter().zip(expected).fold(0.0_f32, |off, (left, right)| off.max((left - right).abs()));
    off / largest
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn encoder() -> BertEncoder {
    BertEncoder::from_directory(&tiny()).unwrap()
}

/// The reference's texts as one batch, padded to the longest.
fn batch(reference: &BTreeMap<String, Vec<f32>>) -> BertBatch {
    let counts = &reference["token_counts"];
    let length = reference["tokens"].len() / counts.len();
    let padded = cut(&reference["tokens"], &vec![length as f32; counts.len()]);
    let tokens: Vec<&[u32]> =
        padded.iter().zip(counts).map(|(text, count)| &text[..*count as usize]).collect();
    BertBatch::new(&tokens, &Device::Cpu).unwrap()
}

fn trainable(trained: BertTrained) -> (BertModel, Vec<(String, candle_core::Var)>) {
    let encoder = encoder();
    BertModel::trainable(encoder.configuration(), encoder.weights(), &Device::Cpu, trained).unwrap()
}

/// Sum over the batch of the dot product of each vector and fixed weights.
fn loss(model: &BertModel, reference: &BTreeMap<String, Vec<f32>>) -> Tensor {
    let vectors = model.forward(&batch(reference)).unwrap();
    let weights = Tensor::from_slice(&reference["loss_weights"], vectors.shape(), &Device::Cpu).unwrap();
    (vectors * weights).unwrap().sum_all().unwrap()
}

#[test]
fn vectors_are_those_of_the_reference_alone_and_together() {
    let (encoder, reference, texts) = (encoder(), reference(&tiny()), texts(&tiny()));
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let width = encoder.width();
    let mut together = vec![0.0; texts.len() * width];
    encoder.encode(&texts, &mut together).unwrap();
    assert!(difference(&together, &reference["embeddings"]) < 1e-5);
    for (text, expected) in texts.iter().zip(reference["embeddings"].chunks_exact(width)) {
        let mut alone = vec![0.0; width];
        encoder.encode(&[text], &mut alone).unwrap();
        assert!(difference(&alone, expected) < 1e-5, "{text}");
    }
}

#[test]
fn every_variable_has_the_gradient_of_the_reference() {
    let reference = reference(&tiny());
    let (model, variables) = trainable(BertTrained::All);
    let expected = reference.keys().filter(|name| name.starts_with("gradient.")).count();
    assert_eq!(variables.len(), expected);
    for (form, model) in [("fused", model.clone()), ("composed", model.composed())] {
        let gradients = loss(&model, &reference).backward().unwrap();
        let mut worst = (0.0, String::new());
        for (name, variable) in &variables {
            let gradient =
                gradients.get(variable).unwrap_or_else(|| panic!("{form}: {name} has no gradient"));
            let expected = &reference[&format!("gradient.{name}")];
            let off = if name.ends_with("self.key.bias") {
                // It shifts all scores of a row alike: its gradient is 0 but for rounding.
                let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                assert!(largest < 1e-5, "{name}");
                flat(gradient).iter().fold(0.0_f32, |off, value| off.max(value.abs()))
            } else {
                difference(&flat(gradient), expected)
            };
            if off > worst.0 {
                worst = (off, name.clone());
            }
        }
        eprintln!("{form}: largest relative difference of a gradient: {worst:?}");
        assert!(worst.0 < 1e-5, "{form}: {worst:?}");
    }
}

#[test]
fn only_what_was_chosen_trains() {
    let reference = reference(&tiny());
    let names = |trained| {
        let (model, variables) = trainable(trained);
        let gradients = loss(&model, &reference).backward().unwrap();
        for (name, variable) in &variables {
            assert!(gradients.get(variable).is_some(), "{trained:?}: {name} has no gradient");
        }
        let mut names: Vec<String> = variables.into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    };
    assert_eq!(names(BertTrained::Projector), ["projector.bias", "projector.weight"]);
    let last = names(BertTrained::LastLayers(1));
    assert_eq!(last.len(), 18);
    assert!(last.iter().all(|name| name.starts_with("encoder.layer.1.") || name.starts_with("projector.")));
    assert_eq!(names(BertTrained::LastLayers(9)).len(), 34);
    let all = names(BertTrained::All);
    let mut but_words = names(BertTrained::AllButWords);
    but_words.push("embeddings.word_embeddings.weight".to_owned());
    but_words.sort();
    assert_eq!(all, but_words);
}

#[test]
fn inference_and_training_forms_agree() {
    let (encoder, reference) = (encoder(), reference(&tiny()));
    let fixed =
        BertModel::fixed(encoder.configuration(), encoder.weights(), &Device::Cpu, DType::F32).unwrap();
    let (trained, _) = trainable(BertTrained::All);
    let (partly, _) = trainable(BertTrained::LastLayers(1));
    let batch = batch(&reference);
    let expected = flat(&fixed.forward(&batch).unwrap());
    for model in [fixed.composed(), trained.composed(), trained, partly] {
        let found = flat(&model.forward(&batch).unwrap());
        assert!(difference(&found, &expected) < 1e-5);
        assert!(difference(&found, &reference["embeddings"]) < 1e-5);
    }
}

#[test]
fn a_variable_that_changes_changes_the_model() {
    let reference = reference(&tiny());
    let (model, variables) = trainable(BertTrained::All);
    let batch = batch(&reference);
    let before = flat(&model.forward(&batch).unwrap());
    for (name, variable) in &variables {
        // Padding is never looked at, the second segment never used: one value of each row that counts.
        let saved = variable.as_tensor().copy().unwrap();
        variable.set(&saved.affine(1.0, 0.5).unwrap().sin().unwrap()).unwrap();
        let after = flat(&model.forward(&batch).unwrap());
        if !name.ends_with("self.key.bias") {
            assert!(difference(&after, &before) > 1e-4, "{name}");
        }
        variable.set(&saved).unwrap();
    }
    assert_eq!(flat(&model.forward(&batch).unwrap()), before);
}

#[test]
fn half_precision_agrees_roughly() {
    let (encoder, reference) = (encoder(), reference(&tiny()));
    let batch = batch(&reference);
    for precision in [DType::F16, DType::BF16] {
        let model = BertModel::fixed(encoder.configuration(), encoder.weights(), &Device::Cpu, precision);
        // The processor has no products of bf16.
        let Ok(found) = model.and_then(|model| model.forward(&batch)) else {
            assert_eq!(precision, DType::BF16);
            continue;
        };
        assert!(difference(&flat(&found), &reference["embeddings"]) < 0.02, "{precision:?}");
    }
}
