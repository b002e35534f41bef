//! The formulas of influence, written out: whole matrices in f64 and plain elimination, read from the tensors of a file.

use ascribe::curvature::CurvatureKind;
use ascribe::sources::TensorSet;
use serde_json::Value;

use crate::tensors::values;

/// Damping of the kernel, as a share of its trace: 0.3 / 512.
pub(crate) const SHARE_OF_TRACE: f64 = 5.859375e-4;

/// A matrix as its rows.
type Matrix = Vec<Vec<f64>>;

/// Whole gradients at one member's checkpoint.
pub(crate) struct Member {
    /// For each row and module the matrix, laid end to end.
    pub(crate) gradients: Vec<Vec<Vec<f64>>>,
    /// 1 - p of each row's own label.
    pub(crate) own: Vec<f64>,
}

/// The gradients of a file.
pub(crate) struct Written {
    pub(crate) modules: Vec<String>,
    pub(crate) members: Vec<Member>,
    /// Mean probability of each row's own label over training, weighted, as stored.
    pub(crate) trained: Vec<f64>,
}

/// Which inverse, and which rows it is made of.
pub(crate) struct Fit<'a> {
    pub(crate) written: &'a Written,
    pub(crate) kind: CurvatureKind,
    /// Rows that the damping was taken from.
    pub(crate) fitted: &'a [usize],
    /// Those of them that are still there.
    pub(crate) there: &'a [usize],
}

/// One member's inverse over the rows that are there.
struct Solved {
    damping: f64,
    inverse: Matrix,
}

impl Written {
    pub(crate) fn of_file(bytes: &[u8]) -> Self {
        let tensors = TensorSet::new(bytes, "sketches").unwrap();
        let schema: Value = serde_json::from_str(tensors.metadata("schema").unwrap()).unwrap();
        let modules = schema["modules"].as_array().unwrap();
        let count = schema["members"].as_u64().unwrap() as usize;
        let members: Vec<Member> = (0..count).map(|member| read_member(&tensors, member, modules)).collect();
        let rows = members[0].gradients.len();
        let trained = match tensors.tensor("trajectory.p") {
            None => vec![f64::NAN; rows],
            Some(_) => {
                let (course, weights) =
                    (values(&tensors, "trajectory.p"), values(&tensors, "trajectory.weight"));
                let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
                let mean = |course: &[f32]| {
                    let terms = course.iter().zip(&weights).map(|(p, w)| f64::from(*p) * f64::from(*w));
                    // Stored in single precision.
                    f64::from((terms.sum::<f64>() / total) as f32)
                };
                course.chunks(weights.len()).map(mean).collect()
            }
        };
        let name = |module: &Value| module["name"].as_str().unwrap().to_owned();
        Self { modules: modules.iter().map(name).collect(), members, trained }
    }

    /// The factor of a row in the margin kernel, and that of its score.
    pub(crate) fn weights(&self, member: usize, row: usize) -> (f64, f64) {
        let p = self.trained[row].clamp(1e-4, 1.0 - 1e-4);
        let own = self.members[member].own[row].max(1e-12);
        ((p * (1.0 - p)).sqrt() / own, ((1.0 - p) / p).sqrt())
    }
}

fn read_member(tensors: &TensorSet<'_>, member: usize, modules: &[Value]) -> Member {
    let mut gradients: Vec<Vec<Vec<f64>>> = Vec::new();
    for module in modules {
        let name = module["name"].as_str().unwrap();
        let [out, input, rank] =
            ["out", "in", "rank"].map(|width| module[width].as_u64().unwrap_or(1) as usize);
        let of = |side: &str| values(tensors, &format!("m{member}.{name}.{side}"));
        let whole: Vec<Vec<f64>> = match module["encoding"].as_str().unwrap() {
            "dense" => of("g")
                .chunks(out * input)
                .map(|row| row.iter().map(|value| f64::from(*value)).collect())
                .collect(),
            encoding => {
                let is_shared = module["shared_input"].as_bool().unwrap_or(false);
                let v = if is_shared { values(tensors, &format!("m0.{name}.v")) } else { of("v") };
                let terms = module["terms"].as_u64().unwrap_or(0) as usize;
                let width = if encoding == "sparse" { terms } else { input };
                let u = of("u");
                let rows = u.len() / (rank * out);
                let place = |row: usize, at: usize| match encoding {
                    "sparse" => place_of(tensors, &format!("m{member}.{name}.ids"), row, at),
                    _ => Some(at),
                };
                let row = |row: usize| {
                    let mut matrix = vec![0.0; out * input];
                    for pair in row * rank..(row + 1) * rank {
                        for at in 0..width {
                            let Some(column) = place(row, at) else { continue };
                            for line in 0..out {
                                matrix[line * input + column] +=
                                    f64::from(u[pair * out + line]) * f64::from(v[pair * width + at]);
                            }
                        }
                    }
                    matrix
                };
                (0..rows).map(row).collect()
            }
        };
        gradients.resize(whole.len(), Vec::new());
        gradients.iter_mut().zip(whole).for_each(|(row, matrix)| row.push(matrix));
    }
    let own = match tensors.tensor(&format!("m{member}.own")) {
        Some(_) => values(tensors, &format!("m{member}.own")),
        None => vec![f32::NAN; gradients.len()],
    };
    Member { gradients, own: own.into_iter().map(f64::from).collect() }
}

fn place_of(tensors: &TensorSet<'_>, name: &str, row: usize, at: usize) -> Option<usize> {
    let ids = tensors.tensor(name).unwrap();
    let mut own = vec![0; ids.width()];
    ids.read_integers(row, &mut own);
    usize::try_from(own[at]).ok()
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(a, b)| a * b).sum()
}

/// The inner product of two whole gradients.
pub(crate) fn product(left: &[Vec<f64>], right: &[Vec<f64>]) -> f64 {
    left.iter().zip(right).map(|(a, b)| dot(a, b)).sum()
}

/// The inverse of a matrix, by elimination with the largest pivot of each column.
fn inverse(mut matrix: Matrix) -> Matrix {
    let size = matrix.len();
    let mut result: Matrix =
        (0..size).map(|row| (0..size).map(|column| f64::from(u8::from(row == column))).collect()).collect();
    for column in 0..size {
        let largest = (column..size)
            .max_by(|a, b| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs()))
            .unwrap();
        matrix.swap(column, largest);
        result.swap(column, largest);
        let pivot = matrix[column][column];
        assert!(pivot != 0.0, "the matrix has no inverse");
        for values in [&mut matrix[column], &mut result[column]] {
            values.iter_mut().for_each(|value| *value /= pivot);
        }
        for row in (0..size).filter(|row| *row != column) {
            let factor = matrix[row][column];
            for values in [&mut matrix, &mut result] {
                let line = values[column].clone();
                values[row].iter_mut().zip(&line).for_each(|(value, own)| *value -= factor * own);
            }
        }
    }
    result
}

impl Fit<'_> {
    fn weights(&self, member: usize, row: usize) -> (f64, f64) {
        let own = self.written.members[member].own.get(row).copied().unwrap_or(1.0);
        match self.kind {
            CurvatureKind::Margin => self.written.weights(member, row),
            CurvatureKind::Trak => (1.0 / own.max(1e-12), own),
            _ => (1.0, 1.0),
        }
    }

    fn gradient(&self, member: usize, row: usize) -> &[Vec<f64>] {
        &self.written.members[member].gradients[row]
    }

    /// An entry of the kernel of rows that are scaled by their factors.
    fn kernel(&self, member: usize, left: usize, right: usize) -> f64 {
        let factors = self.weights(member, left).0 * self.weights(member, right).0;
        factors * product(self.gradient(member, left), self.gradient(member, right))
    }

    /// What is added to the diagonal of a member's kernel.
    pub(crate) fn damping(&self, member: usize) -> f64 {
        SHARE_OF_TRACE * self.fitted.iter().map(|row| self.kernel(member, *row, *row)).sum::<f64>()
    }

    /// The inverse of the damped kernel of these rows.
    fn solved(&self, member: usize, rows: &[usize]) -> Solved {
        let damping = self.damping(member);
        let entry = |row: usize, column: usize| {
            self.kernel(member, rows[row], rows[column]) + if row == column { damping } else { 0.0 }
        };
        let line = |row: usize| (0..rows.len()).map(|column| entry(row, column)).collect();
        Solved { damping, inverse: inverse((0..rows.len()).map(line).collect()) }
    }

    /// Scores of one member's gradient `query` for some rows, inside or outside of the fit.
    pub(crate) fn scores(&self, member: usize, query: &[Vec<f64>], rows: &[usize]) -> Vec<f64> {
        let Solved { damping, inverse } = self.solved(member, self.there);
        let count = self.there.len() as f64;
        let right: Vec<f64> = self
            .there
            .iter()
            .map(|row| product(query, self.gradient(member, *row)) * self.weights(member, *row).0)
            .collect();
        let solution: Vec<f64> = inverse.iter().map(|line| dot(line, &right)).collect();
        let score = |row: &usize| {
            let (factor, of_score) = self.weights(member, *row);
            if let Some(number) = self.there.iter().position(|there| there == row) {
                return count * solution[number] * of_score;
            }
            let kernel: Vec<f64> = self.there.iter().map(|there| self.kernel(member, *there, *row)).collect();
            let direct = product(query, self.gradient(member, *row)) * factor;
            count / damping * (direct - dot(&solution, &kernel)) * of_score
        };
        rows.iter().map(score).collect()
    }

    /// How much of its own fit a row is, or would be if it were one of the rows of the fit.
    pub(crate) fn leverage(&self, member: usize, row: usize) -> f64 {
        let mut rows = self.there.to_vec();
        if !rows.contains(&row) {
            rows.push(row);
        }
        let number = rows.iter().position(|own| *own == row).unwrap();
        let solved = self.solved(member, &rows);
        1.0 - solved.damping * solved.inverse[number][number]
    }
}

/// Scores centred and divided by their standard deviation.
pub(crate) fn standardised(scores: &[f64]) -> Vec<f64> {
    let count = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / count;
    let deviation = (scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / count).sqrt();
    scores.iter().map(|score| (score - mean) / deviation).collect()
}

/// The mean of several lists.
pub(crate) fn mean_of(lists: &[Vec<f64>]) -> Vec<f64> {
    let count = lists.len() as f64;
    (0..lists[0].len()).map(|at| lists.iter().map(|list| list[at]).sum::<f64>() / count).collect()
}
