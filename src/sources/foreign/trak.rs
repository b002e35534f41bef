//! Save folders of TRAK (traker 0.3.2): `metadata.json`, and for each checkpoint a numbered folder with npy files.
//!
//! `grads.mmap` holds phi = P^T grad f / sqrt(D), f the margin log p - log(1 - p), which is HIGHER for better, P of unit
//! variance with k columns, D the number of parameters; `out_to_loss.mmap` holds Q = 1 - p. The gradient of the loss is -Q
//! grad f, and products of phi are k/D of those of the gradients: rows are multiplied by -Q sqrt(D/k). The gradients of an
//! experiment's targets are multiplied by -sqrt(D/k): for a query, f itself is what is asked about.
//! `features.mmap` is multiplied by (Phi^T Phi)^-1 and therefore no gradient.
//!
//! Source: Park et al., TRAK: Attributing Model Behavior at Scale, arXiv 2303.14186, section 3, and the package's code.

use serde::Deserialize;

use super::file_names::trak::{
    EXPERIMENT_END, GRADIENTS, IS_FEATURIZED, METADATA, OUT_TO_LOSS, SCORES_END, SCORES_START, is_number,
};
use super::files::{ForeignFile, refused};
use super::gradients::GradientBytes;
use super::scores::{ForeignScores, ScoreParts};
use super::{
    ForeignError, ForeignFiles, ForeignGradients, ForeignModule, ForeignOptions, ForeignOrigin, ForeignTool,
};
use crate::sources::error::{listed, shortened};

/// Bytes of one value of `_is_featurized.mmap`.
const MARK_BYTES: usize = 4;

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "JL dimension")]
    width: u64,
    #[serde(rename = "JL matrix type")]
    projection: String,
    #[serde(rename = "train set size")]
    rows: u64,
}

pub(super) fn gradients<'a>(
    files: &ForeignFiles<'a>,
    options: &ForeignOptions,
) -> Result<ForeignGradients<'a>, ForeignError> {
    let file = files.required(METADATA, ForeignTool::Trak)?;
    let metadata: Metadata = file.json()?;
    let width = u32::try_from(metadata.width).ok().filter(|width| *width > 0);
    let width = width.ok_or_else(|| file.refuse_field("\"JL dimension\"", "is 0 or does not fit"))?;
    let (scale, of_scale, note) = scale_of(&metadata, options);
    let runs = checkpoints(files)?;
    let mut notes = vec![note];
    let mut own = Vec::new();
    let (rows, members) = match &options.experiment {
        None => {
            notes.push("signs turned: rows were gradients of the margin, which is higher for better; each multiplied by -(1 - p), they are those of the loss".to_owned());
            let of_runs = runs.iter().map(|run| own_of(files, &metadata, *run));
            own = of_runs.collect::<Result<Vec<_>, _>>()?;
            // Other outputs than margins have other derivatives.
            if own.iter().flatten().all(|own| (0.0..=1.0).contains(own)) {
                notes.push("1 - p of each row's own label is kept beside its gradient, for the curvatures trak and margin".to_owned());
            } else {
                own.clear();
            }
            let members = runs.iter().map(|run| rows_of(files, &metadata, *run, scale));
            (metadata.rows, members.collect::<Result<Vec<_>, _>>()?)
        }
        Some(name) => {
            notes.push(
                "signs turned: targets were gradients of the margin, which is higher for better".to_owned(),
            );
            targets_of(files, &metadata, &runs, name, scale)?
        }
    };
    if runs.len() > 1 {
        notes.push(format!("{} checkpoints became as many members", runs.len()));
    }
    let projection = match metadata.projection.as_str() {
        "na" => "not projected".to_owned(),
        kind => format!("projected ({}) to {width} values", shortened(kind)),
    };
    Ok(ForeignGradients {
        name: files.folder().to_owned(),
        tool: ForeignTool::Trak,
        modules: vec![ForeignModule { name: "gradients".to_owned(), out: 1, input: width }],
        runs,
        members,
        rows: usize::try_from(rows).unwrap_or(0),
        origin: ForeignOrigin {
            loss: "cross-entropy, summed".to_owned(),
            labels: "true".to_owned(),
            origin: format!("TRAK; {projection}; {of_scale}"),
            scaling: None,
        },
        keys: None,
        notes,
        own,
        order: None,
    })
}

/// What gradients are multiplied by, in words that belong to the schema, and in words for the user.
fn scale_of(metadata: &Metadata, options: &ForeignOptions) -> (f32, String, String) {
    let width = metadata.width as f64;
    if metadata.projection == "na" {
        // Without a projection only the division by sqrt(D) is to be undone, and D is the width.
        let note = format!("multiplied by sqrt({})", metadata.width);
        return (width.sqrt() as f32, "scaled".to_owned(), note);
    }
    match options.parameters {
        Some(parameters) => {
            let of_scale = format!("scaled for {parameters} parameters");
            let note = format!("multiplied by sqrt({parameters} / {})", metadata.width);
            ((parameters as f64 / width).sqrt() as f32, of_scale, note)
        }
        None => {
            let note = format!(
                "not scaled: products are {} / D of those of the gradients, D the number of the model's parameters, which is not kept there; say --parameters D to scale them (no ranking changes)",
                metadata.width
            );
            (1.0, "not scaled".to_owned(), note)
        }
    }
}

/// The numbers of the checkpoints, in order.
fn checkpoints(files: &ForeignFiles<'_>) -> Result<Vec<u32>, ForeignError> {
    let folders = files.present().filter_map(|path| path.split_once('/')).map(|(folder, _)| folder);
    let mut runs: Vec<u32> =
        folders.filter(|folder| is_number(folder)).filter_map(|folder| folder.parse().ok()).collect();
    runs.sort_unstable();
    runs.dedup();
    if runs.is_empty() {
        return Err(files.missing("0/grads.mmap", ForeignTool::Trak));
    }
    Ok(runs)
}

/// The file `name` of a checkpoint.
fn of_checkpoint<'a>(
    files: &ForeignFiles<'a>,
    run: u32,
    name: &str,
) -> Result<ForeignFile<'a>, ForeignError> {
    files.required(&format!("{run}/{name}"), ForeignTool::Trak)
}

fn rows_of<'a>(
    files: &ForeignFiles<'a>,
    metadata: &Metadata,
    run: u32,
    scale: f32,
) -> Result<GradientBytes<'a>, ForeignError> {
    let marks = of_checkpoint(files, run, IS_FEATURIZED)?;
    // It is made as a vector and, when a checkpoint is loaded again, opened as a matrix of one column.
    let marked = match marks.array(&[metadata.rows, 1], Some(MARK_BYTES as u64)) {
        Ok(marked) => marked,
        Err(_) => marks.array(&[metadata.rows], Some(MARK_BYTES as u64))?,
    };
    if marked.kind != "<i4" {
        return Err(marks.refuse(format!("holds values of type {:?}, not int32", shortened(marked.kind))));
    }
    let missing =
        marked.data.as_chunks::<MARK_BYTES>().0.iter().position(|mark| i32::from_le_bytes(*mark) != 1);
    if let Some(row) = missing {
        let reason = format!("row {} was never featurized; run the rest before", row + 1);
        return Err(marks.refuse(reason));
    }
    if files.find(&format!("{run}/{GRADIENTS}")).is_none() {
        let reason = format!(
            "has no {GRADIENTS}: features.mmap holds no gradients; run finalize_features without del_grads"
        );
        return Err(refused(format!("{}/{run}", files.folder()), reason));
    }
    let mut factors = own_of(files, metadata, run)?;
    factors.iter_mut().for_each(|factor| *factor *= -scale);
    values_of(&of_checkpoint(files, run, GRADIENTS)?, [metadata.rows, metadata.width], factors)
}

/// Q of each row: 1 - p of its own label, where the output is the margin of a classifier.
fn own_of(files: &ForeignFiles<'_>, metadata: &Metadata, run: u32) -> Result<Vec<f32>, ForeignError> {
    let weights = of_checkpoint(files, run, OUT_TO_LOSS)?;
    let array = weights.array(&[metadata.rows, 1], None)?;
    let mut own = Vec::new();
    array.real(&weights.name)?.append(array.data, &mut own);
    match own.iter().position(|own| !own.is_finite()) {
        Some(row) => Err(weights.refuse_field(&format!("row {}", row + 1), "is not a finite number")),
        None => Ok(own),
    }
}

/// The gradients of an experiment's targets, and how many there are.
fn targets_of<'a>(
    files: &ForeignFiles<'a>,
    metadata: &Metadata,
    runs: &[u32],
    name: &str,
    scale: f32,
) -> Result<(u64, Vec<GradientBytes<'a>>), ForeignError> {
    let path = format!("{name}{EXPERIMENT_END}");
    let first = runs.first().copied().unwrap_or_default();
    let Some(file) = files.find(&format!("{first}/{path}")) else {
        let known = files
            .present()
            .filter_map(|path| path.strip_prefix(&format!("{first}/"))?.strip_suffix(EXPERIMENT_END));
        let reason =
            format!("has no experiment {:?}; its experiments are {}", shortened(name), listed(known));
        return Err(refused(files.folder(), reason));
    };
    let targets = file.size(0)?;
    let members = runs
        .iter()
        .map(|run| values_of(&of_checkpoint(files, *run, &path)?, [targets, metadata.width], vec![-scale]));
    Ok((targets, members.collect::<Result<_, _>>()?))
}

fn values_of<'a>(
    file: &ForeignFile<'a>,
    shape: [u64; 2],
    factors: Vec<f32>,
) -> Result<GradientBytes<'a>, ForeignError> {
    let array = file.array(&shape, None)?;
    let stored = array.real(&file.name)?;
    let row_bytes = usize::try_from(shape[1]).unwrap_or(0) * stored.size_bytes();
    Ok(GradientBytes::in_sequence(array.data, stored, row_bytes, factors))
}

pub(super) fn scores<'a>(
    files: &ForeignFiles<'a>,
    options: &ForeignOptions,
) -> Result<ForeignScores<'a>, ForeignError> {
    let file = files.required(METADATA, ForeignTool::Trak)?;
    let metadata: Metadata = file.json()?;
    let name = options.experiment.as_deref().ok_or_else(|| {
        let known =
            files.present().filter_map(|path| path.strip_prefix(SCORES_START)?.strip_suffix(SCORES_END));
        let reason = format!("name the experiment (--experiment) whose scores are wanted: {}", listed(known));
        refused(files.folder(), reason)
    })?;
    let file = files.required(&format!("{SCORES_START}{name}{SCORES_END}"), ForeignTool::Trak)?;
    let queries = file.size(1)?;
    let array = file.array(&[metadata.rows, queries], None)?;
    let stored = array.real(&file.name)?;
    Ok(ForeignScores {
        name: file.name,
        queries: usize::try_from(queries).unwrap_or(0),
        rows: usize::try_from(metadata.rows).unwrap_or(0),
        parts: ScoreParts::Columns { data: array.data, stored },
        factor: 1.0,
        notes: vec![
            "signs are as here: a positive score is a proponent".to_owned(),
            "the scale is TRAK's own: its inverse is divided by the mean size of its entries".to_owned(),
        ],
    })
}
