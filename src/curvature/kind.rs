//! Curvatures and their forms, as users name them.

use super::damping::{DAMPING_RATIO, DIAGONAL_DAMPING_RATIO};

/// How gradients are weighed against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CurvatureKind {
    /// Not at all: inner products of gradients.
    Identity,
    /// By the mean square of each parameter's gradient.
    Diagonal,
    /// By the damped empirical Fisher matrix over all modules jointly.
    Fisher,
    /// By one Newton step in the margin kernel, weighted by the whole course of training.
    Margin,
}

impl CurvatureKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Identity, Self::Diagonal, Self::Fisher, Self::Margin];

    /// Name in settings and answers: `identity`, `diagonal`, `fisher` or `margin`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Diagonal => "diagonal",
            Self::Fisher => "fisher",
            Self::Margin => "margin",
        }
    }

    /// The damping that is taken where none is named, as a share of the kernel's trace, or of each module's mean for
    /// `diagonal`; `identity` has none.
    ///
    /// ```
    /// use ascribe::curvature::{CurvatureKind, DAMPING_RATIO};
    /// assert_eq!(CurvatureKind::Margin.damping_ratio(), Some(DAMPING_RATIO));
    /// assert_eq!(CurvatureKind::Identity.damping_ratio(), None);
    /// ```
    pub fn damping_ratio(self) -> Option<f64> {
        match self {
            Self::Identity => None,
            Self::Diagonal => Some(DIAGONAL_DAMPING_RATIO),
            Self::Fisher | Self::Margin => Some(DAMPING_RATIO),
        }
    }

    /// The kind of this [`name`](Self::name), if any.
    ///
    /// ```
    /// use ascribe::curvature::CurvatureKind;
    /// assert_eq!(CurvatureKind::from_name("margin"), Some(CurvatureKind::Margin));
    /// assert_eq!(CurvatureKind::from_name("kfac"), None);
    /// ```
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// How a curvature is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CurvatureForm {
    /// Nothing is solved: identity and diagonal.
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
