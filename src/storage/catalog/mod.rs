//! The catalog: the writer's truth, one redb transaction a commit.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `backend.rs` | redb's file on our storage, or in memory |
//! | `check.rs` | whether a catalog that was not closed cleanly can be trusted |
//! | `database.rs` | tables, opening, the transaction of a commit |

mod backend;
mod check;
mod database;

pub use check::{CatalogCheck, CheckInProcess, check_catalog_bytes};
pub(super) use database::Catalog;
pub use database::{CATALOG_NAME, CatalogError};
