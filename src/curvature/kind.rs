//! Curvatures and their forms, as users name them.

use super::damping::{DAMPING_RATIO, MODULE_DAMPING_RATIO};
use super::kronecker::KroneckerEigenvalues;
use super::row_weights::RowWeights;

/// How gradients are weighed against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CurvatureKind {
    /// Not at all: inner products of gradients.
    Identity,
    /// By the mean square of each parameter's gradient.
    Diagonal,
    /// By a Kronecker product for each module: K-FAC.
    Kfac,
    /// By the eigenvectors of that product, with eigenvalues measured along them: EK-FAC.
    Ekfac,
    /// By the damped empirical Fisher matrix over all modules jointly.
    Fisher,
    /// By the damped second moment of the gradients of margins: TRAK.
    Trak,
    /// By one Newton step in the margin kernel, weighted by the whole course of training.
    Margin,
}

impl CurvatureKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Identity, Self::Diagonal, Self::Kfac, Self::Ekfac, Self::Fisher, Self::Trak, Self::Margin];

    /// Name in settings and answers: `identity`, `diagonal`, `kfac`, `ekfac`, `fisher`, `trak` or `margin`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Diagonal => "diagonal",
            Self::Kfac => "kfac",
            Self::Ekfac => "ekfac",
            Self::Fisher => "fisher",
            Self::Trak => "trak",
            Self::Margin => "margin",
        }
    }

    /// The damping that is taken where none is named, as a share of the kernel's trace, or of each module's mean
    /// eigenvalue for `diagonal`, `kfac` and `ekfac`; `identity` has none.
    ///
    /// ```
    /// use ascribe::curvature::{CurvatureKind, DAMPING_RATIO};
    /// assert_eq!(CurvatureKind::Margin.damping_ratio(), Some(DAMPING_RATIO));
    /// assert_eq!(CurvatureKind::Identity.damping_ratio(), None);
    /// ```
    pub fn damping_ratio(self) -> Option<f64> {
        match self {
            Self::Identity => None,
            Self::Diagonal | Self::Kfac | Self::Ekfac => Some(MODULE_DAMPING_RATIO),
            Self::Fisher | Self::Trak | Self::Margin => Some(DAMPING_RATIO),
        }
    }

    /// How the eigenvalues of its Kronecker products are found; `None` if it has none.
    pub fn kronecker(self) -> Option<KroneckerEigenvalues> {
        match self {
            Self::Kfac => Some(KroneckerEigenvalues::Products),
            Self::Ekfac => Some(KroneckerEigenvalues::Measured),
            _ => None,
        }
    }

    /// Whether it has the direct form only.
    pub fn is_direct(self) -> bool {
        !matches!(self, Self::Fisher | Self::Trak | Self::Margin)
    }

    /// What a row weighs of which 1 - p of its own label was measured, `own`, and the probability of that label over training; `None` of a
    /// kind that weighs all rows alike and needs no such measurement.
    pub fn weights(self, own: f32, trained: Option<f32>) -> Option<RowWeights> {
        match self {
            Self::Trak => Some(RowWeights::trak(own)),
            Self::Margin => Some(RowWeights::margin(own, trained)),
            _ => None,
        }
    }

    /// Whether rows are weighed by the probability of their own label.
    pub fn is_weighted(self) -> bool {
        matches!(self, Self::Trak | Self::Margin)
    }

    /// The kind of this [`name`](Self::name), if any.
    ///
    /// ```
    /// use ascribe::curvature::CurvatureKind;
    /// assert_eq!(CurvatureKind::from_name("margin"), Some(CurvatureKind::Margin));
    /// assert_eq!(CurvatureKind::from_name("tracin"), None);
    /// ```
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// How a curvature is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CurvatureForm {
    /// By a formula for each module: identity, diagonal, kfac and ekfac.
    Direct,
    /// By an inverse in the space of rows.
    Dual,
    /// By an inverse in the space of parameters.
    Primal,
    /// By an inverse in the space of rows, as it looks from a few of them.
    Landmarks,
}

impl CurvatureForm {
    /// Every form.
    pub const ALL: [Self; 4] = [Self::Direct, Self::Dual, Self::Primal, Self::Landmarks];

    /// Name in settings and answers: `direct`, `dual`, `primal` or `landmarks`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Dual => "dual",
            Self::Primal => "primal",
            Self::Landmarks => "landmarks",
        }
    }

    /// The form of this [`name`](Self::name), if any.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.name() == name)
    }
}
