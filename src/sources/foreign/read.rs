//! From a folder to the reader of its tool.

use super::files::{ForeignFiles, refused};
use super::{ForeignError, ForeignGradients, ForeignOptions, ForeignScores, ForeignTool};
use super::{bergson, kronfluence, logix, trak};

impl ForeignTool {
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
}
