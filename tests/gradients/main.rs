//! Gradients of rows through the library: what is imported, fitted, scored and refused, against other libraries and against
//! the formulas written out.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `agreement.rs` | scores of other libraries, in every element type |
//! | `changes.rs` | rows that come, leave or are replaced after a fit |
//! | `curvatures.rs` | every curvature against its formula, for rows inside and outside of the fit |
//! | `damage.rs` | damaged curvature files |
//! | `dampings.rs` | dampings that are tried, beside those that are fitted |
//! | `filling.rs` | gradients of rows that are there already |
//! | `formula.rs` | the formulas, in whole matrices and by plain elimination |
//! | `gradients.rs` | gradients in memory, of which some may be imported |
//! | `hybrid.rs` | rows found by embeddings and scored by gradients |
//! | `kinds.rs` | normalised scores, layers, and what is predicted without some rows |
//! | `lengths.rs` | lengths of whitened gradients, kept and computed |
//! | `members.rs` | several members with shared inputs |
//! | `ranking.rs` | rows at both ends against the scores of all rows |
//! | `refusals.rs` | what is not imported, fitted or answered, and that nothing is left of it |
//! | `scene.rs` | stores in memory, and what is asked of them |
//! | `sums.rs` | sums of gradients that are kept for later fits |
//! | `tensors.rs` | sketch files made in memory |

// Failing is what a test is for; clippy sees only functions marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agreement;
mod changes;
mod curvatures;
mod damage;
mod dampings;
mod filling;
mod formula;
mod gradients;
mod hybrid;
mod kinds;
mod lengths;
mod members;
mod ranking;
mod refusals;
mod scene;
mod sums;
mod tensors;
