//! What cannot be undone, does not fit or is a pickle.

use ascribe::sketch::{ForeignSketches, GradientSource, SketchSchema, check_factors};
use ascribe::sources::{ForeignFactors, ForeignFiles, ForeignOptions, ForeignTool};

use crate::folder::Folder;

fn refusal(tool: ForeignTool, folder: &Folder) -> String {
    folder.gradients(tool).expect_err("a refusal").to_string()
}

#[test]
fn what_bergson_did_to_gradients_is_refused_or_reported() {
    let tool = ForeignTool::Bergson;
    for (name, said) in [("sum", "aggregation: is not \"none\""), ("normalised", "unit_normalize: is true")] {
        let text = refusal(tool, &Folder::read(&format!("bergson/{name}")));
        assert!(text.starts_with("d/config.yaml, ") && text.contains(said), "{text}");
    }
    let folder = Folder::read("bergson/projected");
    let (config, processor, info) = ("config.yaml", "processor_config.yaml", "info.json");
    for (path, from, to, said) in [
        (config, "hessian_path: null", "hessian_path: runs/h", "hessian_path: is set"),
        (config, "loss_fn: ce", "loss_fn: other", "loss_fn: is \"other\""),
        (processor, "projection_scale: jl", "projection_scale: row_norm", "projection_scale: is not \"jl\""),
        (processor, "projection_version: 2", "projection_version: 1", "projection_version: is \"1\""),
        (processor, "projection_dim: 4", "projection_dim: 5", "grad_sizes: is 16 for module \"0\""),
        (processor, "projection_dim: 4", "projection_dim: 4294967296", "projection_dim: is no whole number"),
        (info, "\"attribute_tokens\": false", "\"attribute_tokens\": true", "attribute_tokens: is true"),
        (info, "float32", "int8", "base_dtype: is \"int8\""),
        (info, "float32", "float16", "gradients.bin has 1536 bytes, 768 follow"),
        (info, "\"num_grads\": 12", "\"num_grads\": 18446744073709551615", "gradients.bin has 1536 bytes"),
        (info, "\"num_grads\": 12", "\"num_grads\": -1", "info.json, line 4"),
        (info, "\"2\": 16", "\"0\": 16", "module \"0\" stands twice"),
        (info, "\"base_dtype\": \"float32\"", "\"dtype\": {}", "base_dtype: is missing"),
        (info, "\"0\": 16", "\"0\": 18446744073709551615", "grad_sizes"),
    ] {
        let text = refusal(tool, &folder.replaced(path, from, to));
        assert!(text.starts_with("d/") && text.contains(said), "{to}: {text}");
    }
    let adam = folder.replaced(config, "optimizer_state: ''", "optimizer_state: runs/c/optimizer.pt");
    let gradients = adam.gradients(tool).unwrap();
    assert_eq!(gradients.origin().scaling.as_deref(), Some("square root of the optimiser's second moments"));
    let mean = folder.replaced(config, "loss_reduction: sum", "loss_reduction: mean");
    let gradients = mean.gradients(tool).unwrap();
    assert_eq!(gradients.origin().loss, "cross-entropy, averaged over tokens");
    assert!(gradients.notes()[0].contains("is not undone"));
    let global = folder
        .replaced(processor, "projection_target: per_module", "projection_target: global")
        .replaced(info, "\"0\": 16,\n    \"2\": 16", "\"gradients\": 4")
        .replaced(info, "\"num_grads\": 12", "\"num_grads\": 96");
    let gradients = global.gradients(tool).unwrap();
    assert_eq!((gradients.rows(), gradients.modules()[0].out, gradients.modules()[0].input), (96, 1, 4));
    let bare = folder.without(config);
    assert!(bare.gradients(tool).unwrap().notes()[0].contains("no config.yaml"));
}

#[test]
fn trak_folders_that_are_not_complete_are_refused() {
    let (folder, tool) = (Folder::read("trak/projected"), ForeignTool::Trak);
    let marks = &folder.0["1/_is_featurized.mmap"];
    let mut unmarked = marks.clone();
    let last = unmarked.len() - 4;
    unmarked[last] = 0;
    let mut infinite = folder.0["0/out_to_loss.mmap"].clone();
    let last = infinite.len() - 4;
    infinite[last..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let other = &Folder::read("trak/whole").0["0/grads.mmap"];
    for (folder, said) in [
        (
            folder.with("1/_is_featurized.mmap", unmarked),
            "1/_is_featurized.mmap: row 12 was never featurized",
        ),
        (folder.with("0/out_to_loss.mmap", infinite), "0/out_to_loss.mmap, row 12: is not a finite number"),
        (folder.without("1/grads.mmap"), "d/1: has no grads.mmap: features.mmap holds no gradients"),
        (
            folder.with("1/grads.mmap", other.clone()),
            "1/grads.mmap: has shape [12, 53], the folder calls for [12, 8]",
        ),
        (folder.replaced("metadata.json", "8", "0"), "metadata.json, \"JL dimension\": is 0"),
        (folder.replaced("metadata.json", "8", "1e99"), "metadata.json, line 1"),
        (folder.replaced("metadata.json", ": 12", ": 18446744073709551615"), "the folder calls for"),
    ] {
        let text = refusal(tool, &folder);
        assert!(text.contains(said), "{said}: {text}");
    }
    let options = |experiment: &str| ForeignOptions {
        experiment: Some(experiment.to_owned()),
        ..ForeignOptions::default()
    };
    let text = tool.gradients(&folder.files(tool), &options("other")).unwrap_err().to_string();
    assert!(text.contains("no experiment \"other\"; its experiments are \"test\""), "{text}");
    let text = tool.scores(&folder.files(tool), &ForeignOptions::default()).unwrap_err().to_string();
    assert!(text.contains("--experiment") && text.contains("\"test\""), "{text}");
    let turned = ForeignOptions { higher_is_better: true, ..ForeignOptions::default() };
    assert!(tool.gradients(&folder.files(tool), &turned).unwrap_err().to_string().contains("known already"));
    let parameters = ForeignOptions { parameters: Some(3), ..ForeignOptions::default() };
    let other = Folder::read("bergson/whole");
    let bergson = ForeignTool::Bergson;
    let text = bergson.gradients(&other.files(bergson), &parameters).unwrap_err().to_string();
    assert!(text.contains("for TRAK only"), "{text}");
}

#[test]
fn logs_whose_rows_differ_are_refused_with_row_and_field() {
    let (folder, tool) = (Folder::read("logix/whole"), ForeignTool::Logix);
    let list = "log_rank_0_chunk_1_metadata.json";
    for (from, to, said) in [
        ("\"offset\": 180", "\"offset\": 184", "row 2, \"offset\": is 184, the row before ends at 180"),
        ("\"offset\": 0", "\"offset\": 18446744073709551615", "row 1, \"offset\""),
        ("\"block_size\": 45", "\"block_size\": 44", "row 1, \"block_size\": is 44"),
        ("        5,\n        6", "        6,\n        5", "row 1, \"shape\": differs"),
        ("float32", "float64", "row 1, \"dtype\": differs"),
        ("\"grad\"", "\"forward\"", "row 1, \"path\": differs"),
    ] {
        let text = refusal(tool, &folder.replaced(list, from, to));
        assert!(text.starts_with(&format!("d/{list}, {said}")), "{to}: {text}");
    }
    let first = "log_rank_0_chunk_0_metadata.json";
    for (from, to, said) in [
        ("\"data_id\": \"r1\"", "\"data_id\": \"r4\"", "the data id \"r4\" stands twice"),
        ("\"data_id\": \"r1\"", "\"data_id\": null", "row 1, \"data_id\": is neither"),
        ("float32", "bfloat16", "row 1, \"dtype\": is \"bfloat16\""),
        ("        5,\n        6", "        5,\n        0", "row 1, \"shape\""),
        (
            "        5,\n        6",
            "        4294967295,\n        4294967295",
            "row 1, \"shape\": holds [4294967295, 4294967295]",
        ),
    ] {
        let text = refusal(tool, &folder.replaced(first, from, to));
        assert!(text.contains(said), "{to}: {text}");
    }
    let gap = folder.without("log_rank_0_chunk_1.mmap").without(list);
    let text = refusal(tool, &gap);
    assert!(text.contains("log_rank_0_chunk_1.mmap is missing; chunks are numbered"), "{text}");
    let keys = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    let all = "r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 r10 r11";
    for (wanted, said) in [
        (all.replace("r3", "x3"), "no row has the data id \"x3\""),
        (all.replace("r3", "r4"), "the key \"r4\" stands twice"),
        (all.replace(" r3", ""), "the row with data id \"r3\" is not in the keys (12 rows, 11 keys)"),
    ] {
        let text = folder.gradients(tool).unwrap().ordered_by(&keys(&wanted)).unwrap_err().to_string();
        assert!(text.contains(said), "{text}");
    }
    let other = Folder::read("bergson/whole");
    let text = other.gradients(ForeignTool::Bergson).unwrap().ordered_by(&keys(all)).unwrap_err().to_string();
    assert!(text.contains("bergson keeps no keys"), "{text}");
}

/// A safetensors file of one tensor.
fn tensor(name: &str, kind: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let header = serde_json::json!({name: {"dtype": kind, "shape": shape, "data_offsets": [0, data.len()]}});
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn scores_and_factors_of_another_shape_are_refused() {
    let tool = ForeignTool::Kronfluence;
    let folder = Folder::read("kronfluence/perceptron/scores_identity");
    let path = "pairwise_scores.safetensors";
    for (bytes, said) in [
        (tensor("all_modules", "F32", &[1, 1, 1], &floats(&[1.0])), "has shape [1, 1, 1]"),
        (tensor("all_modules", "I64", &[1, 1], &[0; 8]), "not of type F32"),
        (tensor("all_modules", "F32", &[0, 3], &[]), "holds no scores"),
        (tensor("all_modules", "F32", &[3, 0], &[]), "holds no scores"),
    ] {
        let folder = folder.with(path, bytes);
        let text = tool.scores(&folder.files(tool), &ForeignOptions::default()).unwrap_err().to_string();
        assert!(text.starts_with("d/pairwise_scores") && text.contains(said), "{text}");
    }
    let folder = folder.with(path, tensor("all_modules", "F32", &[1, 2], &floats(&[1.0, f32::NAN])));
    let files = folder.files(tool);
    let scores = tool.scores(&files, &ForeignOptions::default()).unwrap();
    let text = scores.read_query(0, &mut Vec::new()).unwrap_err().to_string();
    assert!(text.contains("query 1, row 2"), "{text}");
    let several = Folder::read("kronfluence");
    let text = tool.scores(&several.files(tool), &ForeignOptions::default()).unwrap_err().to_string();
    assert!(text.contains("name one of the folders") && text.contains("scores_identity/"), "{text}");
    let text = tool.gradients(&several.files(tool), &ForeignOptions::default()).unwrap_err().to_string();
    assert!(text.contains("keeps no gradients of rows"), "{text}");

    let folder = Folder::read("kronfluence/perceptron/factors_ekfac");
    let (a, counts) = ("activation_covariance.safetensors", "num_gradient_covariance_processed.safetensors");
    for (path, bytes, said) in [
        (a, tensor("0", "F32", &[1, 2], &floats(&[1.0; 2])), "has modules \"0\", \"2\""),
        (counts, tensor("0", "I64", &[1], &0_i64.to_le_bytes()), "tensor \"0\": is 0; a count above 0"),
        (counts, tensor("0", "F32", &[1], &floats(&[12.0])), "tensor \"0\": is missing, or not one I64"),
        (counts, tensor("0", "I64", &[1, 2], &[1; 16]), "tensor \"0\": is missing, or not one I64"),
    ] {
        let text = ForeignFactors::read(&folder.with(path, bytes).files(tool)).unwrap_err().to_string();
        assert!(text.starts_with("d/") && text.contains(said), "{said}: {text}");
    }
    let gradients = "gradient_covariance.safetensors";
    let input_counts = "num_activation_covariance_processed.safetensors";
    let one = |bytes: Vec<u8>| {
        let count = tensor("0", "I64", &[1], &2_i64.to_le_bytes());
        folder
            .with(a, bytes)
            .with(gradients, tensor("0", "F32", &[1, 1], &floats(&[1.0])))
            .with(counts, count.clone())
            .with(input_counts, count)
    };
    for (bytes, said) in [
        (tensor("0", "F32", &[1, 2], &floats(&[1.0; 2])), "a square matrix is expected"),
        (tensor("0", "F32", &[0, 0], &[]), "a square matrix is expected"),
        (
            tensor("0", "F32", &[2, 2], &floats(&[1.0, 2.0, 0.0, 1.0])),
            "is not symmetric: entries (1, 0) and (0, 1)",
        ),
        (
            tensor("0", "F32", &[2, 2], &floats(&[1.0, 0.0, 0.0, f32::NAN])),
            "entry (1, 1) is not a finite number",
        ),
    ] {
        let text = ForeignFactors::read(&one(bytes).files(tool)).unwrap_err().to_string();
        assert!(
            text.starts_with("d/activation_covariance.safetensors, tensor \"0\"") && text.contains(said),
            "{text}"
        );
    }
    let good = one(tensor("0", "F32", &[2, 2], &floats(&[4.0, 2.0, 2.0, 2.0])));
    let factors = ForeignFactors::read(&good.files(tool)).unwrap();
    assert_eq!(factors.modules[0].a, [2.0, 1.0, 1.0, 1.0]);
    fit_to_schemas(&factors);
}

fn fit_to_schemas(factors: &ForeignFactors) {
    let schema = |module: &str| {
        let text = format!(
            "{{\"members\": 1, \"checkpoints\": [{{\"run\": 0, \"epoch\": 1}}], \"loss\": \"l\", \"labels\": \"true\", \"modules\": [{module}]}}"
        );
        SketchSchema::parse(&text).unwrap()
    };
    for (module, said) in [
        (r#"{"name": "0", "out": 1, "in": 2, "bias": true, "encoding": "factored"}"#, None),
        (r#"{"name": "1", "out": 1, "in": 2, "encoding": "factored"}"#, Some("\"1\" has no factors")),
        (
            r#"{"name": "0", "out": 1, "in": 3, "encoding": "dense"}"#,
            Some("has factors for 1 x 2, the schema"),
        ),
        (
            r#"{"name": "0", "out": 1, "in": 2, "encoding": "dense", "projection": {"kind": "rademacher", "seed": 1, "in": 1}}"#,
            Some("is projected in the schema"),
        ),
    ] {
        let checked = check_factors(factors, &schema(module)).map_err(|error| error.to_string());
        match said {
            None => assert_eq!(checked, Ok(())),
            Some(said) => assert!(checked.is_err_and(|text| text.contains(said)), "{said}"),
        }
    }
}

#[test]
fn a_row_that_no_column_can_hold_is_refused() {
    let tool = ForeignTool::Bergson;
    let info = r#"{"num_grads": 0, "grad_sizes": {"a": 20000000}, "base_dtype": "float32"}"#;
    let folder = Folder::read("bergson/whole").with("info.json", info).with("gradients.bin", "");
    let text = ForeignSketches::new(folder.gradients(tool).unwrap()).unwrap_err().to_string();
    assert!(text.starts_with("d: the schema cannot be stored"), "{text}");
    let folder = Folder::read("bergson/whole");
    let sketches = ForeignSketches::new(folder.gradients(tool).unwrap()).unwrap();
    assert_eq!((sketches.rows(), sketches.place(2).to_string().as_str()), (12, "d, row 3"));
    let text = ForeignFiles::refuse_single("a.npy", b"\x93NUMPY").to_string();
    assert_eq!(text, "a.npy: is a file; name the folder that the tool wrote");
}
