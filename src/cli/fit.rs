//! `fit`: a curvature over the gradients of a column.

use std::path::PathBuf;
use std::time::Instant;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, value_parser};

use super::failure::Failure;
use super::foreign_folder::ForeignFolder;
use super::gradient_arguments::tensors_of;
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use super::vector_file::VectorFile;
use crate::answers::{DampingSearch, fit_report};
use crate::base::limits::{CODE_COORDINATES_MAX, LANDMARKS_DEFAULT};
use crate::curvature::{CurvatureForm, CurvatureKind, KroneckerFactors, MemberFactors};
use crate::engine::{CodeBits, FitOptions};
use crate::sketch::SketchSchema;
use crate::sources::{ForeignFactors, ForeignTool};

/// Fit the curvature that gradients are weighed by
///
/// "margin" is the most faithful for classifiers with one label a row, where the sketches carry the probability of the
/// row's own label; "fisher" is the damped empirical Fisher matrix over all modules jointly; "trak" is
/// that of the gradients of margins; "kfac" and "ekfac" take
/// each module by itself, as a Kronecker product; "diagonal" and "identity" are cheap and rough. Rows that come later are scored by the fitted curvature; rows that are deleted leave the dual form at
/// once, the others with the next fit.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe fit models
  ascribe fit models --curvature fisher --damping 0.001
  ascribe fit models --codes 256
  ascribe fit models --curvature ekfac")]
pub(super) struct FitArguments {
    #[command(flatten)]
    store: StoreArguments,
    /// Which curvature; auto: margin where the sketches carry what it needs, fisher otherwise
    #[arg(long, value_name = "KIND", default_value = "auto", value_parser = names(&CurvatureKind::ALL.map(CurvatureKind::name)))]
    curvature: String,
    /// How it is computed: dual, by a matrix over rows; primal, by one over parameters; landmarks, through some of the rows;
    /// auto: by the smaller matrix, and through landmarks where both are too large
    #[arg(long, value_name = "FORM", default_value = "auto", value_parser = names(&["dual", "primal", "landmarks"]))]
    form: String,
    /// Rows that stand for all of them in the landmarks form, and for codes
    #[arg(long, value_name = "N", default_value_t = LANDMARKS_DEFAULT as u32, value_parser = value_parser!(u32).range(1..=20_000))]
    landmarks: u32,
    /// Keep codes of that many leading coordinates of each row's half-whitened gradients, by which hybrid scores find
    /// candidates without embeddings; 256 are a good number
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=CODE_COORDINATES_MAX as i64))]
    codes: Option<u32>,
    /// Bits of each code: 8, or 1 with a scale for each module: all coordinates of diagonal, kfac and ekfac (without --codes), and the
    /// leading ones of fisher and margin
    #[arg(long, value_name = "BITS", default_value = "8", value_parser = PossibleValuesParser::new(["1", "8"]))]
    code_bits: String,
    /// Factors A and B of kfac and ekfac as they were measured: the sketch file that the rows came from, or a folder of factors by
    /// kronfluence for each member, in order; without it, those that the gradients tell
    #[arg(long, value_name = "S.safetensors|DIR", num_args = 1..)]
    factors: Vec<PathBuf>,
    /// Damping, as a share of the kernel's trace (of each module's mean eigenvalue for diagonal, kfac and ekfac), or auto: what was
    /// measured best
    #[arg(long, value_name = "X", default_value = "auto")]
    damping: String,
    #[cfg(feature = "bert")]
    #[command(flatten)]
    truth: super::damping_search::TruthArguments,
    /// Sketch column [default: the only one]
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    #[command(flatten)]
    output: OutputArguments,
}

fn names(known: &[&'static str]) -> impl TypedValueParser<Value = String> {
    let known: Vec<&'static str> = std::iter::once("auto").chain(known.iter().copied()).collect();
    PossibleValuesParser::new(known)
}

/// The factors in a sketch file, or in a folder of kronfluence for each member.
fn read_factors(
    paths: &[PathBuf],
    schema: &SketchSchema,
    no_mmap: bool,
) -> Result<Vec<MemberFactors>, Failure> {
    if let [path] = paths
        && !path.is_dir()
    {
        let bytes = VectorFile::open(path, no_mmap)?;
        return Ok(KroneckerFactors::of_sketch_file(&tensors_of(path, &bytes)?, schema)?);
    }
    let of_folder = |path: &PathBuf| {
        let from = [ForeignTool::Kronfluence.name().into(), path.as_os_str().to_owned()];
        let folder = ForeignFolder::open(&from, no_mmap)?;
        Ok(KroneckerFactors::of_foreign(&ForeignFactors::read(&folder.files())?, schema)?)
    };
    paths.iter().map(of_folder).collect()
}

impl FitArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let damping = match self.damping.as_str() {
            "auto" => None,
            text => {
                let damping = text.parse().ok().filter(|damping: &f64| damping.is_finite() && *damping > 0.0);
                let wrong = || Failure::Usage(format!("--damping {text}: give a number above 0, or auto"));
                Some(damping.ok_or_else(wrong)?)
            }
        };
        let mut options = FitOptions {
            column: self.column,
            kind: CurvatureKind::from_name(&self.curvature),
            form: CurvatureForm::from_name(&self.form),
            landmarks: Some(self.landmarks as usize),
            codes: self.codes.map(|codes| codes as usize),
            code_bits: if self.code_bits == "1" { CodeBits::One } else { CodeBits::Eight },
            damping,
            factors: None,
        };
        let mut store = self.store.open()?;
        if !self.factors.is_empty() {
            let schema = store.snapshot().sketch_schema(options.column.as_deref())?;
            options.factors = Some(read_factors(&self.factors, &schema, self.store.no_mmap)?);
        }
        let begun = Instant::now();
        #[cfg(feature = "bert")]
        let search = self.truth.search(&store.snapshot(), &options, self.store.no_mmap, session)?;
        #[cfg(not(feature = "bert"))]
        let search: Option<DampingSearch> = None;
        options.damping = options.damping.or(search.as_ref().map(DampingSearch::ratio));
        let report = store.fit(&options, session.watch())?;
        session.report(self.output.format, &fit_report(&report, search.as_ref(), begun.elapsed()))
    }
}
