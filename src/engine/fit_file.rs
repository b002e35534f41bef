//! What a fit keeps, and its bytes in a curvature file.

use serde::{Deserialize, Serialize};

use super::code_layout::CodeBits;
use super::fit_sums::SummedRows;
use super::member_codes::MemberCodes;
use super::wanted_codes::WantedCodes;
use crate::curvature::{
    CurvatureForm, CurvatureKind, DiagonalFit, DualFit, KroneckerFit, LandmarkFit, LeadingFit, MemberFactors,
    MemberGradients, PrimalFit, RowWeights, SymmetricView,
};
use crate::format::curvature_section;
use crate::storage::{FileError, SealedFile};

/// What stands at the beginning of a curvature file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct FitHead {
    pub(super) kind: String,
    pub(super) form: String,
    pub(super) damping: Vec<Vec<f64>>,
    pub(super) schema: String,
    pub(super) zero_rows: u64,
    /// Where the factors of Kronecker products come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) factors: Option<FactorsOrigin>,
    #[serde(default)]
    pub(super) landmarks: usize,
    /// Coordinates of each row's codes.
    #[serde(default)]
    pub(super) codes: usize,
    /// Bits of each.
    #[serde(default)]
    pub(super) code_bits: CodeBits,
}

/// Where the factors of Kronecker products come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FactorsOrigin {
    /// From the gradients of the column.
    Sketches,
    /// From activations and output gradients, which whoever measured them gave.
    Own,
}

impl FactorsOrigin {
    /// Name in answers: `sketches` or `own`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sketches => "sketches",
            Self::Own => "own",
        }
    }
}

impl FitHead {
    /// What stands at the beginning of a curvature file.
    pub(super) fn read(file: &SealedFile) -> Result<Self, FileError> {
        serde_json::from_slice(file.whole(curvature_section::HEAD)?)
            .map_err(|error| file.content_error(format!("its head: {error}")))
    }
}

/// What was fitted to one member.
pub(super) enum MemberFit {
    Nothing,
    Diagonal(DiagonalFit),
    Kronecker(KroneckerFit),
    Dual(DualFit),
    Primal(PrimalFit),
    Landmarks(LandmarkFit),
}

/// Gradients of all live rows, and what each weighs, member by member.
pub(super) struct FitInput {
    pub(super) kind: CurvatureKind,
    pub(super) form: CurvatureForm,
    pub(super) members: Vec<(MemberGradients, Vec<RowWeights>)>,
    pub(super) keys: Vec<String>,
    pub(super) prints: Vec<u64>,
    pub(super) zero_rows: u64,
    /// What the gradients add up to, for the forms that need it.
    pub(super) sums: Option<SummedRows>,
    /// Factors of Kronecker products, member by member, where they are not those of the gradients.
    pub(super) factors: Option<Vec<MemberFactors>>,
    /// Codes that are kept beside the fit.
    pub(super) codes: Option<WantedCodes>,
    /// Rows that stand for all of them.
    pub(super) landmarks: Vec<usize>,
    /// Their values and terms, as they stand in the file.
    pub(super) landmark_rows: (Vec<u8>, Vec<u8>),
}

impl MemberFit {
    pub(super) fn damping(&self) -> Vec<f64> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Diagonal(fit) => fit.damping.clone(),
            Self::Kronecker(fit) => fit.dampings().to_vec(),
            Self::Dual(fit) => vec![fit.damping],
            Self::Primal(fit) => vec![fit.damping()],
            Self::Landmarks(fit) => vec![fit.damping],
        }
    }

    fn inverse(&self) -> Option<SymmetricView<'_>> {
        match self {
            Self::Dual(fit) => Some(fit.inverse.view()),
            Self::Primal(fit) => Some(fit.inverse().view()),
            _ => None,
        }
    }
}

/// What is kept of the rows of a fit beside it.
#[derive(Default)]
pub(super) struct Beside {
    /// Squared lengths of their whitened gradients, member by member; none of the dual form.
    pub(super) lengths: Vec<Vec<f64>>,
    /// Codes, member by member; none if none are asked for.
    pub(super) codes: Vec<MemberCodes>,
}

/// Bytes of the smaller sections.
pub(super) struct FileParts {
    key_ends: Vec<u8>,
    key_bytes: Vec<u8>,
    pub(super) prints: Vec<u8>,
    weights: Vec<u8>,
    bases: Vec<u8>,
    diagonal: Vec<u8>,
    lengths: Vec<u8>,
    code_factors: Vec<u8>,
    code_scales: Vec<u8>,
}

impl FileParts {
    pub(super) fn new(input: &FitInput, fits: &[MemberFit], beside: &Beside) -> Self {
        let (mut end, mut key_ends) = (0_u64, Vec::new());
        for key in &input.keys {
            end += key.len() as u64;
            key_ends.extend_from_slice(&end.to_le_bytes());
        }
        let bytes = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let (mut weights, mut diagonal, mut bases) = (Vec::new(), Vec::new(), Vec::new());
        for fit in fits {
            match fit {
                MemberFit::Dual(DualFit { factors, .. })
                | MemberFit::Landmarks(LandmarkFit { factors, .. }) => {
                    weights.extend(bytes(factors));
                }
                MemberFit::Diagonal(fit) => diagonal.extend(bytes(&fit.values)),
                MemberFit::Kronecker(fit) => {
                    bases.extend(bytes(&fit.bases()));
                    diagonal.extend(bytes(&fit.divisors()));
                }
                _ => {}
            }
        }
        Self {
            key_ends,
            key_bytes: input.keys.concat().into_bytes(),
            prints: input.prints.iter().flat_map(|print| print.to_le_bytes()).collect(),
            weights,
            bases,
            diagonal,
            lengths: beside.lengths.iter().flat_map(|lengths| bytes(lengths)).collect(),
            code_factors: leading(beside).flat_map(|leading| bytes(&leading.factors)).collect(),
            code_scales: beside
                .codes
                .iter()
                .flat_map(|codes| codes.scales.iter().flat_map(|scale| scale.to_le_bytes()))
                .collect(),
        }
    }

    /// The sections that this kind and form have.
    pub(super) fn sections<'a>(
        &'a self,
        head: &'a [u8],
        input: &'a FitInput,
        fits: &'a [MemberFit],
        beside: &'a Beside,
    ) -> Vec<(u32, Vec<&'a [u8]>)> {
        let mut sections: Vec<(u32, Vec<&[u8]>)> = vec![(curvature_section::HEAD, vec![head])];
        sections.push((curvature_section::KEYS, vec![&self.key_ends, &self.key_bytes]));
        sections.push((curvature_section::PRINTS, vec![&self.prints]));
        if !self.weights.is_empty() {
            sections.push((curvature_section::WEIGHTS, vec![&self.weights]));
        }
        let inverses: Vec<SymmetricView<'_>> = fits.iter().filter_map(MemberFit::inverse).collect();
        if !inverses.is_empty() {
            let pieces = inverses.iter().map(|inverse| inverse.high.as_flattened()).collect();
            sections.push((curvature_section::INVERSE, pieces));
            let pieces = inverses.iter().map(|inverse| inverse.low.as_flattened()).collect();
            sections.push((curvature_section::INVERSE_REST, pieces));
        }
        let through: Vec<&LandmarkFit> = fits
            .iter()
            .filter_map(|fit| if let MemberFit::Landmarks(fit) = fit { Some(fit) } else { None })
            .collect();
        let codes = &beside.codes;
        if !through.is_empty() || leading(beside).next().is_some() {
            let (values, terms) = &input.landmark_rows;
            sections.push((curvature_section::LANDMARKS, vec![values, terms]));
        }
        if !through.is_empty() {
            let mixing = through.iter().map(|fit| fit.mixing.as_flattened()).collect();
            sections.push((curvature_section::MIXING, mixing));
            sections
                .push((curvature_section::SUMS, through.iter().map(|fit| fit.sums.as_flattened()).collect()));
        }
        if !self.bases.is_empty() {
            sections.push((curvature_section::BASES, vec![&self.bases]));
        }
        if !self.diagonal.is_empty() {
            sections.push((curvature_section::DIAGONAL, vec![&self.diagonal]));
        }
        if !self.lengths.is_empty() {
            sections.push((curvature_section::LENGTHS, vec![&self.lengths]));
        }
        if !codes.is_empty() {
            if !self.code_factors.is_empty() {
                sections.push((curvature_section::CODE_FACTORS, vec![&self.code_factors]));
                let matrices = leading(beside).map(|leading| leading.matrix.as_flattened()).collect();
                sections.push((curvature_section::CODE_MATRIX, matrices));
            }
            sections
                .push((curvature_section::CODES, codes.iter().map(|codes| codes.codes.as_slice()).collect()));
            sections.push((curvature_section::CODE_SCALES, vec![&self.code_scales]));
        }
        sections
    }
}

/// What makes leading coordinates, member by member; nothing where all are kept.
fn leading(beside: &Beside) -> impl Iterator<Item = &LeadingFit> {
    beside.codes.iter().filter_map(|codes| codes.leading.as_ref())
}
