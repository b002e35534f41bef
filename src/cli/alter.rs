//! `alter`: change the schema.

use clap::Args;

use super::failure::Failure;
use super::schema::{parse_device, parse_field, parse_named_column};
use super::session::Session;
use super::store::{OutputArguments, StoreArguments, finish_indexes};
use crate::answers::schema_report;
use crate::base::FieldDeclaration;
use crate::encoder::Device;

/// Change what a store holds: declare a field, add or drop a column
///
/// Each change is one commit and rewrites nothing. A column that is added gets its vectors from the texts that are
/// there already; one of ready vectors stays empty until "ascribe import" fills it.
#[derive(Args, Debug)]
#[command(
    override_usage = "ascribe alter [OPTIONS] <STORE> <--add-field <NAME:TYPE>|--add-column <NAME=ENCODER>|--drop-column <NAME>>",
    after_help = "\
Example:
  ascribe create pets --encoder hashed
  ascribe alter pets --add-column small=hashed:64:int8
  ascribe alter pets --drop-column small
  ascribe alter pets --add-field year:integer"
)]
pub(super) struct AlterArguments {
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    change: Change,
    /// Where the model of a column that is added encodes the texts: cpu, cuda:N, or several at once
    #[arg(long, value_name = "DEVICE", value_delimiter = ',', default_value = "cpu", value_parser = parse_device)]
    device: Vec<Device>,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Change {
    /// Declare a metadata field; rows that are there keep what they have under this name
    #[arg(long, value_name = "NAME:TYPE", value_parser = parse_field)]
    add_field: Option<FieldDeclaration>,
    /// Add a column; ENCODER as in "ascribe create --help", or the schema of gradient sketches: a file SCHEMA.json
    #[arg(long, value_name = "NAME=ENCODER")]
    add_column: Option<String>,
    /// Drop a column with all its vectors
    #[arg(long, value_name = "NAME")]
    drop_column: Option<String>,
}

impl AlterArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let column = self.change.add_column.as_deref().map(parse_named_column).transpose()?;
        let mut store = self.store.open_on(&self.device)?;
        if let Some(field) = self.change.add_field {
            store.add_field(field)?;
        }
        if let Some(column) = column {
            store.add_column(column, session.watch())?;
            finish_indexes(&store, session);
        }
        if let Some(name) = &self.change.drop_column {
            store.drop_column(name)?;
        }
        session.report(self.output.format, &schema_report(&store.snapshot().statistics()))
    }
}
