//! The plain map that a store must agree with, and brute force over it.

use std::collections::BTreeMap;

use ascribe::base::{Fingerprint, RandomStream};
use ascribe::encoder::{EncodeError, Encoder};

/// Width of both columns.
pub(crate) const WIDTH: usize = 3;

/// An encoder whose vectors are small whole numbers, so that scores are exact and tie often.
#[derive(Debug)]
pub(crate) struct LetterEncoder;

impl LetterEncoder {
    pub(crate) fn vector(text: &str) -> [f32; WIDTH] {
        let count = |letter: char| text.chars().filter(|each| *each == letter).count() as f32;
        [count('a') - count('b'), count('c') - 1.0, count('d') - count('a')]
    }
}

impl Encoder for LetterEncoder {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(b"letters")
    }

    fn name(&self) -> String {
        "letters".to_owned()
    }

    fn width(&self) -> usize {
        WIDTH
    }

    fn takes_text(&self) -> bool {
        true
    }

    fn encode(&self, texts: &[&str], out: &mut [f32]) -> Result<(), EncodeError> {
        for (text, vector) in texts.iter().zip(out.chunks_mut(WIDTH)) {
            vector.copy_from_slice(&Self::vector(text));
        }
        Ok(())
    }
}

/// A row as the model knows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModelRow {
    pub text: String,
    pub vector: [f32; WIDTH],
    pub year: Option<i64>,
    pub note: String,
}

impl ModelRow {
    pub(crate) fn random(random: &mut RandomStream) -> Self {
        let letters: Vec<char> = "abcd ".chars().collect();
        let text = (0..1 + random.below(6)).map(|_| letters[random.below(5) as usize]).collect();
        let vector = [(); WIDTH].map(|()| random.below(9) as f32 - 4.0);
        let year = (random.below(5) > 0).then(|| 1990 + random.below(10) as i64);
        Self { text, vector, year, note: format!("note {}", random.below(100)) }
    }

    pub(crate) fn json(&self, key: &str) -> String {
        let mut line = serde_json::json!({
            "id": key, "body": self.text, "vec": self.vector, "note": self.note, "late": self.vector[0] as i64
        });
        if let Some(year) = self.year {
            line["year"] = year.into();
        }
        line.to_string() + "\n"
    }
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    pub rows: BTreeMap<String, ModelRow>,
    /// Whether the field `late` is declared.
    pub has_late_field: bool,
    /// Names of further columns, filled from the texts.
    pub extra_columns: Vec<String>,
}

/// Which column a question goes to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Column {
    Vectors,
    Letters,
    Extra(String),
}

impl Column {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Vectors => "ready",
            Self::Letters => "letters",
            Self::Extra(name) => name,
        }
    }

    fn vector(&self, row: &ModelRow) -> [f32; WIDTH] {
        match self {
            Self::Vectors => row.vector,
            Self::Letters | Self::Extra(_) => LetterEncoder::vector(&row.text),
        }
    }
}

/// One end of an answer: keys with scores and percentiles.
pub(crate) type End = Vec<(String, f64, f64)>;

impl Model {
    /// Brute force: both ends of a question, over the rows that pass `filter`, with percentiles over all rows.
    pub(crate) fn answer(
        &self,
        column: &Column,
        query: &[f32; WIDTH],
        k: usize,
        filter: impl Fn(&ModelRow) -> bool,
    ) -> (End, End) {
        let score = |row: &ModelRow| -> f64 {
            column.vector(row).iter().zip(query).map(|(x, q)| f64::from(*x) * f64::from(*q)).sum()
        };
        let all: Vec<f64> = self.rows.values().map(score).collect();
        let percentile = |score: f64| {
            let lower = all.iter().filter(|other| **other < score).count() as f64;
            let equal = all.iter().filter(|other| **other == score).count() as f64;
            100.0 * (lower + 0.5 * equal) / all.len() as f64
        };
        // A map's rows come by key, and a stable sort keeps that order where scores are equal.
        let chosen: Vec<(&String, f64)> =
            self.rows.iter().filter(|(_, row)| filter(row)).map(|(key, row)| (key, score(row))).collect();
        let end = |sign: f64| {
            let mut rows: Vec<&(&String, f64)> = chosen.iter().filter(|row| sign * row.1 > 0.0).collect();
            rows.sort_by(|left, right| (sign * right.1).total_cmp(&(sign * left.1)));
            rows.iter().take(k).map(|row| (row.0.clone(), row.1, percentile(row.1))).collect()
        };
        (end(1.0), end(-1.0))
    }
}
