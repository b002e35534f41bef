//! Floor 3: which rows are looked at.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `scan.rs` | scores of a range of rows by an exact scan over their stored values |

mod scan;

pub use scan::{RowScore, RowValues, ScanError, score_rows};
