//! The head: its classes, its layers and what it says of rows.

use std::fmt;

use super::affine::head_affine;
use super::configuration::{HeadConfiguration, HeadShape};
use super::error::HeadError;
use super::likelihood::{Exponentials, loss_of, margin_of};

/// A classifier on embeddings: logistic regression, or a network with one hidden layer,
///
/// ```text
/// logits(x) = W2 max(0, W0 x + b0) + b2
/// ```
///
/// Every answer for a row depends on that row alone and has the same bits on every machine, with any number of threads.
///
/// ```
/// use ascribe::encoder::{Head, HeadConfiguration};
/// let logistic = HeadConfiguration { hidden: None, ..HeadConfiguration::default() };
/// let classes = ["no", "yes"].map(str::to_owned).to_vec();
/// // The logit of "no" is 0, that of "yes" is 60 x.
/// let head = Head::new(classes, logistic, 1, vec![vec![0.0, 0.0, 60.0, 0.0]])?;
/// assert_eq!(head.logits(&[1.0, 0.0])?, [0.0, 60.0, 0.0, 0.0]);
/// assert_eq!(head.margin(&[1.0, 0.0], &[1, 1])?, [60.0, 0.0]);
/// // 1 - p of the first row's label is far below what 1 - p in floating point can give.
/// assert!((head.own(&[1.0], &[1])?[0] / 8.756_511e-27 - 1.0).abs() < 1e-6);
/// # Ok::<(), ascribe::encoder::HeadError>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Head {
    classes: Vec<String>,
    configuration: HeadConfiguration,
    modules: Vec<HeadModule>,
}

/// One linear layer of a head.
#[derive(Clone, PartialEq)]
pub struct HeadModule {
    shape: HeadShape,
    weights: Vec<f32>,
}

impl HeadModule {
    /// Name and sizes.
    pub fn shape(&self) -> HeadShape {
        self.shape
    }

    /// The weights, [outputs, inputs + 1], row by row; the last of each row is the bias.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// W x + b of each row, [rows, outputs].
    fn apply(&self, values: &[f32]) -> Result<Vec<f32>, HeadError> {
        Ok(head_affine(values, &self.weights, self.shape.inputs, self.shape.outputs)?)
    }
}

/// What is computed on the way to the logits.
pub(super) struct Forward {
    /// Hidden units after max(0, .), [rows, hidden]; empty of logistic regression.
    pub(super) hidden: Vec<f32>,
    /// [rows, classes].
    pub(super) logits: Vec<f32>,
}

impl Head {
    /// A head of these weights, for each layer [outputs, inputs + 1] with the bias as the last input: the layers that
    /// `configuration` calls for on `width` features. `classes` are the labels, sorted, none twice.
    ///
    /// # Errors
    /// A number is out of its range, classes are not sorted, or weights have another number of values or one that is not
    /// finite.
    pub fn new(
        classes: Vec<String>,
        configuration: HeadConfiguration,
        width: usize,
        weights: Vec<Vec<f32>>,
    ) -> Result<Self, HeadError> {
        let shapes = configuration.shapes(width, classes.len())?;
        check_classes(&classes)?;
        if weights.len() != shapes.len() {
            let (found, expected) = (weights.len(), shapes.len());
            return Err(HeadError::Number {
                field: "number of layers",
                found: found.to_string(),
                accepted: expected.to_string(),
            });
        }
        let modules = shapes.into_iter().zip(weights).map(|(shape, weights)| {
            let module = shape.name.to_owned();
            if weights.len() != shape.weights() {
                let (found, expected) = (weights.len(), shape.weights());
                return Err(HeadError::Weights { module, found, expected });
            }
            match weights.iter().position(|weight| !weight.is_finite()) {
                Some(index) => Err(HeadError::WeightNotFinite { module, index }),
                None => Ok(HeadModule { shape, weights }),
            }
        });
        let modules = modules.collect::<Result<_, _>>()?;
        Ok(Self { classes, configuration, modules })
    }

    /// The labels, sorted; class i is `classes()[i]`.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Number of the class of this label, if it is one.
    ///
    /// # Complexity
    /// O(log classes) comparisons.
    pub fn class_of(&self, label: &str) -> Option<u32> {
        self.classes.binary_search_by(|class| class.as_str().cmp(label)).ok().map(|class| class as u32)
    }

    /// What the head computes, and how it was trained.
    pub fn configuration(&self) -> &HeadConfiguration {
        &self.configuration
    }

    /// The layers, in the order in which a row passes them.
    pub fn modules(&self) -> &[HeadModule] {
        &self.modules
    }

    /// Features of a row.
    pub fn width(&self) -> usize {
        self.modules.first().map_or(0, |module| module.shape.inputs)
    }

    /// Logit of each class for each row of `features`, [rows, width]: [rows, classes].
    ///
    /// # Errors
    /// `features` are no whole rows.
    ///
    /// # Complexity
    /// O(rows x weights).
    pub fn logits(&self, features: &[f32]) -> Result<Vec<f32>, HeadError> {
        Ok(self.forward(features)?.logits)
    }

    /// Probability of each class for each row, [rows, classes].
    ///
    /// # Errors
    /// As [`logits`](Self::logits), or an answer is not finite.
    pub fn probabilities(&self, features: &[f32]) -> Result<Vec<f32>, HeadError> {
        let logits = self.logits(features)?;
        let mut probabilities = Vec::with_capacity(logits.len());
        for (row, logits) in logits.chunks_exact(self.classes.len()).enumerate() {
            probabilities
                .extend(Exponentials::of(logits, row)?.probabilities().map(|probability| probability as f32));
        }
        Ok(probabilities)
    }

    /// Probability of each row's label.
    ///
    /// # Errors
    /// `features` and `labels` are not of one number of rows, a label is no class, or an answer is not finite.
    pub fn label_probabilities(&self, features: &[f32], labels: &[u32]) -> Result<Vec<f32>, HeadError> {
        self.of_rows(features, labels, |row, logits, class| {
            Ok(Exponentials::of(logits, row)?.probability(class) as f32)
        })
    }

    /// 1 - p of each row's label, as the sum of the probabilities of the other classes: right to f32 precision down to
    /// 1e-37, where 1 - p in floating point ends at 1e-7.
    ///
    /// # Errors
    /// As [`label_probabilities`](Self::label_probabilities).
    pub fn own(&self, features: &[f32], labels: &[u32]) -> Result<Vec<f32>, HeadError> {
        self.of_rows(features, labels, |row, logits, class| {
            Ok(Exponentials::of(logits, row)?.others(class) as f32)
        })
    }

    /// log p - log(1 - p) of each row's label, without cancellation; higher is better.
    ///
    /// # Errors
    /// As [`label_probabilities`](Self::label_probabilities).
    ///
    /// # References
    /// Park, Georgiev, Ilyas, Leclerc, Madry: TRAK, arXiv 2303.14186, section 3.1 (the model output function).
    pub fn margin(&self, features: &[f32], labels: &[u32]) -> Result<Vec<f64>, HeadError> {
        self.of_rows(features, labels, |row, logits, class| finite_margin(logits, class, row))
    }

    /// Cross-entropy -log p of each row's label.
    ///
    /// # Errors
    /// As [`label_probabilities`](Self::label_probabilities).
    pub fn loss(&self, features: &[f32], labels: &[u32]) -> Result<Vec<f64>, HeadError> {
        self.of_rows(features, labels, |row, logits, class| finite_margin(logits, class, row).map(loss_of))
    }

    pub(super) fn forward(&self, features: &[f32]) -> Result<Forward, HeadError> {
        let width = self.width();
        if width == 0 || !features.len().is_multiple_of(width) {
            return Err(HeadError::Features { values: features.len(), width });
        }
        let mut forward = Forward { hidden: Vec::new(), logits: Vec::new() };
        for (number, module) in self.modules.iter().enumerate() {
            if number == 0 {
                forward.logits = module.apply(features)?;
                continue;
            }
            forward.hidden = std::mem::take(&mut forward.logits);
            // What is NaN stays NaN, and is found in the logits.
            forward.hidden.iter_mut().filter(|value| **value < 0.0).for_each(|value| *value = 0.0);
            forward.logits = module.apply(&forward.hidden)?;
        }
        Ok(forward)
    }

    /// Whether there is one label for each of `rows` rows, each a class.
    pub(super) fn check_labels(&self, rows: usize, labels: &[u32]) -> Result<(), HeadError> {
        if rows != labels.len() {
            return Err(HeadError::Labels { labels: labels.len(), rows });
        }
        let classes = self.classes.len();
        match labels.iter().enumerate().find(|(_, label)| **label as usize >= classes) {
            Some((row, label)) => Err(HeadError::Label { row, label: *label, classes }),
            None => Ok(()),
        }
    }

    fn of_rows<T>(
        &self,
        features: &[f32],
        labels: &[u32],
        each: impl Fn(usize, &[f32], usize) -> Result<T, HeadError>,
    ) -> Result<Vec<T>, HeadError> {
        let logits = self.logits(features)?;
        self.check_labels(logits.len() / self.classes.len(), labels)?;
        let rows = logits.chunks_exact(self.classes.len()).zip(labels).enumerate();
        rows.map(|(row, (logits, label))| each(row, logits, *label as usize)).collect()
    }
}

fn finite_margin(logits: &[f32], class: usize, row: usize) -> Result<f64, HeadError> {
    Some(margin_of(logits, class)).filter(|margin| margin.is_finite()).ok_or(HeadError::NotFinite { row })
}

/// Whether `classes` are sorted and none stands there twice.
pub(super) fn check_classes(classes: &[String]) -> Result<(), HeadError> {
    match classes.iter().zip(classes.iter().skip(1)).position(|(first, second)| first >= second) {
        Some(number) => {
            let class = classes.get(number + 1).cloned().unwrap_or_default();
            Err(HeadError::ClassOrder { number: number + 1, class })
        }
        None => Ok(()),
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Head({} classes, {:?})", self.classes.len(), self.modules)
    }
}

impl fmt::Debug for HeadModule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} [{}, {} + 1]", self.shape.name, self.shape.outputs, self.shape.inputs)
    }
}
