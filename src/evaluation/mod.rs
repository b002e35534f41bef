//! Floor 6: how good the answers are: against exact answers, and against models that were trained again.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `group_scores.rs` | scores of rows summed over subsets of them |
//! | `hits.rs` | one answer compared with the exact one |
//! | `label_detection.rs` | how well scores find wrong labels |
//! | `lds.rs` | linear datamodelling score: group scores against retrained models, with intervals |
//! | `lds_tests.rs` | its tests, on simulated truths |
//! | `permutation_null.rs` | what chance alone gives: group scores against permuted subsets |
//! | `ranking_agreement.rs` | how well rankings agree with exact scores: NDCG |
//! | `recall.rs` | recall of the planner against exact answers, with intervals |
//! | `retraining_truth.rs` | outputs of retrained models, and how far their noise lets a method come |
//! | `truth_file.rs` | truth files: outputs with the keys of rows and queries |

mod group_scores;
mod hits;
mod label_detection;
mod lds;
mod permutation_null;
mod ranking_agreement;
mod recall;
mod retraining_truth;
mod truth_file;

pub use group_scores::{GroupScoresError, group_sums, keep_same_label};
pub use hits::recall_of;
pub use label_detection::{LabelDetection, label_detection};
pub use lds::{LdsError, LdsOptions, LdsReport, MethodLds, PairedDifference, linear_datamodelling_score};
pub use permutation_null::{PermutationNull, PermutationOptions, permutation_null};
pub use ranking_agreement::{NdcgReport, RankingAgreement, highest_rows};
pub use recall::{RecallError, RecallOptions, RecallReport, measure_recall};
pub use retraining_truth::{RetrainingTruth, TruthError};
pub use truth_file::{TruthFile, TruthFileError};
