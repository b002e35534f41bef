//! Training of the classification head.

use std::ops::ControlFlow;

use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};

use super::affine::Affine;
use super::error::TrainingError;
use super::rows::LabelledRows;
use crate::base::RandomStream;
use crate::encoder::{Head, HeadConfiguration, HeadShape};

/// Mean over the rows of the summed absolute features that the learning rate is made for: what 384 normalised features
/// have. A step of the optimiser moves each weight by about the learning rate, and so an output by that times this sum.
const FEATURE_SUM: f64 = 16.0;

/// Names of the random streams that are taken from a training's seed.
const INITIAL_WEIGHTS: u64 = 1;
const ORDER_OF_ROWS: u64 = 2;

/// A head after an epoch of its training.
#[derive(Clone, Copy, Debug)]
pub struct HeadEpoch<'a> {
    /// Number of the epoch, from 1.
    pub number: usize,
    /// Learning rate of its steps.
    pub learning_rate: f64,
    /// Mean cross-entropy of its steps' rows, each before the step.
    pub loss: f64,
    /// The head after its last step.
    pub head: &'a Head,
}

/// Trains a head on the rows that `subset` names, and gives it back as it is after the last epoch. `observer` is shown the head
/// after each epoch, and stops the training by breaking.
///
/// The mean cross-entropy of a step's rows is lowered by AdamW (beta 0.9, 0.999; epsilon 1e-8) with the learning rate of
/// [`HeadConfiguration::learning_rate_of`]. Rows are shuffled anew in each epoch. Weights begin uniform between plus and minus
/// one over the root of the layer's inputs, biases and logistic regression at 0: so small that what a head becomes is
/// decided by the rows more than by the seed, without which no attribution is faithful. (Where first weights keep the variance
/// through the layers, the margins of two seeds correlate .41 over random halves of the digits; with these .72.)
/// Features of another scale train alike: they are multiplied by the power of two that brings their absolute sum, in the mean
/// over all rows, nearest to 16 (normalised embeddings stay as they are), and the weights with them.
///
/// The head depends on the rows, the order of `subset`, the configuration and `seed` alone: all arithmetic whose order
/// could vary is done on the calling thread, in one fixed order.
///
/// # Errors
/// A number of the configuration is out of its range, the subset is empty or names a row that does not exist, the
/// training diverges, or `observer` broke off.
///
/// # Complexity
/// About 6 x epochs x rows x weights operations; a copy of the weights an epoch.
///
/// # References
/// Loshchilov, Hutter: Decoupled weight decay regularization, ICLR 2019, algorithm 2 (AdamW).
///
/// ```
/// use std::ops::ControlFlow;
/// use ascribe::encoder::HeadConfiguration;
/// use ascribe::training::{LabelledRows, train_head};
/// let classes = ["left", "right"].map(str::to_owned);
/// let features: Vec<f32> = (0..40).map(|row| if row % 2 == 0 { -1.0 } else { 1.0 }).collect();
/// let labels: Vec<u32> = (0..40).map(|row| row % 2).collect();
/// let rows = LabelledRows::new(&features, 1, &labels, &classes)?;
/// let all: Vec<usize> = (0..40).collect();
/// let mut epochs = 0;
/// let head = train_head(&rows, &all, &HeadConfiguration::default(), 7, &mut |epoch| {
///     epochs = epoch.number;
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!(epochs, HeadConfiguration::default().epochs);
/// assert!(head.margin(&[-3.0, 3.0], &[0, 1])?.iter().all(|margin| *margin > 1.0));
/// # Ok::<(), ascribe::training::TrainingError>(())
/// ```
pub fn train_head(
    rows: &LabelledRows<'_>,
    subset: &[usize],
    configuration: &HeadConfiguration,
    seed: u64,
    observer: &mut dyn FnMut(HeadEpoch<'_>) -> ControlFlow<()>,
) -> Result<Head, TrainingError> {
    let shapes = configuration.shapes(rows.width(), rows.classes().len())?;
    let data = Selected::of(rows, subset)?;
    let model = Model::begin(shapes, &mut derived_stream(seed, INITIAL_WEIGHTS))?;
    let parameters = ParamsAdamW {
        lr: configuration.learning_rate_of(1),
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: configuration.weight_decay,
    };
    let mut optimiser = AdamW::new(model.variables.clone(), parameters)?;
    let mut order: Vec<usize> = (0..subset.len()).collect();
    let mut shuffle = derived_stream(seed, ORDER_OF_ROWS);
    let mut latest = None;
    for number in 1..=configuration.epochs {
        let learning_rate = configuration.learning_rate_of(number);
        optimiser.set_learning_rate(learning_rate);
        shuffle.shuffle(&mut order);
        let mut sum = 0.0;
        for step in steps(&order, configuration.batch_rows) {
            let (features, labels) = data.step(step)?;
            let loss = model.loss(&features, &labels)?;
            optimiser.step(&loss.backward()?)?;
            sum += f64::from(loss.to_scalar::<f32>()?) * step.len() as f64;
        }
        let loss = sum / order.len() as f64;
        if !loss.is_finite() {
            return Err(TrainingError::Diverged { epoch: number });
        }
        let weights = model.weights(data.scale)?;
        let head = Head::new(rows.classes().to_vec(), configuration.clone(), rows.width(), weights)?;
        if observer(HeadEpoch { number, learning_rate, loss, head: &head }).is_break() {
            return Err(TrainingError::Cancelled);
        }
        latest = Some(head);
    }
    latest.ok_or(TrainingError::NoRows)
}

/// The seed of part `name` of what has the seed `seed`.
pub(super) fn derived_seed(seed: u64, name: u64) -> u64 {
    let part = RandomStream::mix(name.wrapping_mul(RandomStream::INCREMENT));
    RandomStream::mix(seed.wrapping_add(RandomStream::INCREMENT) ^ part)
}

fn derived_stream(seed: u64, name: u64) -> RandomStream {
    RandomStream::new(derived_seed(seed, name))
}

/// `order` in as few pieces of at most `most` as possible, of sizes that differ by at most one.
fn steps(order: &[usize], most: usize) -> impl Iterator<Item = &[usize]> {
    let count = order.len().div_ceil(most.max(1));
    let bound = move |piece: usize| piece * order.len() / count.max(1);
    (0..count).map(move |piece| order.get(bound(piece)..bound(piece + 1)).unwrap_or_default())
}

/// The rows of a training, scaled.
struct Selected {
    /// [rows, width].
    features: Vec<f32>,
    labels: Vec<u32>,
    width: usize,
    /// What the features were multiplied by.
    scale: f32,
}

impl Selected {
    fn of(rows: &LabelledRows<'_>, subset: &[usize]) -> Result<Self, TrainingError> {
        if let Some(row) = subset.iter().find(|row| **row >= rows.len()) {
            return Err(TrainingError::SubsetRow { row: *row, rows: rows.len() });
        }
        if subset.is_empty() {
            return Err(TrainingError::NoRows);
        }
        let mut features: Vec<f32> = subset.iter().flat_map(|row| rows.row(*row)).copied().collect();
        let labels = subset.iter().map(|row| rows.label(*row)).collect();
        // Over all rows: subsets whose means lie on both sides of a boundary are still trained alike.
        let sum = rows.features().iter().map(|value| f64::from(value.abs())).sum::<f64>() / rows.len() as f64;
        let exponent = if sum > 0.0 { (FEATURE_SUM / sum).log2().round().clamp(-100.0, 100.0) } else { 0.0 };
        let scale = 2_f32.powi(exponent as i32);
        features.iter_mut().for_each(|value| *value *= scale);
        Ok(Self { features, labels, width: rows.width(), scale })
    }

    /// Features [rows, width] and labels of some rows.
    fn step(&self, rows: &[usize]) -> candle_core::Result<(Tensor, Tensor)> {
        let mut features = Vec::with_capacity(rows.len() * self.width);
        let mut labels: Vec<u32> = Vec::with_capacity(rows.len());
        for row in rows {
            features.extend_from_slice(
                self.features.get(row * self.width..(row + 1) * self.width).unwrap_or_default(),
            );
            labels.extend(self.labels.get(*row));
        }
        let features = Tensor::from_vec(features, (rows.len(), self.width), &Device::Cpu)?;
        Ok((features, Tensor::from_vec(labels, rows.len(), &Device::Cpu)?))
    }
}

/// A head that is trained: for each layer [W b] as one variable.
struct Model {
    shapes: Vec<HeadShape>,
    variables: Vec<Var>,
}

impl Model {
    fn begin(shapes: Vec<HeadShape>, stream: &mut RandomStream) -> Result<Self, TrainingError> {
        let last = shapes.len() - 1;
        let mut variables = Vec::with_capacity(shapes.len());
        for shape in &shapes {
            // Logistic regression has one best place, whatever it begins with.
            let bound = if last == 0 { 0.0 } else { (shape.inputs as f64).sqrt().recip() };
            let mut weights = Vec::with_capacity(shape.weights());
            for _ in 0..shape.outputs {
                weights.extend((0..shape.inputs).map(|_| ((2.0 * stream.unit() - 1.0) * bound) as f32));
                weights.push(0.0);
            }
            variables.push(Var::from_vec(weights, (shape.outputs, shape.inputs + 1), &Device::Cpu)?);
        }
        Ok(Self { shapes, variables })
    }

    /// Mean cross-entropy of these rows.
    fn loss(&self, features: &Tensor, labels: &Tensor) -> candle_core::Result<Tensor> {
        let mut values = features.clone();
        for (number, weights) in self.variables.iter().enumerate() {
            if number > 0 {
                values = values.relu()?;
            }
            values = values.apply_op2(weights, Affine { passes_on: number > 0 })?;
        }
        candle_nn::loss::cross_entropy(&values, labels)
    }

    /// The weights of each layer, for features that were not multiplied by `scale`.
    fn weights(&self, scale: f32) -> candle_core::Result<Vec<Vec<f32>>> {
        let mut all = Vec::with_capacity(self.variables.len());
        for (number, (variable, shape)) in self.variables.iter().zip(&self.shapes).enumerate() {
            let mut weights = variable.flatten_all()?.to_vec1::<f32>()?;
            if number == 0 {
                for row in weights.chunks_exact_mut(shape.inputs + 1) {
                    row.iter_mut().take(shape.inputs).for_each(|weight| *weight *= scale);
                }
            }
            all.push(weights);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three classes around corners, with some overlap.
    fn blobs(rows: usize, width: usize) -> (Vec<f32>, Vec<u32>) {
        let mut stream = RandomStream::new(12);
        let mut features = Vec::new();
        let mut labels = Vec::new();
        for row in 0..rows {
            let label = row % 3;
            labels.push(label as u32);
            features.extend((0..width).map(|column| {
                let centre = if column % 3 == label { 1.0 } else { 0.0 };
                (centre + 2.0 * (stream.unit() - 0.5)) as f32
            }));
        }
        (features, labels)
    }

    fn classes() -> Vec<String> {
        ["a", "b", "c"].map(str::to_owned).to_vec()
    }

    fn small() -> HeadConfiguration {
        HeadConfiguration { hidden: Some(8), epochs: 6, batch_rows: 16, ..HeadConfiguration::default() }
    }

    /// The head, and the loss of each epoch.
    fn train(scale: f32, configuration: &HeadConfiguration, seed: u64) -> (Head, Vec<f64>) {
        let (mut features, labels) = blobs(90, 6);
        features.iter_mut().for_each(|value| *value *= scale);
        let classes = classes();
        let rows = LabelledRows::new(&features, 6, &labels, &classes).unwrap();
        let all: Vec<usize> = (0..90).collect();
        let mut losses = Vec::new();
        let head = train_head(&rows, &all, configuration, seed, &mut |epoch| {
            assert_eq!(epoch.number, losses.len() + 1);
            assert_eq!(epoch.learning_rate, configuration.learning_rate_of(epoch.number));
            losses.push(epoch.loss);
            ControlFlow::Continue(())
        });
        (head.unwrap(), losses)
    }

    #[test]
    fn every_variable_has_a_gradient_after_the_first_step() {
        let (features, labels) = blobs(12, 6);
        let classes = classes();
        let rows = LabelledRows::new(&features, 6, &labels, &classes).unwrap();
        let data = Selected::of(&rows, &[0, 1, 2, 3, 4, 5]).unwrap();
        for hidden in [None, Some(8)] {
            let configuration = HeadConfiguration { hidden, ..small() };
            let shapes = configuration.shapes(6, 3).unwrap();
            let model = Model::begin(shapes, &mut RandomStream::new(3)).unwrap();
            assert_eq!(model.variables.len(), if hidden.is_some() { 2 } else { 1 });
            let (features, labels) = data.step(&[0, 1, 2, 4]).unwrap();
            let gradients = model.loss(&features, &labels).unwrap().backward().unwrap();
            for variable in &model.variables {
                let gradient = gradients.get(variable).expect("a gradient of every variable");
                assert_eq!(gradient.dims(), variable.dims());
                let size: f32 = gradient.abs().unwrap().sum_all().unwrap().to_scalar().unwrap();
                assert!(size > 1e-3, "{size}");
            }
        }
    }

    #[test]
    fn the_loss_falls_as_it_was_recorded() {
        let (head, losses) = train(1.0, &small(), 5);
        let recorded = [1.1276, 0.7133, 0.5211, 0.4231, 0.3668, 0.3423];
        assert_eq!(losses.len(), recorded.len());
        for (found, expected) in losses.iter().zip(recorded) {
            assert!((found - expected).abs() < 1e-3, "{losses:?}");
        }
        assert!(losses.is_sorted_by(|first, second| first > second), "{losses:?}");
        let (features, labels) = blobs(90, 6);
        let right = head.margin(&features, &labels).unwrap().iter().filter(|margin| **margin > 0.0).count();
        assert!(right > 60, "{right}");
    }

    #[test]
    fn a_seed_gives_one_head_in_any_pool_and_another_seed_another() {
        let alone = train(1.0, &small(), 5).0;
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found =
                pool.install(|| rayon::join(|| train(1.0, &small(), 5).0, || train(1.0, &small(), 6).0));
            assert!(found.0 == alone && found.1 != alone, "{threads} threads");
        }
    }

    #[test]
    fn features_of_another_scale_train_alike() {
        let (plain, large) = (train(1.0, &small(), 5), train(4096.0, &small(), 5));
        assert_eq!(plain.1, large.1);
        let (features, _) = blobs(90, 6);
        let scaled: Vec<f32> = features.iter().map(|value| value * 4096.0).collect();
        assert_eq!(plain.0.logits(&features).unwrap(), large.0.logits(&scaled).unwrap());
        assert!(train(0.0, &small(), 5).1.iter().all(|loss| loss.is_finite()));
    }

    #[test]
    fn every_subset_is_scaled_as_all_rows_are() {
        let classes = classes();
        let rows = LabelledRows::new(&[0.5, 60.0, 0.25], 1, &[0, 1, 2], &classes).unwrap();
        for subset in [vec![0], vec![1], vec![0, 1, 2]] {
            assert_eq!(Selected::of(&rows, &subset).unwrap().scale, 1.0);
        }
    }

    #[test]
    fn what_the_head_computes_is_what_was_trained() {
        let configuration = HeadConfiguration { epochs: 1, batch_rows: 90, ..small() };
        let (features, labels) = blobs(90, 6);
        let classes = classes();
        let rows = LabelledRows::new(&features, 6, &labels, &classes).unwrap();
        let data = Selected::of(&rows, &(0..90).collect::<Vec<_>>()).unwrap();
        let shapes = configuration.shapes(6, 3).unwrap();
        let model = Model::begin(shapes, &mut derived_stream(5, INITIAL_WEIGHTS)).unwrap();
        let weights = model.weights(data.scale).unwrap();
        let head = Head::new(classes.clone(), configuration.clone(), 6, weights).unwrap();
        let losses = head.loss(&features, &labels).unwrap();
        let (_, trained) = train(1.0, &configuration, 5);
        // One step over all rows: its loss is that of the first weights.
        assert!((losses.iter().sum::<f64>() / 90.0 - trained[0]).abs() < 1e-5);
    }

    #[test]
    fn steps_take_every_row_once_and_are_of_nearly_equal_size() {
        for rows in 0..70 {
            let order: Vec<usize> = (0..rows).collect();
            for most in [1, 7, 16, 64] {
                let pieces: Vec<&[usize]> = steps(&order, most).collect();
                assert_eq!(pieces.concat(), order);
                assert_eq!(pieces.len(), rows.div_ceil(most));
                assert!(
                    pieces
                        .iter()
                        .all(|piece| piece.len() <= most && piece.len() + 1 >= pieces[0].len().min(most))
                );
            }
        }
    }

    #[test]
    fn subsets_that_are_none_and_a_request_to_stop_end_it() {
        let (features, labels) = blobs(9, 6);
        let classes = classes();
        let rows = LabelledRows::new(&features, 6, &labels, &classes).unwrap();
        let ask = |subset: &[usize], answer| train_head(&rows, subset, &small(), 1, &mut |_| answer);
        let (go_on, stop) = (ControlFlow::Continue(()), ControlFlow::Break(()));
        assert!(matches!(ask(&[], go_on), Err(TrainingError::NoRows)));
        assert!(matches!(ask(&[0, 9], go_on), Err(TrainingError::SubsetRow { row: 9, rows: 9 })));
        assert!(matches!(ask(&[0, 1], stop), Err(TrainingError::Cancelled)));
        assert!(ask(&[0], go_on).is_ok());
    }
}
