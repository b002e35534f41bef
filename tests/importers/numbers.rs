//! Products of gradients, scores and factors against those of the tools.

use ascribe::sources::{ForeignFactors, ForeignOptions, ForeignTool};

use crate::folder::{Folder, agree, expected, matrix, products};

const TOLERANCE: f64 = 1e-5;

/// Values of 11 bits; the model was rounded to them, too.
const HALF_TOLERANCE: f64 = 5e-3;

fn said(notes: &[String], words: &str) -> bool {
    notes.iter().any(|note| note.contains(words))
}

#[test]
fn bergson_keeps_gradients_of_the_summed_loss() {
    let expected = &expected()["bergson"];
    for (name, wanted, tolerance) in [
        ("whole", "whole", TOLERANCE),
        ("half", "whole", HALF_TOLERANCE),
        ("projected", "projected", TOLERANCE),
    ] {
        let folder = Folder::read(&format!("bergson/{name}"));
        let gradients = folder.gradients(ForeignTool::Bergson).unwrap();
        agree(name, &products(&gradients, 0), &matrix(&expected[wanted]), tolerance);
        assert!(said(gradients.notes(), "sign and scale are as here"), "{:?}", gradients.notes());
        assert!(gradients.keys().is_none());
    }
    let folder = Folder::read("bergson/projected");
    let gradients = folder.gradients(ForeignTool::Bergson).unwrap();
    let shapes = gradients.modules().iter().map(|module| (module.name.as_str(), module.out, module.input));
    assert_eq!(shapes.collect::<Vec<_>>(), [("0", 4, 4), ("2", 4, 4)]);
    assert_eq!(gradients.origin().loss, "cross-entropy, summed");
    assert!(gradients.origin().origin.contains("rademacher"), "{:?}", gradients.origin());
}

#[test]
fn trak_keeps_gradients_of_the_margin_that_become_those_of_the_loss() {
    let expected = &expected()["trak"];
    let tool = ForeignTool::Trak;
    let parameters = expected["parameters"].as_u64();
    let options = ForeignOptions { parameters, ..ForeignOptions::default() };
    let folder = Folder::read("trak/projected");
    let files = folder.files(tool);
    let gradients = tool.gradients(&files, &options).unwrap();
    assert_eq!(gradients.runs(), [0, 1]);
    let kernels = expected["projected"].as_array().unwrap();
    for (member, kernel) in kernels.iter().enumerate() {
        agree("projected", &products(&gradients, member), &matrix(kernel), TOLERANCE);
    }
    assert!(said(gradients.notes(), "signs turned") && said(gradients.notes(), "sqrt(53 / 8)"));
    // Without the number of parameters every product is k / D of that, and the schema is another one.
    let plain = tool.gradients(&files, &ForeignOptions::default()).unwrap();
    let scale = 8.0 / parameters.unwrap() as f64;
    let scaled: Vec<Vec<f64>> =
        matrix(&kernels[0]).iter().map(|row| row.iter().map(|value| value * scale).collect()).collect();
    agree("not scaled", &products(&plain, 0), &scaled, TOLERANCE);
    assert!(said(plain.notes(), "not scaled") && plain.origin() != gradients.origin());

    let folder = Folder::read("trak/half");
    let gradients = tool.gradients(&folder.files(tool), &options).unwrap();
    agree("half", &products(&gradients, 0), &matrix(&expected["half"]), HALF_TOLERANCE);
    let folder = Folder::read("trak/whole");
    let gradients = folder.gradients(tool).unwrap();
    agree("whole", &products(&gradients, 0), &matrix(&expected["whole"]), TOLERANCE);
    assert!(said(gradients.notes(), "sqrt(53)"));
}

#[test]
fn converted_gradients_of_two_tools_point_the_same_way() {
    let (of_trak, of_bergson) = (Folder::read("trak/whole"), Folder::read("bergson/whole"));
    let of_trak = of_trak.gradients(ForeignTool::Trak).unwrap();
    let of_bergson = of_bergson.gradients(ForeignTool::Bergson).unwrap();
    for row in 0..of_trak.rows() {
        let (mut theirs, mut by_module) = (Vec::new(), Vec::new());
        of_trak.read_row(row, &mut theirs);
        of_bergson.read_row(row, &mut by_module);
        // TRAK has a module's weights, then its biases; bergson the bias behind the weights of each output.
        let mut ours = Vec::new();
        for (module, inputs) in [(&by_module[..35], 6), (&by_module[35..], 5)] {
            let outputs = || module.chunks(inputs + 1);
            ours.extend(outputs().flat_map(|output| &output[..inputs]));
            ours.extend(outputs().map(|output| output[inputs]));
        }
        let largest = ours.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * largest;
        assert!(largest > 0.0 && ours.iter().zip(&theirs).all(is_near), "row {row}: {ours:?}, {theirs:?}");
    }
}

#[test]
fn trak_keeps_scores_with_rows_first() {
    let (folder, tool) = (Folder::read("trak/projected"), ForeignTool::Trak);
    let options = ForeignOptions { experiment: Some("test".to_owned()), ..ForeignOptions::default() };
    let scores = tool.scores(&folder.files(tool), &options).unwrap();
    let mut found = vec![Vec::new(); scores.queries()];
    found.iter_mut().enumerate().for_each(|(query, out)| scores.read_query(query, out).unwrap());
    agree("scores", &found, &matrix(&expected()["trak"]["scores"]), 1e-7);
}

#[test]
fn logix_logs_weights_and_its_rows_are_found_by_their_data_ids() {
    let (folder, tool) = (Folder::read("logix/whole"), ForeignTool::Logix);
    let gradients = folder.gradients(tool).unwrap();
    let logged = gradients.keys().unwrap().to_vec();
    let keys: Vec<String> = (0..12).map(|row| format!("r{row}")).collect();
    assert_ne!(logged, keys, "the fixture was logged in the order of the data");
    let ordered = gradients.clone().ordered_by(&keys).unwrap();
    agree("ordered", &products(&ordered, 0), &matrix(&expected()["logix"]["whole"]), TOLERANCE);
    assert_eq!(ordered.keys(), Some(keys.as_slice()));
    // As logged, row i is the data of its own id.
    let wanted = matrix(&expected()["logix"]["whole"]);
    let number = |key: &String| key[1..].parse::<usize>().unwrap();
    let logged: Vec<usize> = logged.iter().map(number).collect();
    let wanted: Vec<Vec<f64>> =
        logged.iter().map(|row| logged.iter().map(|column| wanted[*row][*column]).collect()).collect();
    agree("logged", &products(&gradients, 0), &wanted, TOLERANCE);
    let low_rank = Folder::read("logix/low-rank");
    let gradients = low_rank.gradients(tool).unwrap();
    assert_eq!(gradients.modules()[1].name, "2.logix_lora_B");
    assert!(said(gradients.notes(), "low-rank modules"));
}

#[test]
fn kronfluence_scores_are_products_and_their_signs_follow_the_measurement() {
    let tool = ForeignTool::Kronfluence;
    let expected = &expected()["kronfluence"];
    for (name, wanted) in [
        ("identity", "identity"),
        ("identity_modules", "identity"),
        ("ekfac", "ekfac"),
        ("ekfac_modules", "ekfac"),
    ] {
        let folder = Folder::read(&format!("kronfluence/perceptron/scores_{name}"));
        for higher_is_better in [false, true] {
            let options = ForeignOptions { higher_is_better, ..ForeignOptions::default() };
            let scores = tool.scores(&folder.files(tool), &options).unwrap();
            assert_eq!((scores.queries(), scores.rows()), (3, 12));
            let mut found = vec![Vec::new(); 3];
            found.iter_mut().enumerate().for_each(|(query, out)| scores.read_query(query, out).unwrap());
            if higher_is_better {
                found.iter_mut().flatten().for_each(|score| *score = -*score);
                assert!(said(scores.notes(), "signs turned"));
            }
            agree(name, &found, &matrix(&expected[wanted]), TOLERANCE);
        }
    }
}

#[test]
fn kronfluence_factors_are_means_of_outer_products() {
    let tool = ForeignTool::Kronfluence;
    for name in ["kronfluence", "kronfluence/perceptron/factors_ekfac"] {
        let folder = Folder::read(name);
        let factors = ForeignFactors::read(&folder.files(tool)).unwrap();
        let names: Vec<&str> = factors.modules.iter().map(|factor| factor.name.as_str()).collect();
        assert_eq!(names, ["0", "2"]);
        for (factor, sides) in factors.modules.iter().zip([(7, 5), (6, 3)]) {
            assert_eq!((factor.input, factor.out), sides);
            assert_eq!((factor.activations, factor.gradients), (12, 12));
            let wanted = &expected()["kronfluence"]["factors"][&factor.name];
            for (values, side, wanted) in
                [(&factor.a, factor.input, &wanted["A"]), (&factor.b, factor.out, &wanted["B"])]
            {
                let found: Vec<Vec<f64>> = values.chunks(side).map(<[f64]>::to_vec).collect();
                agree(&factor.name, &found, &matrix(wanted), TOLERANCE);
            }
            // The last input is the constant of the bias.
            assert_eq!(factor.a.last(), Some(&1.0));
        }
    }
}

#[test]
fn gradients_of_a_measurement_are_turned_where_the_user_says_so() {
    let (folder, tool) = (Folder::read("bergson/whole"), ForeignTool::Bergson);
    let options = ForeignOptions { higher_is_better: true, ..ForeignOptions::default() };
    let (mut plain, mut turned) = (Vec::new(), Vec::new());
    folder.gradients(tool).unwrap().read_row(3, &mut plain);
    let gradients = tool.gradients(&folder.files(tool), &options).unwrap();
    gradients.read_row(3, &mut turned);
    assert!(plain.iter().any(|value| *value != 0.0));
    assert!(plain.iter().zip(&turned).all(|(plain, turned)| *plain == -turned));
    assert!(said(gradients.notes(), "signs turned"));
}
