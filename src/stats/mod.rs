//! Floor 1: statistics. Pure functions of numbers; what they need of chance comes from a seed.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `bootstrap.rs` | how sure a mean is: intervals from resampling |
//! | `discrimination.rs` | how well scores tell positives from the rest, and a ranking the best rows |
//! | `normal.rs` | the inverse of the normal distribution, normal scores, robust z |
//! | `percentile_ends.rs` | the ends of an interval among resampled figures |
//! | `rank_order.rs` | an order that ranks resamples of its values without sorting again |
//! | `ranks.rs` | average ranks, Pearson and Spearman correlation |
//! | `sample_error.rs` | values that nothing can be computed of |

mod bootstrap;
mod discrimination;
mod normal;
mod percentile_ends;
mod rank_order;
mod ranks;
mod sample_error;

pub use bootstrap::{Interval, mean_interval};
pub use discrimination::{Inspection, descending_order, inspect_top, ndcg, roc_auc};
pub use normal::{inverse_normal, median, normal_scores, robust_z};
pub use percentile_ends::percentile_ends;
pub use rank_order::RankOrder;
pub use ranks::{average_ranks, pearson_correlation, spearman_correlation};
pub use sample_error::SampleError;
