//! Floor 6: what to look at. The label audit ranks rows by how probably their label is wrong.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `audited_rows.rs` | the rows of a store that have a label, with what is known of them |
//! | `error.rs` | why labels cannot be audited |
//! | `label_audit.rs` | rows ranked by how probably their label is wrong |
//! | `neighbours.rs` | what the nearest rows say of a row's label |
//! | `ridge.rs` | what a fit to the other rows says of a row's label |

mod audited_rows;
mod error;
mod label_audit;
mod neighbours;
mod ridge;

pub use error::LabelAuditError;
pub use label_audit::{
    AuditKernel, AuditedRow, LabelAudit, LabelAuditOptions, TrainingSignal, audit_labels, combined_scores,
};
pub use neighbours::{NeighbourVote, neighbour_vote};
