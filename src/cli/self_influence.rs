//! `self`: how much each row influences itself.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::gradient_arguments::curvatures;
use super::matrix_file::MatrixFile;
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use crate::answers::self_report;
use crate::curvature::CurvatureKind;

/// Rank rows by their influence on themselves, highest first: atypical or mislabelled ones
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe fit models
  ascribe self models -k 20")]
pub(super) struct SelfArguments {
    #[command(flatten)]
    store: StoreArguments,
    /// Rows to show
    #[arg(short, value_name = "N", default_value_t = 10)]
    k: usize,
    /// Sketch column [default: the only one]
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// Curvature to weigh by [default: the one that was fitted last]
    #[arg(long, value_name = "KIND", value_parser = curvatures())]
    curvature: Option<CurvatureKind>,
    /// Write the values of all rows, in the order of ingest, as a float32 .npy with its keys beside it
    #[arg(long, value_name = "S.npy")]
    out: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArguments,
}

impl SelfArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let snapshot = self.store.read()?.snapshot();
        let (column, kind) = (self.column.as_deref(), self.curvature);
        let values = snapshot.self_influence(column, kind, &session.cancel)?;
        let keys = snapshot.gradient_keys(column)?;
        if let Some(path) = &self.out {
            let mut file = MatrixFile::create(path, &[values.len()])?;
            file.append(&values)?;
            file.finish(&keys)?;
        }
        let mut ranked: Vec<(f64, &String)> = values.into_iter().zip(&keys).collect();
        ranked.sort_by(|left, right| right.0.total_cmp(&left.0).then_with(|| left.1.cmp(right.1)));
        ranked.truncate(self.k);
        let mut rows = Vec::with_capacity(ranked.len());
        for (value, key) in ranked {
            if let Some(row) = snapshot.row(key)? {
                rows.push((value, row));
            }
        }
        session.report(self.output.format, &self_report(&rows, keys.len()))
    }
}
