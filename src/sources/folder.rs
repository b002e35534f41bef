//! The inputs in a folder: its files, or those of a dataset that the `datasets` library saved.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::error::listed;
use super::{InputFormat, SourceError};
use crate::base::limits::DATASET_DESCRIPTION_BYTES_MAX;

/// Names the parts of a `DatasetDict`.
const SPLITS_FILE: &str = "dataset_dict.json";

/// Names the data files of a `Dataset`.
const STATE_FILE: &str = "state.json";

/// Describes a `Dataset`. Only together with the other file it tells one.
const INFO_FILE: &str = "dataset_info.json";

/// What a folder holds for an ingest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderListing {
    /// Files to read, in this order.
    pub files: Vec<PathBuf>,
    /// What is left alone: hidden files, folders, and files whose extension tells no format.
    pub ignored: Vec<PathBuf>,
}

/// Lists the inputs of the folder at `path`.
///
/// A folder that `Dataset.save_to_disk` wrote gives its data files in the order of its rows; one of a `DatasetDict`
/// those of its only split. Of any other folder all files directly in it are inputs whose extension tells a format,
/// by name. Folders in it are not entered: whether they belong to the same data, only its owner knows.
///
/// # Errors
/// The folder cannot be read, holds several splits, no input at all, or a dataset that is incomplete or keeps its rows
/// in another order than its files do.
///
/// ```
/// use ascribe::sources::list_folder;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// for name in ["b.csv", "a.jsonl.gz", "notes.md"] {
///     std::fs::write(folder.path().join(name), "")?;
/// }
/// let listing = list_folder(folder.path())?;
/// assert_eq!(listing.files, ["a.jsonl.gz", "b.csv"].map(|name| folder.path().join(name)));
/// assert_eq!(listing.ignored, [folder.path().join("notes.md")]);
/// # Ok(())
/// # }
/// ```
pub fn list_folder(path: &Path) -> Result<FolderListing, SourceError> {
    if path.join(SPLITS_FILE).is_file() {
        return list_splits(path);
    }
    if path.join(STATE_FILE).is_file() && path.join(INFO_FILE).is_file() {
        return list_dataset(path);
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(|reason| cannot("open", path, reason))? {
        entries.push(entry.map_err(|reason| cannot("read", path, reason))?.path());
    }
    entries.sort();
    let (files, ignored): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| is_input(path));
    if files.is_empty() {
        return Err(SourceError::NotSupported {
            input: path.display().to_string(),
            what: "no file in this folder has an extension that tells a format, such as .jsonl, .csv, .txt, .parquet or .arrow",
        });
    }
    Ok(FolderListing { files, ignored })
}

fn is_input(path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !is_hidden && path.is_file() && InputFormat::of_path(path).is_ok()
}

fn cannot(action: &'static str, path: &Path, reason: io::Error) -> SourceError {
    SourceError::Io { input: path.display().to_string(), action, reason }
}

fn refused(folder: &Path, reason: impl Into<String>) -> SourceError {
    SourceError::DatasetFolder { input: folder.display().to_string(), reason: reason.into() }
}

/// The JSON file `name` of a dataset.
fn description(folder: &Path, name: &str) -> Result<Value, SourceError> {
    let path = folder.join(name);
    let mut text = String::new();
    File::open(&path)
        .and_then(|file| file.take(DATASET_DESCRIPTION_BYTES_MAX).read_to_string(&mut text))
        .map_err(|reason| cannot("read", &path, reason))?;
    serde_json::from_str(&text)
        .map_err(|error| refused(folder, format!("{name} is no JSON ({error}); save the dataset again")))
}

/// `name`, if it names something directly in a folder: the description may come from anywhere.
fn plain_name(name: &Value) -> Option<&str> {
    let name = name.as_str()?;
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)).then_some(name)
}

fn list_splits(folder: &Path) -> Result<FolderListing, SourceError> {
    let description = description(folder, SPLITS_FILE)?;
    let names: Option<Vec<&str>> =
        description["splits"].as_array().and_then(|names| names.iter().map(plain_name).collect());
    match names.as_deref() {
        None | Some([]) => {
            Err(refused(folder, format!("{SPLITS_FILE} names no splits; save the dataset again")))
        }
        Some([only]) => list_dataset(&folder.join(only)),
        Some(names @ [first, ..]) => Err(SourceError::Splits {
            input: folder.display().to_string(),
            splits: listed(names.iter().copied()),
            example: folder.join(first).display().to_string(),
        }),
    }
}

fn list_dataset(folder: &Path) -> Result<FolderListing, SourceError> {
    let state = description(folder, STATE_FILE)?;
    // Old versions of the library saved a selection as the whole data and a list of row numbers.
    for field in ["_indices_data_files", "_indices_files"] {
        if state[field].as_array().is_some_and(|files| !files.is_empty()) {
            return Err(refused(
                folder,
                "it is a selection or another order of the rows in its files; call flatten_indices() on it and save it again",
            ));
        }
    }
    let names: Option<Vec<&str>> = state["_data_files"]
        .as_array()
        .and_then(|files| files.iter().map(|file| plain_name(&file["filename"])).collect());
    let names = names.filter(|names| !names.is_empty()).ok_or_else(|| {
        refused(folder, format!("{STATE_FILE} names no data files; save the dataset again"))
    })?;
    let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    match files.iter().find(|file| !file.is_file()) {
        Some(missing) => {
            let missing = missing.file_name().unwrap_or_default().to_string_lossy();
            Err(refused(folder, format!("its file {missing:?} is missing; copy the whole folder again")))
        }
        None => Ok(FolderListing { files, ignored: Vec::new() }),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::sources::{FieldNames, open_path};

    fn saved(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/datasets").join(name)
    }

    fn texts(folder: &Path) -> Vec<String> {
        let mut texts = Vec::new();
        for file in list_folder(folder).unwrap().files {
            let mut source = open_path(&file, None, &FieldNames::default(), None).unwrap().source;
            while let Some(document) = source.next().unwrap() {
                assert!(document.metadata["label"].is_i64());
                texts.push(document.text.unwrap());
            }
        }
        texts
    }

    /// A folder with these files.
    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = TempDir::new().unwrap();
        for (name, content) in files {
            fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    fn refusal(files: &[(&str, &str)]) -> String {
        list_folder(folder(files).path()).unwrap_err().to_string()
    }

    #[test]
    fn saved_datasets_give_their_rows_in_order() {
        assert_eq!(texts(&saved("single")), ["one", "two", "three", "four"]);
        assert_eq!(texts(&saved("splits/train")), ["one", "two"]);
        // The library flattens a selection when it saves it.
        let shuffled = texts(&saved("shuffled"));
        assert_eq!(shuffled.len(), 3);
        assert_ne!(shuffled, ["one", "two", "three"]);
    }

    #[test]
    fn one_split_is_taken_and_of_several_one_must_be_named() {
        let error = list_folder(&saved("splits")).unwrap_err().to_string();
        assert!(error.contains("\"train\", \"test\"") && error.ends_with("splits/train"), "{error}");
        let one = folder(&[
            ("dataset_dict.json", r#"{"splits": ["train"]}"#),
            ("train/dataset_info.json", "{}"),
            ("train/state.json", r#"{"_data_files": [{"filename": "b.arrow"}, {"filename": "a.arrow"}]}"#),
            ("train/a.arrow", ""),
            ("train/b.arrow", ""),
            ("train/c.arrow", ""),
        ]);
        let files = ["train/b.arrow", "train/a.arrow"].map(|name| one.path().join(name));
        assert_eq!(list_folder(one.path()).unwrap().files, files);
    }

    #[test]
    fn incomplete_hostile_and_reordered_datasets_are_refused() {
        let of_state =
            |state: &str| refusal(&[("dataset_info.json", "{}"), ("state.json", state), ("a.arrow", "")]);
        for (state, expected) in [
            ("{", "state.json is no JSON"),
            ("{}", "names no data files"),
            (r#"{"_data_files": []}"#, "names no data files"),
            (r#"{"_data_files": [{"filename": "../a.arrow"}]}"#, "names no data files"),
            (r#"{"_data_files": [{"filename": "/etc/passwd"}]}"#, "names no data files"),
            (r#"{"_data_files": [{"filename": "b.arrow"}]}"#, "\"b.arrow\" is missing"),
            (
                r#"{"_data_files": [{"filename": "a.arrow"}], "_indices_data_files": [{"filename": "i.arrow"}]}"#,
                "flatten_indices()",
            ),
        ] {
            let text = of_state(state);
            assert!(text.contains(expected), "{state}: {text}");
        }
        for splits in ["{}", r#"{"splits": []}"#, r#"{"splits": [".."]}"#, r#"{"splits": "train"}"#] {
            assert!(refusal(&[("dataset_dict.json", splits)]).contains("names no splits"), "{splits}");
        }
        assert!(refusal(&[("dataset_dict.json", r#"{"splits": ["a"]}"#)]).contains("cannot read"));
    }

    #[test]
    fn other_folders_give_their_files_by_name() {
        let names =
            ["b.parquet", "a.csv.zst", ".hidden.csv", "read.me", "inner/c.csv", "c.JSONL", "d.parquet.gz"];
        let folder = folder(&names.map(|name| (name, "")));
        let listing = list_folder(folder.path()).unwrap();
        let inside = |names: &[&str]| names.iter().map(|name| folder.path().join(name)).collect::<Vec<_>>();
        assert_eq!(listing.files, inside(&["a.csv.zst", "b.parquet", "c.JSONL"]));
        assert_eq!(listing.ignored, inside(&[".hidden.csv", "d.parquet.gz", "inner", "read.me"]));
        assert!(refusal(&[("read.me", "")]).contains("no file in this folder has an extension"));
        assert!(list_folder(&folder.path().join("none")).unwrap_err().to_string().contains("cannot open"));
    }
}
