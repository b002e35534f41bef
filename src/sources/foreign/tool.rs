//! Which tools there are, and what is read of each.

use super::files::{ForeignFiles, refused};
use super::{ForeignError, ForeignGradients, ForeignScores};
use super::{bergson, kronfluence, logix, trak};

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
            Self::Bergson => bergson::READ.contains(&path),
            Self::Trak => trak::reads(path),
            Self::Logix => logix::reads(path),
            Self::Kronfluence => kronfluence::reads(path),
        }
    }

    /// Gradients of rows in a folder of the tool.
    ///
    /// # Errors
    /// The folder is no such one, a file is missing, cut off or does not fit the others, or what was done to the gradients
    /// cannot be undone.
    ///
    /// # Complexity
    /// Reads descriptions and what stands beside the gradients; gradients themselves only when rows are asked for.
    ///
    /// # References
    /// The layouts of bergson 2.5.1, traker 0.3.2 (arXiv 2303.14186) and LogIX at commit f576318 (arXiv 2405.13954).
    pub fn gradients<'a>(
        self,
        files: &ForeignFiles<'a>,
        options: &ForeignOptions,
    ) -> Result<ForeignGradients<'a>, ForeignError> {
        self.check(options, files)?;
        let gradients = match self {
            Self::Bergson => bergson::gradients(files)?,
            Self::Trak => trak::gradients(files, options)?,
            Self::Logix => logix::gradients(files)?,
            Self::Kronfluence => {
                let reason = "kronfluence keeps no gradients of rows, only factors and scores: turn its scores into S.npy with \"ascribe convert\"";
                return Err(refused(files.folder(), reason));
            }
        };
        Ok(if options.higher_is_better { gradients.turned() } else { gradients })
    }

    /// Scores in a folder of the tool, [queries, rows].
    ///
    /// # Errors
    /// As for [`gradients`](Self::gradients); or the tool's scores are not read.
    pub fn scores<'a>(
        self,
        files: &ForeignFiles<'a>,
        options: &ForeignOptions,
    ) -> Result<ForeignScores<'a>, ForeignError> {
        self.check(options, files)?;
        let scores = match self {
            Self::Trak => trak::scores(files, options)?,
            Self::Kronfluence => kronfluence::scores(files, options.higher_is_better)?,
            Self::Bergson | Self::Logix => {
                let reason = format!(
                    "scores of {} are not read; import its gradients and compute them with \"ascribe score\"",
                    self.name()
                );
                return Err(refused(files.folder(), reason));
            }
        };
        if scores.queries() == 0 || scores.rows() == 0 {
            return Err(refused(scores.name(), "holds no scores"));
        }
        Ok(scores)
    }

    fn check(self, options: &ForeignOptions, files: &ForeignFiles<'_>) -> Result<(), ForeignError> {
        let of_trak = options.parameters.is_some() || options.experiment.is_some();
        if of_trak && self != Self::Trak {
            return Err(refused(files.folder(), "a number of parameters and experiments are for TRAK only"));
        }
        if options.higher_is_better && self == Self::Trak {
            let reason =
                "that TRAK's gradients are those of an output that is higher for better is known already";
            return Err(refused(files.folder(), reason));
        }
        Ok(())
    }

    /// The tool that wrote a folder, by the names of its files.
    pub(super) fn of_files(files: &ForeignFiles<'_>) -> Option<Self> {
        let has = |test: &dyn Fn(&str) -> bool| files.present().any(test);
        if has(&|path| path == "gradients.bin" || path == "processor_config.yaml") {
            Some(Self::Bergson)
        } else if has(&|path| path == "metadata.json" || path == "0/_is_featurized.mmap") {
            Some(Self::Trak)
        } else if has(&|path| logix::is_chunk(path)) {
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
