//! Floor 6: training of what answers and of what is answered about.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `affine.rs` | a linear layer with its gradients |
//! | `error.rs` | why a training fails |
//! | `head.rs` | training of the classification head |
//! | `head_store.rs` | a head trained on a store's embeddings, with the gradients of its rows as a column |
//! | `members.rs` | heads along several trainings, and the course of their probabilities |
//! | `rows.rs` | rows with features and labels |
//! | `truth.rs` | what the data does, by training without half of it |
//! | `truth_store.rs` | that of a store's head, as a file, resumed from what was measured before |

mod affine;
mod error;
mod head;
mod head_store;
mod members;
mod rows;
mod truth;
mod truth_store;

pub use error::TrainingError;
pub use head::{HeadEpoch, train_head};
pub use head_store::{HeadPlan, HeadReport, train_store_head};
pub use members::{HeadMember, HeadMembers, HeadTrajectory, MemberPlan, train_members};
pub use rows::LabelledRows;
pub use truth::{Truth, TruthPlan, TruthPosition, half_subset, measure_truth};
pub use truth_store::{TruthQuery, TruthReport, measure_store_truth};
