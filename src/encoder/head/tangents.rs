//! How the logits move with the weights, as far as rows are compared by it.

use super::error::HeadError;
use super::gradients::with_one;
use super::model::Head;
use crate::encoder::gradient::LayerTangents;

impl Head {
    /// For each layer vectors whose inner products are those of the rows' [Jacobians](Head::jacobian), summed over classes,
    /// in place of the Jacobians: a classes-th of their size.
    ///
    /// The Jacobian of the last layer is the identity, so that u is the square root of the number of classes. That of the
    /// layer before is the weights behind it where a hidden unit is on, so that u is the length of the weights that leave
    /// the unit.
    ///
    /// # Errors
    /// `features` are no whole rows.
    ///
    /// # Complexity
    /// O(rows x weights) time.
    ///
    /// ```
    /// use ascribe::encoder::{Head, HeadConfiguration};
    /// let logistic = HeadConfiguration { hidden: None, ..HeadConfiguration::default() };
    /// let classes = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    /// let head = Head::new(classes, logistic, 1, vec![vec![0.5; 8]])?;
    /// let tangents = head.tangents(&[3.0])?;
    /// assert_eq!((tangents[0].u.as_slice(), tangents[0].v.as_slice()), ([2.0].as_slice(), [3.0, 1.0].as_slice()));
    /// # Ok::<(), ascribe::encoder::HeadError>(())
    /// ```
    pub fn tangents(&self, features: &[f32]) -> Result<Vec<LayerTangents>, HeadError> {
        let forward = self.forward(features)?;
        let rows = forward.logits.len() / self.classes().len();
        let at_logits = vec![(self.classes().len() as f64).sqrt(); rows];
        let of_layer = |outputs, inputs: usize, u, values: &[f32]| LayerTangents {
            outputs,
            inputs: inputs + 1,
            u,
            v: with_one(values, inputs).into_iter().map(f64::from).collect(),
        };
        let Some(behind) = self.modules().get(1) else {
            return Ok(vec![of_layer(1, self.width(), at_logits, features)]);
        };
        let hidden = behind.shape().inputs;
        let mut lengths = vec![0.0; hidden];
        for weights in behind.weights().chunks_exact(hidden + 1) {
            for (length, weight) in lengths.iter_mut().zip(weights) {
                *length += f64::from(*weight) * f64::from(*weight);
            }
        }
        lengths.iter_mut().for_each(|length: &mut f64| *length = length.sqrt());
        let of_row = |row: &[f32]| {
            let on = row.iter().zip(&lengths).map(|(unit, length)| if *unit > 0.0 { *length } else { 0.0 });
            on.collect::<Vec<f64>>()
        };
        let u = forward.hidden.chunks_exact(hidden).flat_map(of_row).collect();
        Ok(vec![of_layer(hidden, self.width(), u, features), of_layer(1, hidden, at_logits, &forward.hidden)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::configuration::HeadConfiguration;
    use super::*;
    use crate::base::RandomStream;

    #[test]
    fn products_are_those_of_the_jacobians_summed_over_classes() {
        let mut stream = RandomStream::new(31);
        let mut draw = |count: usize| (0..count).map(|_| stream.unit() as f32 - 0.5).collect::<Vec<f32>>();
        for hidden in [None, Some(6)] {
            let configuration = HeadConfiguration { hidden, ..HeadConfiguration::default() };
            let shapes = configuration.shapes(4, 3).unwrap();
            let weights = shapes.iter().map(|shape| draw(shape.weights())).collect();
            let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
            let head = Head::new(classes, configuration, 4, weights).unwrap();
            let features = draw(5 * 4);
            let (tangents, jacobians) =
                (head.tangents(&features).unwrap(), head.jacobian(&features).unwrap());
            // What a layer takes does not depend on the label.
            let gradients = head.gradients(&features, &[0; 5]).unwrap();
            assert_eq!(tangents.len(), jacobians.len());
            for ((tangents, jacobian), gradients) in tangents.iter().zip(&jacobians).zip(&gradients.modules) {
                let v: Vec<f64> = gradients.v.iter().map(|value| f64::from(*value)).collect();
                assert_eq!((tangents.inputs, &tangents.v), (gradients.inputs, &v));
                let (width, whole) = (tangents.outputs, jacobian.classes * jacobian.outputs);
                for (row, own) in tangents.u.chunks(width).enumerate() {
                    for (other, u) in tangents.u.chunks(width).enumerate() {
                        let found: f64 = own.iter().zip(u).map(|(a, b)| a * b).sum();
                        let rows = [row, other].map(|row| &jacobian.values[row * whole..(row + 1) * whole]);
                        let expected: f64 =
                            rows[0].iter().zip(rows[1]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                        assert!(
                            (found - expected).abs() < 1e-9,
                            "{hidden:?} {row} {other}: {found} {expected}"
                        );
                    }
                }
            }
            assert!(head.tangents(&features[1..]).is_err());
        }
    }
}
