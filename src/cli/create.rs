//! `create`: a new store.

use std::fs;

use clap::Args;

use super::failure::Failure;
use super::schema::{parse_column, parse_field, parse_sketch};
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use crate::answers::schema_report;
use crate::base::FieldDeclaration;
use crate::engine::{CreateOptions, EMBEDDING_COLUMN_NAME, SKETCH_COLUMN_NAME, Store};

/// Make a new store
///
/// A store keeps rows (key, text, fields) and, for each of its columns, one vector or one gradient sketch a row. The
/// first column of vectors is called "embedding", of sketches "sketch"; more can be added later with "ascribe alter".
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
    #[arg(long, value_name = "ENCODER", required_unless_present = "sketch")]
    encoder: Option<String>,
    /// A column of gradient sketches, called "sketch": a JSON file with their schema (as in the sketch files of a collector,
    /// or from "ascribe convert" for those of another tool), with ":f16", ":bf16" or ":int8" behind it to store smaller values than f32
    #[arg(long, value_name = "SCHEMA.json")]
    sketch: Option<String>,
    /// Declare a metadata field that filters may use; types: text, integer, float, boolean, timestamp
    #[arg(long = "field", value_name = "NAME:TYPE", value_parser = parse_field)]
    fields: Vec<FieldDeclaration>,
    #[command(flatten)]
    output: OutputArguments,
}

impl CreateArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let mut columns = Vec::new();
        if let Some(encoder) = &self.encoder {
            columns.push(parse_column(EMBEDDING_COLUMN_NAME, encoder)?);
        }
        if let Some(schema) = &self.sketch {
            columns.push(parse_sketch(SKETCH_COLUMN_NAME, schema)?);
        }
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
