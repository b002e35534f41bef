//! Floor 4: signed scores and who is at either end.
//!
//! A positive score is a proponent, a negative one an opponent.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `chunk.rs` | the scores of a range of rows, and which of them count |
//! | `kind.rs` | names of the kinds of scores |
//! | `percentile.rs` | exact percentiles of a batch of scores among a population |
//! | `selection.rs` | the k strongest proponents and opponents, in a total order |
//! | `unusual.rs` | mean and standard deviation of a population, z of a score |

mod chunk;
mod kind;
mod percentile;
mod selection;
mod unusual;

pub use chunk::ScoreChunk;
pub use kind::ScoreKind;
pub use percentile::{RankCounter, UnlikeCounters, percentiles};
pub use selection::{KeyLookup, RankedRows, ScoredRow, Selection, SelectionSizeError, Side};
pub use unusual::Moments;
