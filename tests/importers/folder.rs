//! A folder in memory, and the numbers that must come out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ascribe::sources::{ForeignError, ForeignFiles, ForeignGradients, ForeignOptions, ForeignTool};
use serde_json::Value;

/// Every folder of gradients in the fixtures, with the files that are read of it.
pub(crate) const GRADIENT_FOLDERS: [(ForeignTool, &str); 8] = [
    (ForeignTool::Bergson, "bergson/whole"),
    (ForeignTool::Bergson, "bergson/projected"),
    (ForeignTool::Bergson, "bergson/half"),
    (ForeignTool::Trak, "trak/projected"),
    (ForeignTool::Trak, "trak/half"),
    (ForeignTool::Trak, "trak/whole"),
    (ForeignTool::Logix, "logix/whole"),
    (ForeignTool::Logix, "logix/low-rank"),
];

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/importers")
}

/// The files of a folder, by their paths in it.
#[derive(Clone)]
pub(crate) struct Folder(pub(crate) BTreeMap<String, Vec<u8>>);

impl Folder {
    /// A folder of the fixtures.
    pub(crate) fn read(name: &str) -> Self {
        let mut files = BTreeMap::new();
        add_files(&fixtures().join(name), "", &mut files);
        assert!(!files.is_empty(), "{name}");
        Self(files)
    }

    /// With the file at `path` changed.
    pub(crate) fn with(&self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let mut other = self.clone();
        assert!(other.0.insert(path.to_owned(), bytes.into()).is_some(), "{path}");
        other
    }

    /// Without the file at `path`.
    pub(crate) fn without(&self, path: &str) -> Self {
        let mut other = self.clone();
        assert!(other.0.remove(path).is_some(), "{path}");
        other
    }

    /// With a text of the file at `path` replaced.
    pub(crate) fn replaced(&self, path: &str, from: &str, to: &str) -> Self {
        let text = String::from_utf8(self.0[path].clone()).expect("a text");
        assert!(text.contains(from), "{path}: {text}");
        self.with(path, text.replacen(from, to, 1))
    }

    /// The files as a tool's reader gets them; the folder is called `d`.
    pub(crate) fn files(&self, tool: ForeignTool) -> ForeignFiles<'_> {
        let read = self.0.iter().filter(|(path, _)| tool.reads(path));
        let files = read.map(|(path, bytes)| (path.clone(), bytes.as_slice())).collect();
        ForeignFiles::new("d", self.0.keys().cloned().collect(), files)
    }

    pub(crate) fn gradients(&self, tool: ForeignTool) -> Result<ForeignGradients<'_>, ForeignError> {
        tool.gradients(&self.files(tool), &ForeignOptions::default())
    }
}

fn add_files(folder: &Path, before: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let path = format!("{before}{}", entry.file_name().into_string().expect("a text"));
        if entry.path().is_dir() {
            add_files(&entry.path(), &format!("{path}/"), files);
        } else {
            files.insert(path, fs::read(entry.path()).expect("a file"));
        }
    }
}

/// The numbers that must come out.
pub(crate) fn expected() -> Value {
    serde_json::from_slice(&fs::read(fixtures().join("expected.json")).expect("a file")).expect("JSON")
}

/// A matrix of JSON as rows.
pub(crate) fn matrix(value: &Value) -> Vec<Vec<f64>> {
    let number = |value: &Value| value.as_f64().expect("a number");
    let row = |row: &Value| row.as_array().expect("a row").iter().map(number).collect();
    value.as_array().expect("a matrix").iter().map(row).collect()
}

/// Fails the test unless two matrices are the same, up to a share of the largest entry.
pub(crate) fn agree(name: &str, found: &[Vec<f64>], wanted: &[Vec<f64>], tolerance: f64) {
    assert_eq!((found.len(), found[0].len()), (wanted.len(), wanted[0].len()), "{name}");
    let largest = wanted.iter().flatten().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let pairs = found.iter().flatten().zip(wanted.iter().flatten());
    let error = pairs.fold(0.0_f64, |error, (found, wanted)| error.max((found - wanted).abs()));
    assert!(error <= tolerance * largest && largest > 0.0, "{name}: {error} of {largest}");
}

/// Products of all rows with all rows, by one member.
pub(crate) fn products(gradients: &ForeignGradients<'_>, member: usize) -> Vec<Vec<f64>> {
    let width: usize =
        gradients.modules().iter().map(|module| module.out as usize * module.input as usize).sum();
    let rows: Vec<Vec<f64>> = (0..gradients.rows())
        .map(|row| {
            let mut values = Vec::new();
            gradients.read_row(row, &mut values);
            assert_eq!(values.len(), width * gradients.runs().len());
            values[member * width..(member + 1) * width].iter().map(|value| f64::from(*value)).collect()
        })
        .collect();
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    rows.iter().map(|a| rows.iter().map(|b| product(a, b)).collect()).collect()
}
