//! `create`: a new store.

use std::fs;

use clap::Args;

use super::failure::Failure;
use super::schema::{parse_column, parse_field};
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use crate::answers::schema_report;
use crate::base::FieldDeclaration;
use crate::engine::{CreateOptions, EMBEDDING_COLUMN_NAME, Store};

/// Make a new store
///
/// A store keeps rows (key, text, fields) and, for each of its columns, one vector a row. The first column is
/// called "embedding"; more can be added later with "ascribe alter".
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe create pets --encoder hashed:256 --field year:integer
  ascribe stats pets")]
pub(super) struct CreateArguments {
    #[command(flatten)]
    store: StoreArguments,
    /// Where vectors come from: "vectors:DIM" (you bring them), "hashed[:DIM]" (made from words, no model needed), or the
    /// folder of a BERT model such as ./MiniLM, which is copied into the store; ":f16", ":bf16" or ":int8" behind it stores
    /// smaller values than f32
    #[arg(long, value_name = "ENCODER", required = true)]
    encoder: String,
    /// Declare a metadata field that filters may use; types: text, integer, float, boolean, timestamp
    #[arg(long = "field", value_name = "NAME:TYPE", value_parser = parse_field)]
    fields: Vec<FieldDeclaration>,
    #[command(flatten)]
    output: OutputArguments,
}

impl CreateArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let columns = vec![parse_column(EMBEDDING_COLUMN_NAME, &self.encoder)?];
        let create = CreateOptions { fields: self.fields, columns };
        let path = &self.store.path;
        let made = !path.exists();
        fs::create_dir_all(path).map_err(|error| {
            Failure::Failed(format!("cannot create the folder {}: {error}", path.display()))
        })?;
        let created = Store::create(self.store.storage(), create, self.store.open_options());
        let store = created.inspect_err(|_| {
            if made {
                // Only an empty folder goes; one that holds files stays to be looked at.
                let _ = fs::remove_dir(path);
            }
        })?;
        session.report(self.output.format, &schema_report(&store.snapshot().statistics()))
    }
}
