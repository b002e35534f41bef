//! Gradients of the loss and of the logits, row by row.

use super::error::HeadError;
use super::likelihood::Exponentials;
use super::model::{Forward, Head, HeadModule};

/// The gradient of each row's loss, layer by layer, and the rows' 1 - p.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadGradients {
    /// One for each layer, in the order of [`Head::modules`].
    pub modules: Vec<HeadModuleGradients>,
    /// 1 - p of each row's label; see [`Head::own`].
    pub own: Vec<f32>,
}

/// The gradient of each row's loss for one layer: u v^T, [outputs, inputs] with the bias as the last input. It is exact, not
/// an approximation: without a sequence the gradient of a linear layer has rank 1.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadModuleGradients {
    /// Name of the layer.
    pub name: &'static str,
    /// Values of a row of `u`.
    pub outputs: usize,
    /// Values of a row of `v`: those that the layer takes, and the constant 1 of the bias.
    pub inputs: usize,
    /// Gradient of the summed cross-entropy at the layer's output, [rows, outputs].
    pub u: Vec<f32>,
    /// What the layer takes, a 1 appended, [rows, inputs]. That of the first layer is the same for every head on the same
    /// features.
    pub v: Vec<f32>,
}

/// How each row's logits change with the output of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadJacobian {
    /// Name of the layer.
    pub name: &'static str,
    /// Number of logits.
    pub classes: usize,
    /// Values that the layer gives.
    pub outputs: usize,
    /// Derivative of each logit for each output, [rows, classes, outputs].
    pub values: Vec<f32>,
}

impl Head {
    /// The gradient of each row's cross-entropy, and 1 - p.
    ///
    /// The gradient at the logits is p_c for every class but the label's, and minus the sum of these for the label: softmax
    /// minus one would lose it in rounding where a row is fitted. From there all sums are taken in f64.
    ///
    /// # Errors
    /// `features` and `labels` are not of one number of rows, a label is no class, or an answer is not finite.
    ///
    /// # Complexity
    /// O(rows x weights) time; the result holds outputs + inputs values a row and layer.
    ///
    /// ```
    /// use ascribe::encoder::{Head, HeadConfiguration};
    /// let logistic = HeadConfiguration { hidden: None, ..HeadConfiguration::default() };
    /// let head = Head::new(vec!["a".into(), "b".into()], logistic, 1, vec![vec![0.0; 4]])?;
    /// let gradients = head.gradients(&[3.0], &[1])?;
    /// // Of a fair coin: the loss falls where the logit of the label rises.
    /// assert_eq!((gradients.modules[0].u.as_slice(), gradients.own[0]), ([0.5, -0.5].as_slice(), 0.5));
    /// assert_eq!(gradients.modules[0].v, [3.0, 1.0]);
    /// # Ok::<(), ascribe::encoder::HeadError>(())
    /// ```
    pub fn gradients(&self, features: &[f32], labels: &[u32]) -> Result<HeadGradients, HeadError> {
        let forward = self.forward(features)?;
        let classes = self.classes().len();
        let rows = forward.logits.len() / classes;
        self.check_labels(rows, labels)?;
        let mut modules = self.modules().iter().map(|module| {
            let (outputs, inputs) = (module.shape().outputs, module.shape().inputs + 1);
            let u = Vec::with_capacity(rows * outputs);
            HeadModuleGradients { name: module.shape().name, outputs, inputs, u, v: Vec::new() }
        });
        let mut first = modules.next();
        let mut second = modules.next();
        let mut own = Vec::with_capacity(rows);
        for (row, (logits, label)) in forward.logits.chunks_exact(classes).zip(labels).enumerate() {
            let exponentials = Exponentials::of(logits, row)?;
            let class = *label as usize;
            own.push(exponentials.others(class) as f32);
            let at_logits = exponentials.loss_gradient(class);
            let at_hidden = self.behind().map(|behind| through(&at_logits, behind, &forward, row));
            let narrow = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<f32>>();
            if let Some(second) = &mut second {
                second.u.extend(narrow(&at_logits));
            }
            if let Some(first) = &mut first {
                first.u.extend(narrow(at_hidden.as_deref().unwrap_or(&at_logits)));
            }
        }
        if let Some(first) = &mut first {
            first.v = with_one(features, first.inputs - 1);
        }
        if let Some(second) = &mut second {
            second.v = with_one(&forward.hidden, second.inputs - 1);
        }
        Ok(HeadGradients { modules: first.into_iter().chain(second).collect(), own })
    }

    /// How each row's logits change with the output of each layer. For the last layer these are its own outputs.
    ///
    /// # Errors
    /// `features` are no whole rows.
    ///
    /// # Complexity
    /// O(rows x weights) time; the result holds classes x outputs values a row and layer.
    pub fn jacobian(&self, features: &[f32]) -> Result<Vec<HeadJacobian>, HeadError> {
        let forward = self.forward(features)?;
        let classes = self.classes().len();
        let rows = forward.logits.len() / classes;
        let mut jacobians = Vec::with_capacity(self.modules().len());
        for module in self.modules() {
            let (name, outputs) = (module.shape().name, module.shape().outputs);
            let values = match self.behind().filter(|behind| behind.shape().name != name) {
                Some(behind) => {
                    (0..rows).flat_map(|row| masked(behind, hidden_of(&forward, outputs, row))).collect()
                }
                None => identity(classes).repeat(rows),
            };
            jacobians.push(HeadJacobian { name, classes, outputs, values });
        }
        Ok(jacobians)
    }

    /// The layer behind the hidden units, if there are some.
    fn behind(&self) -> Option<&HeadModule> {
        self.modules().get(1)
    }
}

/// Hidden units of one row.
fn hidden_of(forward: &Forward, hidden: usize, row: usize) -> &[f32] {
    forward.hidden.get(row * hidden..(row + 1) * hidden).unwrap_or_default()
}

/// From the gradient at the logits to that at the hidden units before max(0, .).
fn through(at_logits: &[f64], behind: &HeadModule, forward: &Forward, row: usize) -> Vec<f64> {
    let inputs = behind.shape().inputs;
    let mut gradient = vec![0.0; inputs];
    for (weights, at_logit) in behind.weights().chunks_exact(inputs + 1).zip(at_logits) {
        for (sum, weight) in gradient.iter_mut().zip(weights) {
            *sum += at_logit * f64::from(*weight);
        }
    }
    for (value, hidden) in gradient.iter_mut().zip(hidden_of(forward, inputs, row)) {
        if *hidden <= 0.0 {
            *value = 0.0;
        }
    }
    gradient
}

/// The weights of `behind` without the biases, 0 where the hidden unit is off.
fn masked<'a>(behind: &'a HeadModule, hidden: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
    behind.weights().chunks_exact(behind.shape().inputs + 1).flat_map(move |weights| {
        weights.iter().zip(hidden).map(|(weight, hidden)| if *hidden > 0.0 { *weight } else { 0.0 })
    })
}

fn identity(size: usize) -> Vec<f32> {
    (0..size * size).map(|place| if place % (size + 1) == 0 { 1.0 } else { 0.0 }).collect()
}

/// The rows of `values`, `width` wide, each with a 1 appended.
pub(super) fn with_one(values: &[f32], width: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len() + values.len() / width.max(1));
    for row in values.chunks_exact(width.max(1)) {
        out.extend_from_slice(row);
        out.push(1.0);
    }
    out
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use super::super::configuration::HeadConfiguration;
    use super::*;
    use crate::base::RandomStream;

    const WIDTH: usize = 5;
    const CLASSES: usize = 3;

    fn draw(stream: &mut RandomStream, count: usize, scale: f64) -> Vec<f32> {
        (0..count).map(|_| ((stream.unit() - 0.5) * scale) as f32).collect()
    }

    fn head(hidden: Option<usize>, scale: f64, seed: u64) -> Head {
        let mut stream = RandomStream::new(seed);
        let configuration = HeadConfiguration { hidden, ..HeadConfiguration::default() };
        let shapes = configuration.shapes(WIDTH, CLASSES).unwrap();
        let weights = shapes.iter().map(|shape| draw(&mut stream, shape.weights(), scale)).collect();
        let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
        Head::new(classes, configuration, WIDTH, weights).unwrap()
    }

    fn rows(count: usize) -> (Vec<f32>, Vec<u32>) {
        let mut stream = RandomStream::new(77);
        let features = draw(&mut stream, count * WIDTH, 2.0);
        (features, (0..count).map(|_| stream.below(CLASSES as u64) as u32).collect())
    }

    /// The loss in f64 from the definition, with `weights` in place of the head's.
    fn reference_loss(weights: &[Vec<f64>], features: &[f32], label: usize) -> f64 {
        let mut values: Vec<f64> = features.iter().map(|value| f64::from(*value)).collect();
        for (number, layer) in weights.iter().enumerate() {
            if number > 0 {
                values.iter_mut().for_each(|value| *value = value.max(0.0));
            }
            values.push(1.0);
            values = layer
                .chunks(values.len())
                .map(|weights| weights.iter().zip(&values).map(|(w, x)| w * x).sum())
                .collect();
        }
        let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        largest + values.iter().map(|value| (value - largest).exp()).sum::<f64>().ln() - values[label]
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (features, labels) = rows(6);
        for hidden in [None, Some(4)] {
            let head = head(hidden, 2.0, 3);
            let gradients = head.gradients(&features, &labels).unwrap();
            let weights: Vec<Vec<f64>> = head
                .modules()
                .iter()
                .map(|module| module.weights().iter().map(|weight| f64::from(*weight)).collect())
                .collect();
            let mut compared = 0;
            for (row, (features, label)) in features.chunks(WIDTH).zip(&labels).enumerate() {
                for (number, module) in gradients.modules.iter().enumerate() {
                    for place in 0..module.outputs * module.inputs {
                        let loss_at = |step: f64| {
                            let mut moved = weights.clone();
                            moved[number][place] += step;
                            reference_loss(&moved, features, *label as usize)
                        };
                        let expected = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5;
                        let (output, input) = (place / module.inputs, place % module.inputs);
                        let found = f64::from(module.u[row * module.outputs + output])
                            * f64::from(module.v[row * module.inputs + input]);
                        assert!((found - expected).abs() < 1e-6, "{number} {place}: {found} {expected}");
                        compared += 1;
                    }
                }
            }
            assert_eq!(
                compared,
                6 * head.modules().iter().map(|module| module.weights().len()).sum::<usize>()
            );
        }
    }

    /// The gradient of one row by the library's automatic differentiation, layer by layer.
    fn automatic(head: &Head, features: &[f32], label: u32) -> Vec<Vec<f32>> {
        let cpu = Device::Cpu;
        let variables: Vec<Var> = head
            .modules()
            .iter()
            .map(|module| {
                let shape = (module.shape().outputs, module.shape().inputs + 1);
                Var::from_tensor(&Tensor::from_slice(module.weights(), shape, &cpu).unwrap()).unwrap()
            })
            .collect();
        let one = Tensor::ones((1, 1), candle_core::DType::F32, &cpu).unwrap();
        let mut values = Tensor::from_slice(features, (1, features.len()), &cpu).unwrap();
        for (number, weights) in variables.iter().enumerate() {
            if number > 0 {
                values = values.relu().unwrap();
            }
            let input = Tensor::cat(&[&values, &one], 1).unwrap();
            values = input.matmul(&weights.t().unwrap()).unwrap();
        }
        let target = Tensor::from_slice(&[label], 1, &cpu).unwrap();
        let store = candle_nn::loss::cross_entropy(&values, &target).unwrap().backward().unwrap();
        let gradient = |weights: &Var| store.get(weights).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        variables.iter().map(gradient).collect()
    }

    #[test]
    fn sketches_are_the_gradients_of_automatic_differentiation() {
        let (features, labels) = rows(40);
        for hidden in [None, Some(9)] {
            let head = head(hidden, 2.0, 5);
            let gradients = head.gradients(&features, &labels).unwrap();
            for (row, (features, label)) in features.chunks(WIDTH).zip(&labels).enumerate() {
                for (module, expected) in gradients.modules.iter().zip(automatic(&head, features, *label)) {
                    let u = &module.u[row * module.outputs..][..module.outputs];
                    let v = &module.v[row * module.inputs..][..module.inputs];
                    let found = u.iter().flat_map(|u| v.iter().map(move |v| u * v));
                    assert_eq!(expected.len(), u.len() * v.len());
                    for (found, expected) in found.zip(&expected) {
                        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_gradient_of_a_fitted_row_is_minus_its_rest_times_that_of_its_margin() {
        // Logits 60 and more apart: softmax minus one is 0 in f32, and the gradient is not.
        let (features, _) = rows(30);
        for hidden in [None, Some(6)] {
            let head = head(hidden, 90.0, 8);
            let logits = head.logits(&features).unwrap();
            let best =
                |logits: &[f32]| (0..3).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as u32;
            let labels: Vec<u32> = logits.chunks(CLASSES).map(best).collect();
            let gradients = head.gradients(&features, &labels).unwrap();
            assert_eq!(gradients.own, head.own(&features, &labels).unwrap());
            assert!(gradients.own.iter().any(|own| *own < 1e-20 && *own > 1e-36), "{:?}", gradients.own);
            let jacobian = head.jacobian(&features).unwrap();
            for (module, jacobian) in gradients.modules.iter().zip(&jacobian) {
                assert_eq!((module.name, module.outputs), (jacobian.name, jacobian.outputs));
                for (row, logits) in logits.chunks(CLASSES).enumerate() {
                    let (label, own) = (labels[row] as usize, f64::from(gradients.own[row]));
                    if own < 1e-36 {
                        continue;
                    }
                    let others: Vec<usize> = (0..CLASSES).filter(|class| *class != label).collect();
                    let largest =
                        others.iter().map(|class| f64::from(logits[*class])).fold(f64::MIN, f64::max);
                    let share = |class: &usize| (f64::from(logits[*class]) - largest).exp();
                    let total: f64 = others.iter().map(share).sum();
                    for output in 0..module.outputs {
                        let at = |class: usize| {
                            f64::from(jacobian.values[(row * CLASSES + class) * module.outputs + output])
                        };
                        let margin =
                            at(label) - others.iter().map(|c| share(c) / total * at(*c)).sum::<f64>();
                        let (found, expected) =
                            (f64::from(module.u[row * module.outputs + output]), -own * margin);
                        assert!((found - expected).abs() <= 1e-5 * own * 90.0, "{found} {expected} {own}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_layer_takes_the_same_from_every_head() {
        let (features, labels) = rows(4);
        let of = |hidden, seed| head(hidden, 1.0, seed).gradients(&features, &labels).unwrap().modules;
        let (left, right) = (of(Some(3), 1), of(None, 2));
        assert_eq!(left[0].v, right[0].v);
        assert_eq!(left[0].v.chunks(WIDTH + 1).next().unwrap()[WIDTH], 1.0);
        assert!(left[1].v.iter().all(|value| *value >= 0.0) && left[1].v.len() == 4 * 4);
    }

    #[test]
    fn input_that_does_not_fit_is_refused() {
        let head = head(Some(2), 1.0, 1);
        assert!(matches!(head.gradients(&[0.0; 6], &[0]), Err(HeadError::Features { values: 6, width: 5 })));
        assert!(matches!(head.gradients(&[0.0; 5], &[0, 1]), Err(HeadError::Labels { labels: 2, rows: 1 })));
        assert!(matches!(head.own(&[0.0; 5], &[3]), Err(HeadError::Label { row: 0, label: 3, classes: 3 })));
        assert!(matches!(head.margin(&[f32::NAN; 5], &[0]), Err(HeadError::NotFinite { row: 0 })));
        assert!(head.gradients(&[], &[]).unwrap().own.is_empty());
    }
}
