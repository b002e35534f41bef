//! Rows with features and labels.

use super::error::TrainingError;
use crate::encoder::{HeadConfiguration, HeadError};

/// Rows with features and labels, checked once.
///
/// ```
/// use ascribe::training::LabelledRows;
/// let classes = ["no", "yes"].map(str::to_owned);
/// let rows = LabelledRows::new(&[0.5, 1.0, -0.5, 2.0], 2, &[1, 0], &classes)?;
/// assert_eq!((rows.len(), rows.row(1)), (2, [-0.5, 2.0].as_slice()));
/// assert!(LabelledRows::new(&[0.5, f32::NAN], 2, &[1], &classes).is_err());
/// # Ok::<(), ascribe::training::TrainingError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LabelledRows<'a> {
    features: &'a [f32],
    width: usize,
    labels: &'a [u32],
    classes: &'a [String],
}

impl<'a> LabelledRows<'a> {
    /// Rows of `width` features, [rows, width], and the class of each, counted from 0. `classes` are the label texts, sorted,
    /// none twice; there may be some that no row has.
    ///
    /// # Errors
    /// Lengths do not fit, a label is no class, classes are not sorted or fewer than 2, or a feature is not finite.
    ///
    /// # Complexity
    /// Looks at every value once.
    pub fn new(
        features: &'a [f32],
        width: usize,
        labels: &'a [u32],
        classes: &'a [String],
    ) -> Result<Self, TrainingError> {
        HeadConfiguration::default().shapes(width, classes.len())?;
        if !features.len().is_multiple_of(width) {
            return Err(HeadError::Features { values: features.len(), width }.into());
        }
        let rows = features.len() / width;
        if labels.len() != rows {
            return Err(HeadError::Labels { labels: labels.len(), rows }.into());
        }
        if let Some((row, label)) =
            labels.iter().enumerate().find(|(_, label)| **label as usize >= classes.len())
        {
            return Err(HeadError::Label { row, label: *label, classes: classes.len() }.into());
        }
        let unsorted = classes.iter().zip(classes.iter().skip(1)).position(|(first, second)| first >= second);
        if let Some(number) = unsorted {
            let class = classes.get(number + 1).cloned().unwrap_or_default();
            return Err(HeadError::ClassOrder { number: number + 1, class }.into());
        }
        match features.iter().position(|value| !value.is_finite()) {
            Some(place) => Err(TrainingError::FeatureNotFinite { row: place / width, column: place % width }),
            None => Ok(Self { features, width, labels, classes }),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Features of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All features, [rows, width].
    pub fn features(&self) -> &'a [f32] {
        self.features
    }

    /// The class of each row.
    pub fn labels(&self) -> &'a [u32] {
        self.labels
    }

    /// The label texts, sorted.
    pub fn classes(&self) -> &'a [String] {
        self.classes
    }

    /// The features of one row; none of a row that does not exist.
    pub fn row(&self, row: usize) -> &'a [f32] {
        self.features.chunks_exact(self.width).nth(row).unwrap_or_default()
    }

    /// The class of one row.
    pub(super) fn label(&self, row: usize) -> u32 {
        self.labels.get(row).copied().unwrap_or_default()
    }
}
