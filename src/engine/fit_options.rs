//! What is to be fitted, and what a fit did.

use super::code_layout::CodeBits;
use super::fit_file::FactorsOrigin;
use super::fit_sums::FitSums;
use crate::base::CommitSeq;
#[cfg(doc)]
use crate::base::limits::LANDMARKS_DEFAULT;
use crate::curvature::{CurvatureForm, CurvatureKind, MemberFactors};

/// What is to be fitted.
#[derive(Clone, Debug, Default)]
pub struct FitOptions {
    /// The sketch column; `None`: the only one.
    pub column: Option<String>,
    /// The curvature; `None`: `margin` where the sketches carry what it needs, `fisher` otherwise.
    pub kind: Option<CurvatureKind>,
    /// How it is computed; `None`: by the smaller matrix, and through landmarks where both are too large.
    pub form: Option<CurvatureForm>,
    /// Rows that stand for all of them in the landmarks form; `None`: [`LANDMARKS_DEFAULT`].
    pub landmarks: Option<usize>,
    /// Keep codes of that many leading coordinates of each row's half-whitened gradients, by which hybrid scores find candidates; `None`:
    /// no codes of 8 bits, and of one bit as many coordinates as there usually are.
    pub codes: Option<usize>,
    /// Bits of each coordinate. One bit is for half-whitened coordinates only: all of them for `diagonal`, `kfac` and `ekfac`, with a scale
    /// for each module, and the leading ones of `fisher` and `margin`.
    pub code_bits: CodeBits,
    /// Damping as a share of the trace (`fisher`, `margin`) or of each module's mean eigenvalue (`diagonal`, `kfac`, `ekfac`);
    /// `None`: what was measured to be best.
    pub damping: Option<f64>,
    /// Of `kfac` and `ekfac`: each member's and module's factors as they were measured beside the gradients; `None`: those that the
    /// gradients tell.
    pub factors: Option<Vec<MemberFactors>>,
}

/// What a fit did.
#[derive(Clone, Debug, PartialEq)]
pub struct FitReport {
    /// Version of the curvature.
    pub version: u64,
    /// The column.
    pub column: String,
    /// The curvature.
    pub kind: CurvatureKind,
    /// How it is computed.
    pub form: CurvatureForm,
    /// Rows that it was fitted to.
    pub rows: u64,
    /// Rows among them whose gradients are zero: they are kept, and score 0.
    pub zero_rows: u64,
    /// Members.
    pub members: u32,
    /// Parameters of one member.
    pub parameters: u64,
    /// What was added to the diagonal, for each member; of `diagonal`, `kfac` and `ekfac` for each module of each
    /// member.
    pub damping: Vec<Vec<f64>>,
    /// Of the landmarks form: how far the first member's scores of some rows are from those of the whole inverse, as a share of
    /// these (root mean squares over all rows).
    pub landmark_error: Option<f64>,
    /// Of `kfac` and `ekfac`: where their factors come from.
    pub factors: Option<FactorsOrigin>,
    /// Codes that were kept.
    pub codes: Option<CodesReport>,
    /// Of the primal form and of `diagonal`: which sums were kept, and how many rows were added up and taken away.
    pub sums: Option<FitSums>,
    /// Bytes of its file.
    pub bytes: u64,
    /// The commit that holds it.
    pub commit: CommitSeq,
}

/// Codes that a fit kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodesReport {
    /// Coordinates of each row and member.
    pub coordinates: usize,
    /// Bits of each.
    pub bits: CodeBits,
    /// How much of the first member's summed squared coordinates they hold, 0 to 1.
    pub share: f64,
}
