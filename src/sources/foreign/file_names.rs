//! The names of the files that are read of each tool's folders.

/// bergson.
pub(super) mod bergson {
    pub(in super::super) const INFO: &str = "info.json";
    pub(in super::super) const GRADIENTS: &str = "gradients.bin";
    pub(in super::super) const PROCESSOR: &str = "processor_config.yaml";
    pub(in super::super) const CONFIGURATION: &str = "config.yaml";

    /// Whether the file at `path` is read.
    pub(in super::super) fn reads(path: &str) -> bool {
        [INFO, GRADIENTS, PROCESSOR, CONFIGURATION].contains(&path)
    }
}

/// TRAK.
pub(super) mod trak {
    pub(in super::super) const METADATA: &str = "metadata.json";
    pub(in super::super) const GRADIENTS: &str = "grads.mmap";
    pub(in super::super) const OUT_TO_LOSS: &str = "out_to_loss.mmap";
    pub(in super::super) const IS_FEATURIZED: &str = "_is_featurized.mmap";
    pub(in super::super) const EXPERIMENT_END: &str = "_grads.mmap";
    pub(in super::super) const SCORES_START: &str = "scores/";
    pub(in super::super) const SCORES_END: &str = ".mmap";

    /// Whether the file at `path` is read.
    pub(in super::super) fn reads(path: &str) -> bool {
        if path.starts_with(SCORES_START) {
            return path.ends_with(SCORES_END);
        }
        path.split_once('/').map_or(path == METADATA, |(number, name)| {
            let is_one = matches!(name, GRADIENTS | OUT_TO_LOSS | IS_FEATURIZED);
            is_number(number) && (is_one || name.ends_with(EXPERIMENT_END))
        })
    }

    /// Whether a folder has the name of a checkpoint.
    pub(in super::super) fn is_number(text: &str) -> bool {
        !text.is_empty() && text.len() < 10 && text.bytes().all(|digit| digit.is_ascii_digit())
    }
}

/// LogIX.
pub(super) mod logix {
    const CHUNK_START: &str = "log_rank_";
    const CHUNK_MIDDLE: &str = "_chunk_";
    const VALUES_END: &str = ".mmap";
    const METADATA_END: &str = "_metadata.json";

    /// Rank and chunk that the name of either of a chunk's two files tells.
    pub(in super::super) fn chunk_of(path: &str) -> Option<(u32, u32)> {
        let stem = path.strip_suffix(METADATA_END).or_else(|| path.strip_suffix(VALUES_END))?;
        let (rank, chunk) = stem.strip_prefix(CHUNK_START)?.split_once(CHUNK_MIDDLE)?;
        Some((rank.parse().ok()?, chunk.parse().ok()?))
    }

    /// The file with the values of a chunk.
    pub(in super::super) fn values((rank, chunk): (u32, u32)) -> String {
        format!("{CHUNK_START}{rank}{CHUNK_MIDDLE}{chunk}{VALUES_END}")
    }

    /// The file with the list of a chunk's rows.
    pub(in super::super) fn metadata((rank, chunk): (u32, u32)) -> String {
        format!("{CHUNK_START}{rank}{CHUNK_MIDDLE}{chunk}{METADATA_END}")
    }
}

/// kronfluence.
pub(super) mod kronfluence {
    pub(in super::super) const SCORES: &str = "pairwise_scores.safetensors";
    pub(in super::super) const ACTIVATIONS: &str = "activation_covariance.safetensors";
    pub(in super::super) const GRADIENTS: &str = "gradient_covariance.safetensors";
    pub(in super::super) const ACTIVATION_COUNTS: &str = "num_activation_covariance_processed.safetensors";
    pub(in super::super) const GRADIENT_COUNTS: &str = "num_gradient_covariance_processed.safetensors";

    /// Whether the file at `path` is read, in whichever folder it lies.
    pub(in super::super) fn reads(path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        [SCORES, ACTIVATIONS, GRADIENTS, ACTIVATION_COUNTS, GRADIENT_COUNTS].contains(&name)
    }
}
