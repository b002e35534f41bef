//! Sketch files made in memory.

use ascribe::base::RandomStream;
use ascribe::sources::TensorSet;
use serde_json::{Map, Value, json};

/// A tensor of a file: name, type, shape and bytes.
pub(crate) struct NamedTensor {
    name: String,
    element: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl NamedTensor {
    pub(crate) fn reals(name: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name: name.to_owned(), element: "F32", shape: shape.to_vec(), bytes }
    }

    pub(crate) fn integers(name: &str, shape: &[usize], values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name: name.to_owned(), element: "I64", shape: shape.to_vec(), bytes }
    }
}

/// A sketch file of these tensors.
pub(crate) fn sketch_file(schema: &Value, tensors: &[NamedTensor]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    let metadata = json!({"ascribe.sketch": "1", "schema": schema.to_string()});
    header.insert("__metadata__".to_owned(), metadata);
    for NamedTensor { name, element, shape, bytes } in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        data.extend_from_slice(bytes);
        header.insert(name.clone(), json!({"dtype": element, "shape": shape, "data_offsets": offsets}));
    }
    let header = Value::from(header).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// The file `bytes` with another f32 as value `index` of a tensor.
pub(crate) fn with_value(bytes: &[u8], tensor: &str, index: usize, value: f32) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let first = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    let place = 8 + length + first + 4 * index;
    let mut changed = bytes.to_vec();
    changed[place..place + 4].copy_from_slice(&value.to_le_bytes());
    changed
}

/// The file `bytes` with another text in place of one of the same length in its header.
pub(crate) fn with_header(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut changed = bytes.to_vec();
    let place = bytes.windows(from.len()).position(|text| text == from.as_bytes()).unwrap();
    changed[place..place + to.len()].copy_from_slice(to.as_bytes());
    changed
}

/// All values of a tensor of f32.
pub(crate) fn values(tensors: &TensorSet<'_>, name: &str) -> Vec<f32> {
    let tensor = tensors.tensor(name).unwrap_or_else(|| panic!("there is no tensor {name:?}"));
    let mut values = Vec::new();
    for row in 0..tensor.rows() {
        let mut own = vec![f32::NAN; tensor.width()];
        tensor.read_row(row, &mut own);
        values.extend(own);
    }
    values
}

/// Rows of the files that [`several_members`] makes.
pub(crate) const MEMBER_ROWS: usize = 30;

/// Places of the table in these files.
const PLACES: u64 = 6;

/// A file of two members and four modules: inputs that the members share, if `shared`, factors of two pairs, a whole matrix
/// and a table. The values are the same whether inputs are shared or not. Probabilities fall with `seed`.
pub(crate) fn several_members(seed: u64, rows: usize, shared: bool) -> Vec<u8> {
    let schema = json!({
        "members": 2,
        "checkpoints": [{"run": 0, "epoch": 1}, {"run": 0, "epoch": 5}],
        "loss": "cross-entropy, summed",
        "labels": "true",
        "modules": [
            {"name": "first", "out": 3, "in": 4, "bias": true, "encoding": "factored", "rank": 1, "shared_input": shared},
            {"name": "pairs", "out": 2, "in": 3, "encoding": "factored", "rank": 2},
            {"name": "whole", "out": 2, "in": 2, "encoding": "dense"},
            {"name": "table", "out": 2, "in": PLACES, "encoding": "sparse", "rank": 1, "terms": 3},
        ],
    });
    let mut random = RandomStream::new(seed);
    let mut draw = |count: usize, scale: f64| -> Vec<f32> {
        (0..count).map(|_| ((random.unit() - 0.4) * scale) as f32).collect()
    };
    let inputs = draw(rows * 4, 1.0);
    let mut tensors = Vec::new();
    let places: Vec<i64> =
        (0..rows * 3).map(|at| if at % 5 == 4 { -1 } else { ((at * 7) as u64 % PLACES) as i64 }).collect();
    for member in 0..2 {
        // The second member is far surer of everything.
        let scale = if member == 0 { 1.0 } else { 0.05 };
        let mut reals = |module: &str, shape: &[usize], values: Vec<f32>| {
            tensors.push(NamedTensor::reals(&format!("m{member}.{module}"), shape, &values));
        };
        reals("first.u", &[rows, 1, 3], draw(rows * 3, scale));
        if member == 0 || !shared {
            reals("first.v", &[rows, 1, 4], inputs.clone());
        }
        reals("pairs.u", &[rows, 2, 2], draw(rows * 4, scale));
        reals("pairs.v", &[rows, 2, 3], draw(rows * 6, 1.0));
        reals("whole.g", &[rows, 2, 2], draw(rows * 4, scale));
        reals("table.u", &[rows, 1, 2], draw(rows * 2, scale));
        reals("table.v", &[rows, 1, 3], draw(rows * 3, 1.0));
        let own = draw(rows, 1.0).iter().map(|value| (value.abs() + 0.01) * scale as f32).collect();
        reals("own", &[rows], own);
        tensors.push(NamedTensor::integers(&format!("m{member}.table.ids"), &[rows, 3], &places));
    }
    let course = draw(rows * 3, 1.0).iter().map(|value| value.abs() + 0.2).collect::<Vec<f32>>();
    tensors.push(NamedTensor::reals("trajectory.p", &[rows, 3], &course));
    tensors.push(NamedTensor::reals("trajectory.weight", &[3], &[1.0, 0.5, 0.25]));
    sketch_file(&schema, &tensors)
}
