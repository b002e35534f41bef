//! Names of the kinds of scores.

use std::fmt;

use crate::index::RowScore;

/// What a score of query q and row x is, both after the curvature was applied.
///
/// ```
/// use ascribe::attribution::ScoreKind;
/// assert_eq!(ScoreKind::from_name("cosine"), Some(ScoreKind::Cosine));
/// assert_eq!(ScoreKind::default().to_string(), "dot");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ScoreKind {
    /// q . x: the influence itself.
    #[default]
    Dot,
    /// q . x / (||q|| ||x||), in -1..=1.
    Cosine,
    /// q . x / ||x||: influence per norm of the row, so that rows with large gradients do not answer every query.
    Relatif,
}

impl ScoreKind {
    /// Every kind.
    pub const ALL: [ScoreKind; 3] = [Self::Dot, Self::Cosine, Self::Relatif];

    /// Name in flags and answers: `dot`, `cosine`, `relatif`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dot => "dot",
            Self::Cosine => "cosine",
            Self::Relatif => "relatif",
        }
    }

    /// The kind of this [`name`](Self::name), if any.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What the scan computes for this kind, for a query of norm `query_norm`.
    pub fn row_score(self, query_norm: f64) -> RowScore {
        match self {
            Self::Dot => RowScore::Dot,
            Self::Cosine => RowScore::Cosine { query_norm },
            Self::Relatif => RowScore::Relatif,
        }
    }
}

impl fmt::Display for ScoreKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
