//! Folders of other tools: how they are named, and their files opened.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, value_parser};
use serde_json::{Value, json};

use super::failure::Failure;
use super::vector_file::VectorFile;
use crate::sketch::ForeignSketches;
use crate::sources::{FieldNames, ForeignFiles, ForeignOptions, ForeignTool, open_path};

/// Folders below the one that is named which are looked into: kronfluence nests two.
const DEPTH_MAX: usize = 3;

/// Files of a folder that are listed before it is refused.
const FILES_MAX: usize = 100_000;

/// What a folder of another tool does not say itself.
#[derive(Args, Debug)]
pub(super) struct ForeignArguments {
    /// Number of parameters of the model that TRAK's gradients were projected from, to undo its scale
    #[arg(long, value_name = "N", requires = "from", value_parser = value_parser!(u64).range(1..))]
    parameters: Option<u64>,
    /// Read the targets of this experiment of a TRAK folder instead of its rows
    #[arg(long, value_name = "NAME", requires = "from")]
    experiment: Option<String>,
    /// What the tool took gradients of (of kronfluence: the queries' measurement) is higher for better answers, such as a margin, and
    /// no loss: turn the signs
    #[arg(long, requires = "from")]
    higher_is_better: bool,
}

impl ForeignArguments {
    pub(super) fn options(&self) -> ForeignOptions {
        ForeignOptions {
            parameters: self.parameters,
            experiment: self.experiment.clone(),
            higher_is_better: self.higher_is_better,
        }
    }
}

/// The files of a folder that a tool's reader needs, opened.
pub(super) struct ForeignFolder {
    pub(super) tool: ForeignTool,
    name: String,
    present: Vec<String>,
    opened: Vec<(String, VectorFile)>,
}

impl ForeignFolder {
    /// Opens what `--from TOOL DIR` names.
    pub(super) fn open(from: &[OsString], no_mmap: bool) -> Result<Self, Failure> {
        let [tool, path] = from else {
            return Err(Failure::Usage("--from takes a tool and a folder".to_owned()));
        };
        let tool = tool.to_str().and_then(ForeignTool::from_name).ok_or_else(|| {
            let known = ForeignTool::ALL.map(ForeignTool::name).join(", ");
            Failure::Usage(format!("--from {}: the tools are {known}", tool.display()))
        })?;
        let path = PathBuf::from(path);
        let name = path.display().to_string();
        if path.is_file() {
            return Err(ForeignFiles::refuse_single(&name, &VectorFile::open(&path, no_mmap)?).into());
        }
        let mut present = Vec::new();
        list_files(&path, "", DEPTH_MAX, &mut present)?;
        let mut opened = Vec::new();
        for file in present.iter().filter(|file| tool.reads(file)) {
            opened.push((file.clone(), VectorFile::open(&path.join(file), no_mmap)?));
        }
        Ok(Self { tool, name, present, opened })
    }

    pub(super) fn files(&self) -> ForeignFiles<'_> {
        let files = self.opened.iter().map(|(path, bytes)| (path.clone(), &bytes[..])).collect();
        ForeignFiles::new(&self.name, self.present.clone(), files)
    }

    /// The gradients in it, in the order of a keys file where the tool keeps keys.
    pub(super) fn sketches(
        &self,
        options: &ForeignOptions,
        keys: Option<&Path>,
    ) -> Result<ForeignSketches<'_>, Failure> {
        let mut gradients = self.tool.gradients(&self.files(), options)?;
        if let (Some(path), Some(_)) = (keys, gradients.keys()) {
            gradients = gradients.ordered_by(&read_keys(path)?)?;
        }
        Ok(ForeignSketches::new(gradients)?)
    }

    /// Says that keys are needed where the tool keeps none.
    pub(super) fn keys_required(&self) -> Failure {
        Failure::Usage(format!(
            "{} keeps no keys of rows: give them with --keys KEYS.jsonl, one {{\"key\": ...}} a line in the order of its rows",
            self.tool.name()
        ))
    }
}

/// What was converted, as a value of a report.
pub(super) fn notes_value(notes: &[String]) -> Value {
    notes.iter().map(|note| json!({"note": note})).collect()
}

/// The keys of a keys file.
pub(super) fn read_keys(path: &Path) -> Result<Vec<String>, Failure> {
    let mut opened = open_path(path, None, &FieldNames::of_keys_file(), None)?;
    let mut keys = Vec::new();
    while let Some(document) = opened.source.next()? {
        keys.push(document.key.unwrap_or_default());
    }
    Ok(keys)
}

/// Adds the paths of the regular files below `folder`, relative with `/`.
fn list_files(folder: &Path, before: &str, depth: usize, found: &mut Vec<String>) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| {
        Failure::Failed(format!("cannot read the folder {}: {error}; check the path", folder.display()))
    };
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        // A name that is no text is none that a tool gives.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{before}{name}");
        let Ok(kind) = fs::metadata(entry.path()) else { continue };
        if kind.is_dir() && depth > 0 {
            list_files(&entry.path(), &format!("{path}/"), depth - 1, found)?;
        } else if kind.is_file() {
            if found.len() == FILES_MAX {
                let text = format!(
                    "{} holds more than {FILES_MAX} files: name the folder that the tool wrote",
                    folder.display()
                );
                return Err(Failure::Failed(text));
            }
            found.push(path);
        }
    }
    Ok(())
}
