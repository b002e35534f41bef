//! Choosing a damping by what retrained models said.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::gradient_arguments::{holds_sketches, label_field, read_truth_texts, with_truth_sketches};
use super::session::Session;
use super::vector_file::VectorFile;
use crate::answers::{DampingSearch, DampingTrial};
use crate::curvature::CurvatureKind;
use crate::engine::{FitOptions, GradientInput, GradientQuery, LabelledText, QueryInput, Snapshot};
use crate::evaluation::{
    LdsOptions, LdsReport, RetrainingTruth, TruthFile, group_sums, linear_datamodelling_score,
};

/// Dampings that are tried, as multiples of the one that is taken by itself.
const MULTIPLES: [f64; 7] = [0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// Decides which subsets are looked at to choose, and which to measure what was chosen.
const HALVES_SEED: u64 = 0;

/// The truth that a damping is chosen by.
#[derive(Args, Debug)]
pub(super) struct TruthArguments {
    /// Choose the damping that agrees best with what retrained models said ("ascribe measure-truth"), on half of its subsets;
    /// the other half measures what was chosen
    #[arg(long, value_name = "T.safetensors", requires = "queries")]
    truth: Option<PathBuf>,
    /// The queries of the truth, as for "ascribe eval lds"
    #[arg(long, value_name = "FILE", requires = "truth")]
    queries: Option<PathBuf>,
}

impl TruthArguments {
    /// The trials for a fit with these options; `None` if no truth is given.
    pub(super) fn search(
        &self,
        snapshot: &Snapshot,
        options: &FitOptions,
        no_mmap: bool,
        session: &Session<'_>,
    ) -> Result<Option<DampingSearch>, Failure> {
        let (Some(truth), Some(queries)) = (&self.truth, &self.queries) else { return Ok(None) };
        if options.damping.is_some() {
            let text = "--damping names one, --truth chooses one: leave one of them away";
            return Err(Failure::Usage(text.to_owned()));
        }
        let bytes = VectorFile::open(truth, no_mmap)?;
        let truth = TruthFile::new(&bytes, &truth.display().to_string())?;
        let search = Search { snapshot, options, truth: &truth, session };
        if holds_sketches(queries) {
            return with_truth_sketches(queries, no_mmap, &truth, |inputs| search.run(inputs)).map(Some);
        }
        let column = options.column.as_deref();
        let asked = read_truth_texts(queries, &label_field(snapshot, column)?, &truth)?;
        let texts: Vec<LabelledText> = asked.into_iter().map(|asked| asked.text).collect();
        let gradients = snapshot.label_gradients(column, &texts)?;
        let nothing = QueryInput::Key(String::new());
        search.run(&GradientInput::of_head(&nothing, &gradients)).map(Some)
    }
}

struct Search<'a, 'b> {
    snapshot: &'a Snapshot,
    options: &'a FitOptions,
    truth: &'a TruthFile,
    session: &'a Session<'b>,
}

impl Search<'_, '_> {
    fn run(&self, inputs: &[GradientInput<'_>]) -> Result<DampingSearch, Failure> {
        let Self { snapshot, options, truth, session } = self;
        // The one that is chosen without being named is damped like fisher.
        let Some(default) = options.kind.unwrap_or(CurvatureKind::Fisher).damping_ratio() else {
            let text = "identity has no damping that could be chosen: leave --truth and --queries away";
            return Err(Failure::Usage(text.to_owned()));
        };
        let ratios = MULTIPLES.map(|multiple| multiple * default);
        let keys = snapshot.gradient_keys(options.column.as_deref())?;
        let masks = truth.subsets_over(&keys)?;
        let outputs = truth.outputs();
        let query = GradientQuery { column: options.column.clone(), ..GradientQuery::default() };
        let mut groups = vec![Vec::new(); ratios.len()];
        snapshot.score_dampings(options, &ratios, inputs, &query, session.watch(), |trial, _, scores| {
            groups[trial].extend(group_sums(scores, &masks, keys.len())?);
            Ok::<(), Failure>(())
        })?;
        let [development, held_out] = outputs.halves(HALVES_SEED);
        let chosen_by = lds_of(outputs, &groups, &development)?;
        let trials: Vec<DampingTrial> =
            ratios.iter().zip(&chosen_by.methods).map(|(ratio, method)| (*ratio, method.lds)).collect();
        // The first of those that are alike: the least damping.
        let mut best = 0;
        for (at, (_, lds)) in trials.iter().enumerate() {
            if lds.mean > trials[best].1.mean {
                best = at;
            }
        }
        let middle = MULTIPLES.len() / 2;
        let pair = [groups[best].clone(), groups[middle].clone()];
        let measured = lds_of(outputs, &pair, &held_out)?;
        Ok(DampingSearch {
            queries: inputs.len(),
            subsets: [development.len(), held_out.len()],
            seed: HALVES_SEED,
            trials,
            chosen: best,
            default: middle,
            held_out: [measured.methods[0].lds, measured.methods[1].lds],
            difference: measured.differences[0].difference,
        })
    }
}

/// LDS of group scores, queries x subsets, on some of the subsets.
fn lds_of(outputs: &RetrainingTruth, groups: &[Vec<f64>], subsets: &[usize]) -> Result<LdsReport, Failure> {
    let truth = outputs.of_subsets(subsets)?;
    let chosen: Vec<Vec<f64>> = groups
        .iter()
        .map(|groups| {
            let rows = groups.chunks_exact(outputs.subsets());
            rows.flat_map(|row| subsets.iter().map(|subset| row[*subset])).collect()
        })
        .collect();
    let groups: Vec<&[f64]> = chosen.iter().map(Vec::as_slice).collect();
    Ok(linear_datamodelling_score(&truth, &groups, LdsOptions::default())?)
}
