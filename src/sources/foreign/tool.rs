//! Which tools there are, and how their folders are told apart.

use super::file_names::{bergson, kronfluence, logix, trak};

/// A tool whose folders are read.
///
/// ```
/// use ascribe::sources::ForeignTool;
/// assert_eq!(ForeignTool::from_name("trak"), Some(ForeignTool::Trak));
/// assert!(ForeignTool::Trak.reads("0/grads.mmap") && !ForeignTool::Trak.reads("0/features.mmap"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForeignTool {
    /// bergson 2.5: index folders of `bergson build`.
    Bergson,
    /// TRAK 0.3: save folders of a `TRAKer`.
    Trak,
    /// LogIX: folders of gradient logs.
    Logix,
    /// kronfluence 1.0: factors and scores of an `Analyzer`.
    Kronfluence,
}

/// What the files of a folder do not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignOptions {
    /// Parameters of the model that TRAK's gradients were projected from.
    pub parameters: Option<u64>,
    /// The experiment of a TRAK folder whose targets are read instead of its rows.
    pub experiment: Option<String>,
    /// The gradients, or the queries of scores, are those of a measurement that is higher for better answers, such as a
    /// margin, and not of a loss. Known, and therefore refused, for TRAK.
    pub higher_is_better: bool,
}

impl ForeignTool {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bergson, Self::Trak, Self::Logix, Self::Kronfluence];

    /// The name that users give.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bergson => "bergson",
            Self::Trak => "trak",
            Self::Logix => "logix",
            Self::Kronfluence => "kronfluence",
        }
    }

    /// The tool of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    /// Whether the file at `path`, relative with `/`, is read. No pickle is, wherever it lies.
    pub fn reads(self, path: &str) -> bool {
        match self {
            Self::Bergson => bergson::reads(path),
            Self::Trak => trak::reads(path),
            Self::Logix => logix::chunk_of(path).is_some(),
            Self::Kronfluence => kronfluence::reads(path),
        }
    }

    /// The tool that wrote a folder, by the names of its files.
    pub(super) fn of_paths<'p>(paths: impl Iterator<Item = &'p str> + Clone) -> Option<Self> {
        let has = |test: &dyn Fn(&str) -> bool| paths.clone().any(test);
        if has(&|path| path == bergson::GRADIENTS || path == bergson::PROCESSOR) {
            Some(Self::Bergson)
        } else if has(&|path| path != trak::METADATA && trak::reads(path)) {
            Some(Self::Trak)
        } else if has(&|path| logix::chunk_of(path).is_some()) {
            Some(Self::Logix)
        } else if has(&kronfluence::reads) {
            Some(Self::Kronfluence)
        } else {
            None
        }
    }

    /// What a user should look at where a file is missing.
    pub(super) fn folder_hint(self) -> &'static str {
        match self {
            Self::Bergson => "check that this is the folder that \"bergson build\" wrote",
            Self::Trak => "check that this is the save_dir of a TRAKer",
            Self::Logix => "check that this is the folder root_dir/project of a LogIX run that was finalized",
            Self::Kronfluence => "check that this is a folder factors_* or scores_* of an Analyzer",
        }
    }
}
