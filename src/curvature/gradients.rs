//! Gradients of many rows, module by module, and their inner products.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

use crate::format::{ModuleEncoding, SPARSE_PADDING};
use crate::kernels::{Kernels, WideQuery};
use crate::sketch::{SketchLayout, SketchRows};

/// Rows of one block of a kernel: the products of two blocks stay in the cache.
const BLOCK_ROWS: usize = 256;

/// Rows up to which each is compared with the others by itself.
const SINGLE_ROWS_MAX: usize = 4;

/// One module's gradients of many rows.
#[derive(Clone, Debug, PartialEq)]
pub enum ModuleGradients {
    /// Sum over `rank` of u v^T.
    Factored {
        /// Pairs of vectors a row.
        rank: usize,
        /// Values of a vector u.
        out: usize,
        /// Values of a vector v.
        input: usize,
        /// rows x rank x out.
        u: Vec<f32>,
        /// rows x rank x input.
        v: Vec<f32>,
    },
    /// Factored, where v names its places.
    Sparse {
        /// Pairs of vectors a row.
        rank: usize,
        /// Values of a vector u.
        out: usize,
        /// Values of a vector v that are not zero.
        terms: usize,
        /// Width of a whole vector v.
        input: usize,
        /// rows x rank x out.
        u: Vec<f32>,
        /// rows x rank x terms.
        v: Vec<f32>,
        /// rows x terms.
        places: Vec<u32>,
    },
    /// Whole matrices.
    Dense {
        /// Rows of a matrix.
        out: usize,
        /// Columns of a matrix.
        input: usize,
        /// rows x out x input.
        matrix: Vec<f32>,
    },
}

impl ModuleGradients {
    /// Rows and columns of one gradient.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Factored { out, input, .. }
            | Self::Sparse { out, input, .. }
            | Self::Dense { out, input, .. } => (*out, *input),
        }
    }
}

/// Gradients of many rows at one member's checkpoint.
///
/// ```
/// use ascribe::curvature::{MemberGradients, ModuleGradients};
/// let module = ModuleGradients::Factored { rank: 1, out: 1, input: 2, u: vec![2.0, 3.0], v: vec![1.0, 0.0, 1.0, 1.0] };
/// let rows = MemberGradients::new(2, vec![module]);
/// assert_eq!(rows.inner_products(&rows), [4.0, 6.0, 6.0, 18.0]);
/// assert_eq!(rows.squared_norms(), [4.0, 18.0]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MemberGradients {
    rows: usize,
    modules: Vec<ModuleGradients>,
}

impl MemberGradients {
    /// Gradients of `rows` rows.
    pub fn new(rows: usize, modules: Vec<ModuleGradients>) -> Self {
        Self { rows, modules }
    }

    /// No rows yet, of the modules of a layout.
    pub fn empty(layout: &SketchLayout) -> Self {
        let modules = layout.modules().iter().map(|module| {
            let [rank, out, input, terms] =
                [module.rank, module.out, module.input, module.terms].map(|width| width as usize);
            match module.encoding {
                ModuleEncoding::Dense => ModuleGradients::Dense { out, input, matrix: Vec::new() },
                ModuleEncoding::Sparse => {
                    let (u, v, places) = (Vec::new(), Vec::new(), Vec::new());
                    ModuleGradients::Sparse { rank, out, terms, input, u, v, places }
                }
                ModuleEncoding::Factored | ModuleEncoding::SharedInput => {
                    ModuleGradients::Factored { rank, out, input, u: Vec::new(), v: Vec::new() }
                }
            }
        });
        Self { rows: 0, modules: modules.collect() }
    }

    /// Appends the gradients of row `row` of `rows` at `member`'s checkpoint.
    pub fn push(&mut self, layout: &SketchLayout, member: u32, rows: &SketchRows, row: usize) {
        let Some(values) = rows.values.get(row * layout.width()..(row + 1) * layout.width()) else { return };
        let terms = layout.terms_a_row();
        for (number, module) in self.modules.iter_mut().enumerate() {
            let (first, second) = layout.places(member, number);
            let own = |range: std::ops::Range<usize>| &values[range];
            match module {
                ModuleGradients::Dense { matrix, .. } => matrix.extend(own(first)),
                ModuleGradients::Factored { u, v, .. } => {
                    u.extend(own(first));
                    v.extend(second.into_iter().flat_map(own));
                }
                ModuleGradients::Sparse { u, v, places, .. } => {
                    u.extend(own(first));
                    v.extend(second.into_iter().flat_map(own));
                    let named = layout.terms_of(number);
                    places.extend(&rows.terms[row * terms + named.start..row * terms + named.end]);
                }
            }
        }
        self.rows += 1;
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Some of the rows, in the order named; those that are not there are left out.
    pub fn subset(&self, rows: &[usize]) -> Self {
        let rows: Vec<usize> = rows.iter().copied().filter(|row| *row < self.rows).collect();
        let take = |values: &[f32], width: usize| {
            rows.iter().flat_map(|row| slice(values, *row, 1, width)).copied().collect::<Vec<f32>>()
        };
        let modules = self.modules.iter().map(|module| match module {
            ModuleGradients::Factored { rank, out, input, u, v } => ModuleGradients::Factored {
                rank: *rank,
                out: *out,
                input: *input,
                u: take(u, rank * out),
                v: take(v, rank * input),
            },
            ModuleGradients::Sparse { rank, out, terms, input, u, v, places } => ModuleGradients::Sparse {
                rank: *rank,
                out: *out,
                terms: *terms,
                input: *input,
                u: take(u, rank * out),
                v: take(v, rank * terms),
                places: rows.iter().flat_map(|row| slice(places, *row, 1, *terms)).copied().collect(),
            },
            ModuleGradients::Dense { out, input, matrix } => {
                ModuleGradients::Dense { out: *out, input: *input, matrix: take(matrix, out * input) }
            }
        });
        Self { rows: rows.len(), modules: modules.collect() }
    }

    /// Modules.
    pub fn modules(&self) -> &[ModuleGradients] {
        &self.modules
    }

    /// Parameters of all modules.
    pub fn parameters(&self) -> u64 {
        self.modules.iter().map(|module| module.shape()).map(|(out, input)| out as u64 * input as u64).sum()
    }

    /// Inner products of these rows with others: `rows` x `other.rows`, row by row.
    ///
    /// # Complexity
    /// O(rows x other rows x values of a row), in parallel.
    pub fn inner_products(&self, other: &Self) -> Vec<f64> {
        if self.rows <= SINGLE_ROWS_MAX {
            return (0..self.rows).flat_map(|row| self.products_of_row(row, other)).collect();
        }
        let mut products = vec![0.0; self.rows * other.rows];
        products.par_chunks_mut(BLOCK_ROWS * other.rows.max(1)).enumerate().for_each(|(block, out)| {
            let first = block * BLOCK_ROWS;
            let count = out.len() / other.rows.max(1);
            for (own, other_module) in self.modules.iter().zip(&other.modules) {
                add_products((own, first, count), (other_module, 0, other.rows), out);
            }
        });
        products
    }

    /// Inner products of one row with others. As a product of matrices it would first be written out in f64; here each value
    /// is read once, where it lies.
    fn products_of_row(&self, row: usize, other: &Self) -> Vec<f64> {
        let mut products = vec![0.0; other.rows];
        products.par_chunks_mut(BLOCK_ROWS).enumerate().for_each(|(block, out)| {
            for (own, module) in self.modules.iter().zip(&other.modules) {
                add_products_of_row((own, row), (module, block * BLOCK_ROWS), out);
            }
        });
        products
    }

    /// Inner products of these rows with each other.
    pub(super) fn kernel(&self) -> Mat<f64> {
        let mut kernel = Mat::zeros(self.rows, self.rows);
        let blocks = self.rows.div_ceil(BLOCK_ROWS);
        let pairs: Vec<(usize, usize)> =
            (0..blocks).flat_map(|row| (0..=row).map(move |column| (row, column))).collect();
        let range = |block: usize| (block * BLOCK_ROWS, BLOCK_ROWS.min(self.rows - block * BLOCK_ROWS));
        let products: Vec<Vec<f64>> = pairs
            .par_iter()
            .map(|(row, column)| {
                let ((first, count), (from, width)) = (range(*row), range(*column));
                let mut out = vec![0.0; count * width];
                for module in &self.modules {
                    add_products((module, first, count), (module, from, width), &mut out);
                }
                out
            })
            .collect();
        for ((row, column), values) in pairs.into_iter().zip(products) {
            let ((first, _), (from, width)) = (range(row), range(column));
            for (at, value) in values.into_iter().enumerate() {
                let (row, column) = (first + at / width, from + at % width);
                kernel[(row, column)] = value;
                kernel[(column, row)] = value;
            }
        }
        kernel
    }

    /// Squared length of each row's gradient.
    pub fn squared_norms(&self) -> Vec<f64> {
        let mut out = [0.0];
        let mut norms = Vec::with_capacity(self.rows);
        for row in 0..self.rows {
            out[0] = 0.0;
            for module in &self.modules {
                add_products((module, row, 1), (module, row, 1), &mut out);
            }
            norms.push(out[0]);
        }
        norms
    }
}

/// Adds the inner products of one row with as many others as `out` has places for, from row `first` on.
fn add_products_of_row(
    (own, row): (&ModuleGradients, usize),
    (other, first): (&ModuleGradients, usize),
    out: &mut [f64],
) {
    let dots = |vector: &[f32], others: &[f32]| {
        let mut sums = vec![0.0; others.len() / vector.len().max(1)];
        // Lengths that do not fit are those of two layouts, which are never compared.
        let _ = Kernels::best().dots_of(&WideQuery::new(vector), others, &mut sums);
        sums
    };
    match (own, other) {
        (
            ModuleGradients::Factored { rank, out: outputs, input, u, v },
            ModuleGradients::Factored { u: other_u, v: other_v, .. },
        ) => {
            let other_u = slice(other_u, first, out.len(), rank * outputs);
            let other_v = slice(other_v, first, out.len(), rank * input);
            for pair in row * rank..(row + 1) * rank {
                let outer = dots(slice(u, pair, 1, *outputs), other_u);
                let inner = dots(slice(v, pair, 1, *input), other_v);
                for ((place, outer), inner) in
                    out.iter_mut().zip(outer.chunks(*rank)).zip(inner.chunks(*rank))
                {
                    *place += outer.iter().zip(inner).map(|(outer, inner)| outer * inner).sum::<f64>();
                }
            }
        }
        (
            ModuleGradients::Dense { out: outputs, input, matrix },
            ModuleGradients::Dense { matrix: other, .. },
        ) => {
            let values = outputs * input;
            let whole = dots(slice(matrix, row, 1, values), slice(other, first, out.len(), values));
            out.iter_mut().zip(whole).for_each(|(place, product)| *place += product);
        }
        _ => {
            let count = out.len();
            add_products((own, row, 1), (other, first, count), out);
        }
    }
}

/// Some rows of a module: the first, and how many.
type Rows<'a> = (&'a ModuleGradients, usize, usize);

/// Adds the inner products of rows with others of the same module to `out`, row by row.
fn add_products(left: Rows<'_>, right: Rows<'_>, out: &mut [f64]) {
    let ((own, first, count), (other, from, width)) = (left, right);
    match (own, other) {
        (
            ModuleGradients::Factored { rank, out: outputs, input, u, v },
            ModuleGradients::Factored { u: other_u, v: other_v, .. },
        ) => {
            let outer = products(
                slice(u, first, count, rank * outputs),
                slice(other_u, from, width, rank * outputs),
                *outputs,
            );
            let inner = products(
                slice(v, first, count, rank * input),
                slice(other_v, from, width, rank * input),
                *input,
            );
            add_folded(&outer, &inner, *rank, (count, width), out);
        }
        (
            ModuleGradients::Dense { out: outputs, input, matrix },
            ModuleGradients::Dense { matrix: other, .. },
        ) => {
            let values = outputs * input;
            let whole =
                products(slice(matrix, first, count, values), slice(other, from, width, values), values);
            for (at, place) in out.iter_mut().enumerate() {
                *place += whole[(at / width, at % width)];
            }
        }
        (ModuleGradients::Sparse { .. }, ModuleGradients::Sparse { .. }) => {
            for (at, place) in out.iter_mut().enumerate() {
                *place += sparse_product((own, first + at / width), (other, from + at % width));
            }
        }
        // Gradients of two layouts are never compared.
        _ => {}
    }
}

fn slice<T>(values: &[T], first: usize, count: usize, width: usize) -> &[T] {
    &values[first * width..(first + count) * width]
}

/// Values in f64.
pub(super) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// Inner products of all vectors of `width` values in `left` with all in `right`.
fn products(left: &[f32], right: &[f32], width: usize) -> Mat<f64> {
    let (rows, columns) = (left.len() / width, right.len() / width);
    let mut product = Mat::zeros(rows, columns);
    let (left, right) = (wide(left), wide(right));
    let left = MatRef::from_row_major_slice(&left, rows, width);
    let right = MatRef::from_row_major_slice(&right, columns, width);
    matmul(&mut product, Accum::Replace, left, right.transpose(), 1.0, Par::Seq);
    product
}

/// Adds, for each pair of rows, the sum over their pairs of vectors of the products of both sides.
fn add_folded(
    outer: &Mat<f64>,
    inner: &Mat<f64>,
    rank: usize,
    (rows, columns): (usize, usize),
    out: &mut [f64],
) {
    // Products are stored column by column: both are read along it.
    for column in 0..columns {
        for other in 0..rank {
            let at = column * rank + other;
            let (outer, inner) = (outer.col(at), inner.col(at));
            let (Some(outer), Some(inner)) = (outer.try_as_col_major(), inner.try_as_col_major()) else {
                continue;
            };
            let (outer, inner) = (outer.as_slice(), inner.as_slice());
            for row in 0..rows {
                let mut sum = 0.0;
                for own in row * rank..(row + 1) * rank {
                    sum += outer[own] * inner[own];
                }
                out[row * columns + column] += sum;
            }
        }
    }
}

/// The inner product of two sparse rows: only places that both name count.
fn sparse_product((left, row): (&ModuleGradients, usize), (right, column): (&ModuleGradients, usize)) -> f64 {
    let (
        ModuleGradients::Sparse { rank, out, terms, u, v, places, .. },
        ModuleGradients::Sparse { u: other_u, v: other_v, places: other_places, .. },
    ) = (left, right)
    else {
        return 0.0;
    };
    let mut shared = Vec::new();
    for (at, place) in slice(places, row, 1, *terms).iter().enumerate() {
        for (other_at, other) in slice(other_places, column, 1, *terms).iter().enumerate() {
            if place == other && *place != SPARSE_PADDING {
                shared.push((at, other_at));
            }
        }
    }
    if shared.is_empty() {
        return 0.0;
    }
    let mut total = 0.0;
    for own in row * rank..(row + 1) * rank {
        for other in column * rank..(column + 1) * rank {
            let product = |(a, b): (&f32, &f32)| f64::from(*a) * f64::from(*b);
            let inner: f64 = shared
                .iter()
                .map(|(at, other_at)| product((&v[own * terms + at], &other_v[other * terms + other_at])))
                .sum();
            let outer: f64 =
                slice(u, own, 1, *out).iter().zip(slice(other_u, other, 1, *out)).map(product).sum();
            total += outer * inner;
        }
    }
    total
}
