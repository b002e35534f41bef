//! Index folders of bergson 2.5.1: `gradients.bin` holds the values of all rows without a header, module after module;
//! `info.json` says how many; `processor_config.yaml` how they were projected; `config.yaml` what else was done to them.
//!
//! They are gradients of the loss, by default summed over tokens: sign and scale are this project's.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::file_names::bergson::{CONFIGURATION, GRADIENTS, INFO, PROCESSOR};
use super::files::ForeignFile;
use super::gradients::GradientBytes;
use super::yaml::Settings;
use super::{ForeignError, ForeignFiles, ForeignGradients, ForeignModule, ForeignOrigin, ForeignTool};
use crate::sources::error::shortened;
use crate::sources::matrix::Stored;

/// The version of its random matrices that this layout goes with.
const PROJECTION_VERSION: &str = "2";

/// The version whose layout was checked.
const CHECKED_VERSION: &str = "2.5.1";

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    attribute_tokens: bool,
    num_grads: u64,
    grad_sizes: Sizes,
    base_dtype: Option<String>,
}

/// Modules with the number of their values, in the order of a row.
struct Sizes(Vec<(String, u64)>);

impl<'de> Deserialize<'de> for Sizes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizesVisitor;
        impl<'de> Visitor<'de> for SizesVisitor {
            type Value = Sizes;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of modules and their sizes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Sizes, A::Error> {
                let mut sizes = Vec::new();
                let mut seen = std::collections::HashSet::new();
                while let Some((name, size)) = members.next_entry::<String, u64>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("module {:?} stands twice", shortened(&name))));
                    }
                    sizes.push((name, size));
                }
                Ok(Sizes(sizes))
            }
        }
        deserializer.deserialize_map(SizesVisitor)
    }
}

/// What was done to the gradients.
#[derive(Default)]
struct Treatment {
    loss: String,
    scaling: Option<String>,
    notes: Vec<String>,
}

pub(super) fn gradients<'a>(files: &ForeignFiles<'a>) -> Result<ForeignGradients<'a>, ForeignError> {
    let tool = ForeignTool::Bergson;
    let file = files.required(INFO, tool)?;
    let info: Info = file.json()?;
    let stored = stored_of(&file, &info)?;
    let processor = Settings::read(files.required(PROCESSOR, tool)?)?;
    let (modules, projection) = modules_of(&file, &info, &processor)?;
    let Treatment { loss, scaling, mut notes } = treatment(files)?;
    let values = files.required(GRADIENTS, tool)?;
    let width = info.grad_sizes.0.iter().fold(0_u128, |width, (_, size)| width + u128::from(*size));
    let row_bytes = width * stored.size_bytes() as u128;
    values.check_length(row_bytes * u128::from(info.num_grads), &file.name)?;
    // It is the length of a file that is there, or there are no rows.
    let (rows, row_bytes) =
        (usize::try_from(info.num_grads).unwrap_or(0), usize::try_from(row_bytes).unwrap_or(0));
    let bias = processor.get("", "include_bias")? == Some("true");
    if !bias {
        notes.push("gradients of biases are not among them (include_bias was off)".to_owned());
    }
    notes.push("its torch pickles (*.pth) were not opened".to_owned());
    Ok(ForeignGradients {
        name: files.folder().to_owned(),
        tool,
        modules,
        runs: vec![0],
        members: vec![GradientBytes::in_sequence(values.bytes, stored, row_bytes, vec![1.0])],
        rows,
        origin: ForeignOrigin {
            loss,
            labels: "true".to_owned(),
            origin: format!("bergson; {projection}; {} biases", if bias { "with" } else { "without" }),
            scaling,
        },
        keys: None,
        notes,
        own: Vec::new(),
        order: None,
    })
}

fn stored_of(file: &ForeignFile<'_>, info: &Info) -> Result<Stored, ForeignError> {
    if info.attribute_tokens {
        let reason = "is true: its rows are tokens, not examples; build the index without --attribute_tokens";
        return Err(file.refuse_field("attribute_tokens", reason));
    }
    match info.base_dtype.as_deref() {
        Some("float32") => Ok(Stored::F32),
        Some("float16") => Ok(Stored::F16),
        Some("bfloat16") => Ok(Stored::BF16),
        Some("float64") => Ok(Stored::F64),
        Some(other) => {
            let reason =
                format!("is {:?}; float32, float16, bfloat16 and float64 are read", shortened(other));
            Err(file.refuse_field("base_dtype", reason))
        }
        None => {
            let reason =
                "is missing: it is the layout of an earlier version; build the index with bergson 2.5";
            Err(file.refuse_field("base_dtype", reason))
        }
    }
}

/// The modules, and how they were projected, in words.
fn modules_of(
    file: &ForeignFile<'_>,
    info: &Info,
    processor: &Settings<'_>,
) -> Result<(Vec<ForeignModule>, String), ForeignError> {
    // It stands last: a file that was cut off has none.
    if processor.get("", "projection_version")?.is_none() {
        let reason = "is missing: the file was cut off, or an earlier version wrote it; build the index with bergson 2.5";
        return Err(processor.refuse("projection_version", reason));
    }
    let said = processor.get("", "projection_dim")?;
    let side = match said.map(str::parse::<u32>) {
        None | Some(Ok(0)) => None,
        Some(Ok(side)) => Some(side),
        Some(Err(_)) => {
            return Err(processor.refuse("projection_dim", "is no whole number"));
        }
    };
    let mut projection = "not projected".to_owned();
    let is_global = processor.get("", "projection_target")? == Some("global");
    if let Some(side) = side {
        projection = projection_text(processor, side, is_global)?;
    }
    let mut modules = Vec::new();
    for (name, size) in &info.grad_sizes.0 {
        // Without a projection the shape of a module is not kept: it is taken as one row.
        let (out, input) = match side {
            Some(side) if !is_global => (u64::from(side), u64::from(side)),
            Some(side) => (1, u64::from(side)),
            None => (1, *size),
        };
        let fits = out * input == *size && *size > 0;
        let input = u32::try_from(input).ok().filter(|_| fits).ok_or_else(|| {
            let reason =
                format!("is {size} for module {:?}, but gradients were {projection}", shortened(name));
            file.refuse_field("grad_sizes", reason)
        })?;
        modules.push(ForeignModule { name: name.clone(), out: out as u32, input });
    }
    if modules.is_empty() {
        return Err(file.refuse_field("grad_sizes", "names no module"));
    }
    Ok((modules, projection))
}

fn projection_text(processor: &Settings<'_>, side: u32, is_global: bool) -> Result<String, ForeignError> {
    if processor.get("", "projection_scale")? != Some("jl") {
        let reason = "is not \"jl\": such projections weigh modules against each other by their widths, which cannot be undone; build the index with --projection_scale jl";
        return Err(processor.refuse("projection_scale", reason));
    }
    let version = processor.get("", "projection_version")?.unwrap_or_default();
    if version != PROJECTION_VERSION {
        let reason = format!(
            "is {:?}, {PROJECTION_VERSION} is read; build the index with bergson 2.5",
            shortened(version)
        );
        return Err(processor.refuse("projection_version", reason));
    }
    let kind = processor.get("", "projection_type")?.unwrap_or("normal");
    let seed = processor.get("", "projection_seed")?.unwrap_or("none");
    let square = processor.get("", "reshape_to_square")? == Some("true");
    let target = if is_global {
        format!("all modules to {side} values")
    } else {
        format!("each module to {side} x {side} values")
    };
    let square = if square { ", reshaped to squares first" } else { "" };
    Ok(format!("projected ({}, seed {}): {target}{square}", shortened(kind), shortened(seed)))
}

/// What the run's configuration says about the gradients.
fn treatment(files: &ForeignFiles<'_>) -> Result<Treatment, ForeignError> {
    let Some(file) = files.find(CONFIGURATION) else {
        let note = format!(
            "no {CONFIGURATION}: taken as gradients of the cross-entropy summed over tokens, not weighed or normalised"
        );
        return Ok(Treatment { loss: "cross-entropy, summed".to_owned(), scaling: None, notes: vec![note] });
    };
    let settings = Settings::read(file)?;
    let (index, preprocess) = ("index_cfg", "preprocess_cfg");
    // The version stands last: a file that was cut off has none, and might lack what was done to the gradients.
    let needed = [(index, "loss_fn"), (preprocess, "aggregation"), ("metadata", "bergson_version")];
    for (table, name) in needed {
        if settings.get(table, name)?.is_none() {
            let reason =
                format!("is missing in {table}: the file was cut off, or is no run of \"bergson build\"");
            return Err(settings.refuse(name, reason));
        }
    }
    if settings.get(preprocess, "aggregation")?.is_some_and(|value| value != "none") {
        let reason = "is not \"none\": the gradients of all rows became one; build the index without it";
        return Err(settings.refuse("aggregation", reason));
    }
    if settings.get(preprocess, "unit_normalize")? == Some("true") {
        let reason = "is true: the lengths of the gradients are lost; build the index without it (\"--kind cosine\" divides by lengths here)";
        return Err(settings.refuse("unit_normalize", reason));
    }
    if settings.get(preprocess, "hessian_path")?.is_some() {
        let reason = "is set: the gradients were multiplied by an inverse; build the index without it (\"ascribe fit\" finds one here)";
        return Err(settings.refuse("hessian_path", reason));
    }
    let (loss, scaling, mut notes) = loss_of(&settings, index)?;
    if notes.is_empty() {
        notes.push("sign and scale are as here: gradients of the summed loss".to_owned());
    }
    let version = settings.get("metadata", "bergson_version")?.unwrap_or_default();
    if version != CHECKED_VERSION {
        notes.push(format!(
            "written by bergson {}; the layout of {CHECKED_VERSION} is known",
            shortened(version)
        ));
    }
    Ok(Treatment { loss, scaling, notes })
}

/// The loss in words, what gradients were divided by, and notes of what is not undone.
fn loss_of(
    settings: &Settings<'_>,
    index: &str,
) -> Result<(String, Option<String>, Vec<String>), ForeignError> {
    let mut notes = Vec::new();
    let kind = match settings.get(index, "loss_fn")?.unwrap_or_default() {
        "ce" => "cross-entropy",
        "log_odds" => "negative log-odds of the label",
        "kl" => "divergence from the reference model",
        other => {
            let reason = format!("is {:?}; ce, log_odds and kl are known", shortened(other));
            return Err(settings.refuse("loss_fn", reason));
        }
    };
    let reduction = match settings.get(index, "loss_reduction")?.unwrap_or("sum") {
        "sum" => "summed",
        _ => {
            notes.push("losses were averaged over the tokens of a row: long rows weigh less than summed ones would, which is not undone".to_owned());
            "averaged over tokens"
        }
    };
    let smoothing = match settings.get(index, "label_smoothing")?.unwrap_or("0.0") {
        "0.0" | "0" => String::new(),
        value => format!(", label smoothing {}", shortened(value)),
    };
    let scaling = settings.get(index, "optimizer_state")?.map(|_| {
        notes.push("gradients were divided by second moments of the optimiser, which is not undone: queries must be, too".to_owned());
        "square root of the optimiser's second moments".to_owned()
    });
    Ok((format!("{kind}, {reduction}{smoothing}"), scaling, notes))
}
