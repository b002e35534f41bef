//! Cut-off, extended, changed and exchanged files.

use ascribe::sources::{ForeignError, ForeignFactors, ForeignOptions, ForeignTool};

use crate::folder::{Folder, GRADIENT_FOLDERS};

/// Reads everything that a folder has.
fn read(tool: ForeignTool, folder: &Folder) -> Result<(), ForeignError> {
    let gradients = folder.gradients(tool)?;
    let mut values = Vec::new();
    for row in 0..gradients.rows() {
        values.clear();
        gradients.read_row(row, &mut values);
    }
    Ok(())
}

fn read_scores(tool: ForeignTool, folder: &Folder) -> Result<(), ForeignError> {
    let experiment = (tool == ForeignTool::Trak).then(|| "test".to_owned());
    let options = ForeignOptions { experiment, ..ForeignOptions::default() };
    let scores = tool.scores(&folder.files(tool), &options)?;
    (0..scores.queries()).try_for_each(|query| scores.read_query(query, &mut Vec::new()))
}

fn read_targets(tool: ForeignTool, folder: &Folder) -> Result<(), ForeignError> {
    let options = ForeignOptions { experiment: Some("test".to_owned()), ..ForeignOptions::default() };
    let gradients = tool.gradients(&folder.files(tool), &options)?;
    (0..gradients.rows()).for_each(|row| gradients.read_row(row, &mut Vec::new()));
    Ok(())
}

fn read_factors(tool: ForeignTool, folder: &Folder) -> Result<(), ForeignError> {
    ForeignFactors::read(&folder.files(tool)).map(|_| ())
}

type Read = fn(ForeignTool, &Folder) -> Result<(), ForeignError>;

/// Each way to read a folder, and the files that it needs.
fn cases() -> Vec<(ForeignTool, Folder, Read, Vec<String>)> {
    let scores = ["identity", "ekfac_modules"].map(|name| format!("kronfluence/perceptron/scores_{name}"));
    let mut cases: Vec<(ForeignTool, Folder, Read, &str)> = Vec::new();
    for (tool, name) in GRADIENT_FOLDERS {
        cases.push((tool, Folder::read(name), read, name));
    }
    for name in &scores {
        cases.push((ForeignTool::Kronfluence, Folder::read(name), read_scores, name));
    }
    let factors = "kronfluence/perceptron/factors_ekfac";
    cases.push((ForeignTool::Kronfluence, Folder::read(factors), read_factors, factors));
    let trak = "trak/projected";
    cases.push((ForeignTool::Trak, Folder::read(trak), read_scores, "scores"));
    cases.push((ForeignTool::Trak, Folder::read(trak), read_targets, "targets"));
    let needed = |tool: ForeignTool, folder: &Folder, what: &str| -> Vec<String> {
        let is_needed = |path: &str| match what {
            "scores" => path == "metadata.json" || path == "scores/test.mmap",
            "targets" => path == "metadata.json" || path.ends_with("test_grads.mmap"),
            _ => tool.reads(path) && !path.contains("test"),
        };
        folder.0.keys().filter(|path| is_needed(path)).cloned().collect()
    };
    cases
        .into_iter()
        .map(|(tool, folder, read, name)| {
            let files = needed(tool, &folder, name);
            assert!(files.len() > 1 || name.contains("scores_"), "{name}: {files:?}");
            (tool, folder, read, files)
        })
        .collect()
}

#[test]
fn cut_off_and_extended_files_are_refused_by_name() {
    for (tool, folder, read, files) in cases() {
        read(tool, &folder).unwrap();
        for path in files {
            let whole = &folder.0[&path];
            // What a file of settings ends in says nothing about gradients: when it was made, by which libraries.
            let last = match path.as_str() {
                "config.yaml" => find(whole, b"bergson_version: 2"),
                "processor_config.yaml" => find(whole, b"projection_version: 2"),
                _ => whole.len(),
            };
            for length in 0..last {
                let error = read(tool, &folder.with(&path, &whole[..length])).err();
                let text = error.unwrap_or_else(|| panic!("{path} cut off at {length}")).to_string();
                assert!(text.contains(&format!("d/{path}")), "{path} cut off at {length}: {text}");
            }
            if last == whole.len() {
                let extended = [whole.as_slice(), b"\x01"].concat();
                let text = read(tool, &folder.with(&path, extended)).expect_err(&path).to_string();
                assert!(text.contains(&format!("d/{path}")), "{path} extended: {text}");
            }
        }
    }
}

fn find(bytes: &[u8], text: &[u8]) -> usize {
    bytes.windows(text.len()).position(|window| window == text).expect("a text")
}

#[test]
fn changed_bytes_never_panic() {
    for (tool, folder, read, files) in cases() {
        for path in files {
            let whole = folder.0[&path].clone();
            // Bytes of plain values may be anything.
            let plain = if path == "gradients.bin" { 64 } else { usize::MAX };
            for offset in 0..whole.len().min(plain) {
                for change in [0x01, 0x10, 0x80, 0xff] {
                    let mut changed = whole.clone();
                    changed[offset] ^= change;
                    let _ = read(tool, &folder.with(&path, changed));
                }
            }
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    for (tool, folder, read, files) in cases() {
        for path in files.iter().filter(|path| *path != "config.yaml") {
            let text = read(tool, &folder.without(path)).expect_err(path).to_string();
            let name = path.rsplit('/').next().unwrap_or_default();
            assert!(text.contains(name) || text.contains("no experiment"), "{path}: {text}");
        }
    }
}

#[test]
fn pickles_in_the_place_of_any_file_are_recognised_and_not_loaded() {
    let pickle = Folder::read("logix/whole").0["state/covariance_state.pt"].clone();
    let bare = b"\x80\x04\x95\x1b\0\0\0\0\0\0\0\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.".to_vec();
    for (tool, folder, read, files) in cases() {
        for path in files {
            for pickle in [&pickle, &bare] {
                let text = read(tool, &folder.with(&path, pickle.as_slice())).expect_err(&path).to_string();
                assert!(text.starts_with(&format!("d/{path} is a torch pickle")), "{path}: {text}");
                assert!(text.contains("weights_only=True"), "{text}");
            }
        }
    }
}

#[test]
fn the_folder_of_another_tool_is_recognised() {
    for (owner, name) in GRADIENT_FOLDERS {
        let folder = Folder::read(name);
        for tool in ForeignTool::ALL.into_iter().filter(|tool| *tool != owner) {
            let text = match tool {
                ForeignTool::Kronfluence => read_scores(tool, &folder),
                _ => read(tool, &folder),
            };
            let text = text.expect_err(name).to_string();
            let advice = format!("say --from {}", owner.name());
            assert!(text.starts_with("d/") && text.contains(&advice), "{name} as {}: {text}", tool.name());
        }
    }
    let empty = Folder(std::collections::BTreeMap::new());
    for tool in [ForeignTool::Bergson, ForeignTool::Trak, ForeignTool::Logix] {
        let text = read(tool, &empty).unwrap_err().to_string();
        assert!(text.contains("is missing; check that this is"), "{text}");
    }
}
