//! Floor 6: how good the answers are, measured on a store as it is.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `hits.rs` | one answer compared with the exact one |
//! | `recall.rs` | recall of the planner against exact answers, with intervals |

mod hits;
mod recall;

pub use hits::recall_of;
pub use recall::{RecallError, RecallOptions, RecallReport, measure_recall};
