//! A direction laid out for many rows: scores in f32, to find the rows that matter.

use super::direction::Direction;
use crate::format::{ModuleEncoding, SPARSE_PADDING, SketchModule};
use crate::kernels::{BilinearPart, KernelError, Kernels, Panels, StridedRows, WideQuery};
use crate::sketch::SketchLayout;

/// Partial sums of a short dot product.
const LANES: usize = 16;

/// One module of a direction.
#[derive(Debug)]
enum PackedModule {
    /// The matrix, to stand between vectors u and v.
    Factored(Panels),
    /// The whole matrix.
    Dense(WideQuery),
    /// The matrix, column by column: a place of a sparse vector names one.
    Sparse(Vec<f32>),
}

/// A direction in the space of parameters, in f32 and in the order in which rows of a sketch column are compared with it.
///
/// A score is off by some millionths of the product of both lengths. It is not finite where a stored value is not, or where
/// f32 does not hold a product.
#[derive(Debug)]
pub struct PackedDirection {
    modules: Vec<PackedModule>,
}

impl PackedDirection {
    /// Lays out a direction for rows of this layout.
    ///
    /// # Complexity
    /// O(parameters).
    pub fn new(direction: &Direction, layout: &SketchLayout) -> Self {
        let modules = direction.modules().iter().zip(layout.modules()).map(|(own, module)| {
            let values: Vec<f32> = own.values.iter().map(|value| *value as f32).collect();
            match module.encoding {
                ModuleEncoding::Dense => PackedModule::Dense(WideQuery::new(&values)),
                ModuleEncoding::Sparse => {
                    let places = (0..own.input)
                        .flat_map(|place| (0..own.out).map(move |output| output * own.input + place));
                    PackedModule::Sparse(places.map(|at| values[at]).collect())
                }
                ModuleEncoding::Factored | ModuleEncoding::SharedInput => {
                    PackedModule::Factored(Panels::of_weights(&values, own.out, own.input))
                }
            }
        });
        Self { modules: modules.collect() }
    }

    /// What each of `count` rows contributes: the inner product of its gradient of `member` with this direction. Rows are given by
    /// their values and terms, end to end.
    ///
    /// # Errors
    /// The rows are of another layout.
    ///
    /// # Complexity
    /// O(rows x parameters) multiply-adds in f32.
    pub fn scores(
        &self,
        layout: &SketchLayout,
        member: u32,
        (values, terms): (&[f32], &[u32]),
    ) -> Result<Vec<f64>, KernelError> {
        let width = layout.width();
        let count = values.len() / width.max(1);
        let mut scores = vec![0.0; count];
        let mut parts = Vec::new();
        for (number, (module, packed)) in layout.modules().iter().zip(&self.modules).enumerate() {
            let (first, second) = layout.places(member, number);
            match (packed, second) {
                (PackedModule::Factored(matrix), Some(second)) => {
                    let [out, input] = [module.out, module.input].map(|width| width as usize);
                    parts.extend((0..module.rank as usize).map(|pair| BilinearPart {
                        matrix,
                        left: first.start + pair * out,
                        right: second.start + pair * input,
                    }));
                }
                (PackedModule::Dense(direction), _) => {
                    for (score, row) in scores.iter_mut().zip(values.chunks_exact(width)) {
                        let mut own = [0.0];
                        Kernels::best().dots_of(direction, &row[first.clone()], &mut own)?;
                        *score += own[0];
                    }
                }
                (PackedModule::Sparse(columns), Some(second)) => {
                    let named = terms.chunks_exact(layout.terms_a_row());
                    let named = named.map(|terms| &terms[layout.terms_of(number)]);
                    for ((score, row), named) in scores.iter_mut().zip(values.chunks_exact(width)).zip(named)
                    {
                        *score += sparse(module, columns, (&row[first.clone()], &row[second.clone()]), named);
                    }
                }
                // A factored module without an input side is no layout's.
                _ => {}
            }
        }
        let rows = StridedRows { values, stride: width, count };
        Kernels::best().add_forms(rows, &parts, &mut scores)?;
        Ok(scores)
    }
}

/// The inner product of one row's gradient of a sparse module with a matrix whose columns are given.
fn sparse(module: &SketchModule, columns: &[f32], (u, v): (&[f32], &[f32]), named: &[u32]) -> f64 {
    let (out, terms) = (module.out as usize, module.terms as usize);
    let mut total = 0.0;
    for (u, v) in u.chunks_exact(out.max(1)).zip(v.chunks_exact(terms.max(1))) {
        for (place, value) in named.iter().zip(v).filter(|(place, _)| **place != SPARSE_PADDING) {
            let column = columns.get(*place as usize * out..).and_then(|own| own.get(..out));
            total += f64::from(*value) * dot(u, column.unwrap_or_default());
        }
    }
    total
}

/// A dot product in sixteen partial sums, which the compiler puts into vector registers.
fn dot(left: &[f32], right: &[f32]) -> f64 {
    let ((lefts, left_rest), (rights, right_rest)) = (left.as_chunks::<LANES>(), right.as_chunks::<LANES>());
    let mut sums = [0.0_f32; LANES];
    for (left, right) in lefts.iter().zip(rights) {
        for lane in 0..LANES {
            sums[lane] += left[lane] * right[lane];
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(a, b)| a * b).sum();
    f64::from(sums.iter().sum::<f32>() + rest)
}

#[cfg(test)]
mod tests {
    use super::super::gradients::MemberGradients;
    use super::*;
    use crate::base::RandomStream;
    use crate::sketch::SketchRows;

    #[test]
    fn scores_are_those_of_the_direction_but_for_rounding() {
        let module = |name: &str, encoding, [rank, out, input, terms]: [u32; 4]| SketchModule {
            name: name.into(),
            encoding,
            rank,
            out,
            input,
            terms,
        };
        let modules = vec![
            module("shared", ModuleEncoding::SharedInput, [1, 18, 5, 0]),
            module("pairs", ModuleEncoding::Factored, [2, 3, 21, 0]),
            module("whole", ModuleEncoding::Dense, [0, 2, 9, 0]),
            module("table", ModuleEncoding::Sparse, [2, 4, 30, 3]),
        ];
        let layout = SketchLayout::new(modules, 2).unwrap();
        let mut stream = RandomStream::new(3);
        for count in [1, 127, 129, 300] {
            let values = (0..count * layout.width()).map(|_| stream.unit() as f32 - 0.5).collect();
            let terms = (0..count * layout.terms_a_row())
                .map(|at| if at % 5 == 0 { SPARSE_PADDING } else { stream.below(30) as u32 })
                .collect();
            let rows = SketchRows { values, terms, outcomes: Vec::new() };
            for member in 0..2 {
                let mut gradients = MemberGradients::empty(&layout);
                (0..count).for_each(|row| gradients.push(&layout, member, &rows, row));
                let weights: Vec<f64> = (0..count).map(|_| stream.unit() - 0.5).collect();
                let mut direction = Direction::zero(&gradients);
                direction.add(&gradients, &weights);
                let exact = direction.scores(&gradients);
                let packed = PackedDirection::new(&direction, &layout);
                let found = packed.scores(&layout, member, (&rows.values, &rows.terms)).unwrap();
                let largest = exact.iter().fold(0.0_f64, |largest, score| largest.max(score.abs()));
                assert_eq!(found.len(), count);
                for (found, exact) in found.iter().zip(&exact) {
                    assert!((found - exact).abs() <= 1e-5 * largest, "{count} {member}: {found} {exact}");
                }
            }
        }
        let bad = SketchRows { values: vec![f32::INFINITY; layout.width()], ..SketchRows::default() };
        let bad = SketchRows { terms: vec![1; layout.terms_a_row()], ..bad };
        let direction = Direction::of_row(
            &{
                let mut gradients = MemberGradients::empty(&layout);
                gradients.push(
                    &layout,
                    0,
                    &SketchRows { values: vec![0.0; layout.width()], ..bad.clone() },
                    0,
                );
                gradients
            },
            0,
        );
        let packed = PackedDirection::new(&direction, &layout);
        assert!(
            !packed.scores(&layout, 0, (&bad.values, &bad.terms)).unwrap()[0].is_finite(),
            "infinite values show"
        );
    }
}
