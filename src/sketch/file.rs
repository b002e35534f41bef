//! Sketch files: checked against a schema, read row by row.

use super::schema::SketchSchema;
use super::source::{GradientSource, SketchFileError};
use crate::format::{ModuleEncoding, NOT_MEASURED, SPARSE_PADDING};
use crate::sources::{Place, Tensor, TensorElement, TensorSet};

/// The only version of sketch files.
pub const SKETCH_FILE_VERSION: &str = "1";

/// The tensors of one module of one member.
#[derive(Debug)]
enum ModuleTensors<'a> {
    Factors { u: Tensor<'a>, v: Option<Tensor<'a>>, ids: Option<Tensor<'a>> },
    Matrix(Tensor<'a>),
}

/// A sketch file whose tensors have the shapes that its schema promises.
#[derive(Debug)]
pub struct SketchFile<'a> {
    name: String,
    schema: SketchSchema,
    rows: usize,
    /// Member by member, module by module.
    tensors: Vec<ModuleTensors<'a>>,
    own: Vec<Option<Tensor<'a>>>,
    trajectory: Option<(Tensor<'a>, Vec<f32>)>,
}

/// What a reader of rows needs to keep between them.
#[derive(Debug, Default)]
struct Integers(Vec<i64>, Vec<i64>);

impl GradientSource for SketchFile<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn schema(&self) -> &SketchSchema {
        &self.schema
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn has_outcomes(&self) -> bool {
        self.trajectory.is_some() || self.own.iter().any(Option::is_some)
    }

    fn place(&self, row: usize) -> Place {
        Place { input: self.name.clone(), unit: "row", number: row as u64 + 1 }
    }

    fn read_row(
        &self,
        row: usize,
        values: &mut Vec<f32>,
        terms: &mut Vec<u32>,
        outcomes: &mut Vec<f32>,
    ) -> Result<(), SketchFileError> {
        let layout = self.schema.layout();
        let mut take = |tensor: &Tensor<'_>| {
            let start = values.len();
            values.resize(start + tensor.width(), 0.0);
            tensor.read_row(row, &mut values[start..]);
        };
        let mut integers = Integers::default();
        for (position, tensors) in self.tensors.iter().enumerate() {
            match tensors {
                ModuleTensors::Matrix(matrix) => take(matrix),
                ModuleTensors::Factors { u, v, ids } => {
                    take(u);
                    v.iter().for_each(&mut take);
                    if let Some(ids) = ids {
                        let module = position % layout.modules().len();
                        self.read_terms(row, ids, (position, module), &mut integers, terms)?;
                    }
                }
            }
        }
        if self.has_outcomes() {
            self.read_outcomes(row, outcomes)?;
        }
        Ok(())
    }
}

impl<'a> SketchFile<'a> {
    /// Checks the tensors of a file against the schema in it.
    ///
    /// # Errors
    /// It is no sketch file, a tensor is missing or has another shape or type, or there is one that the schema does not call
    /// for.
    ///
    /// # Complexity
    /// O(tensors); values are not looked at.
    pub fn new(tensors: &'a TensorSet<'a>) -> Result<Self, SketchFileError> {
        let name = tensors.name().to_owned();
        let schema = Self::schema_of(tensors)?;
        let mut reader = Reader { tensors, rows: None, known: Vec::new() };
        let mut found = Vec::new();
        for member in 0..schema.members() {
            for module in schema.layout().modules() {
                let of = |side: &str| format!("m{member}.{}.{side}", module.name);
                let [rank, out, input, terms] =
                    [module.rank, module.out, module.input, module.terms].map(|width| width as usize);
                found.push(match module.encoding {
                    ModuleEncoding::Dense => ModuleTensors::Matrix(reader.real(of("g"), &[out, input])?),
                    encoding => {
                        let u = reader.real(of("u"), &[rank, out])?;
                        let is_kept = encoding != ModuleEncoding::SharedInput || member == 0;
                        let width = if encoding == ModuleEncoding::Sparse { terms } else { input };
                        let v = if is_kept { Some(reader.real(of("v"), &[rank, width])?) } else { None };
                        let is_sparse = encoding == ModuleEncoding::Sparse;
                        let ids = if is_sparse { Some(reader.integers(of("ids"), terms)?) } else { None };
                        ModuleTensors::Factors { u, v, ids }
                    }
                });
            }
        }
        let mut own = Vec::new();
        for member in 0..schema.members() {
            own.push(reader.optional(format!("m{member}.own"), &[])?);
        }
        let trajectory = reader.trajectory()?;
        let rows = reader.rows.unwrap_or(0);
        let stray = tensors.names().into_iter().find(|name| !reader.is_known(name)).map(str::to_owned);
        if let Some(stray) = stray {
            return Err(SketchFileError::Tensor {
                tensor: format!("{name}, tensor {stray:?},"),
                reason: "is not one that the schema calls for".to_owned(),
            });
        }
        Ok(Self { name, schema, rows, tensors: found, own, trajectory })
    }

    /// The schema that stands beside the tensors of a file.
    ///
    /// # Errors
    /// There is none, or none that can be.
    pub fn schema_of(tensors: &TensorSet<'_>) -> Result<SketchSchema, SketchFileError> {
        let name = tensors.name().to_owned();
        let not_one =
            |reason: &str| SketchFileError::NotOne { input: name.clone(), reason: reason.to_owned() };
        match tensors.metadata("ascribe.sketch") {
            Some(SKETCH_FILE_VERSION) => {}
            Some(_) => return Err(not_one("its \"ascribe.sketch\" is not \"1\"; use a newer ascribe")),
            None => return Err(not_one("its __metadata__ has no \"ascribe.sketch\"")),
        }
        let text = tensors.metadata("schema").ok_or_else(|| not_one("its __metadata__ has no \"schema\""))?;
        SketchSchema::parse(text).map_err(|source| SketchFileError::Schema { input: name, source })
    }

    fn read_terms(
        &self,
        row: usize,
        ids: &Tensor<'_>,
        (position, module): (usize, usize),
        integers: &mut Integers,
        terms: &mut Vec<u32>,
    ) -> Result<(), SketchFileError> {
        let layout = self.schema.layout();
        let refuse = |reason: String| SketchFileError::Value {
            place: self.place(row),
            what: ids.name().to_owned(),
            reason,
        };
        let Integers(own, first) = integers;
        own.resize(ids.width(), 0);
        ids.read_integers(row, own);
        if position >= layout.modules().len() {
            let ModuleTensors::Factors { ids: Some(of_first), .. } = &self.tensors[module] else {
                return Ok(());
            };
            first.resize(ids.width(), 0);
            of_first.read_integers(row, first);
            return if own == first {
                Ok(())
            } else {
                Err(refuse(
                    "differs from that of the first member; a row has the same places for all".to_owned(),
                ))
            };
        }
        let places = i64::from(layout.modules()[module].input);
        for id in own {
            terms.push(match u32::try_from(*id) {
                Ok(place) if *id < places => place,
                _ if *id == -1 => SPARSE_PADDING,
                _ => return Err(refuse(format!("names place {id}; 0 to {} are there, -1 pads", places - 1))),
            });
        }
        Ok(())
    }

    fn read_outcomes(&self, row: usize, outcomes: &mut Vec<f32>) -> Result<(), SketchFileError> {
        let check = |what: &str, value: f32| {
            if (0.0..=1.0).contains(&value) {
                return Ok(value);
            }
            let reason = format!("is {value}; a probability lies between 0 and 1");
            Err(SketchFileError::Value { place: self.place(row), what: what.to_owned(), reason })
        };
        for own in &self.own {
            outcomes.push(match own {
                Some(own) => {
                    let mut value = [0.0];
                    own.read_row(row, &mut value);
                    check(own.name(), value[0])?
                }
                None => NOT_MEASURED,
            });
        }
        let Some((probabilities, weights)) = &self.trajectory else {
            outcomes.extend([NOT_MEASURED; 2]);
            return Ok(());
        };
        let mut course = vec![0.0; weights.len()];
        probabilities.read_row(row, &mut course);
        let (mut weighted, mut plain, mut total) = (0.0, 0.0, 0.0);
        for (value, weight) in course.iter().zip(weights) {
            let value = f64::from(check(probabilities.name(), *value)?);
            weighted += f64::from(*weight) * value;
            plain += value;
            total += f64::from(*weight);
        }
        outcomes.extend([(weighted / total) as f32, (plain / weights.len() as f64) as f32]);
        Ok(())
    }
}

struct Reader<'a> {
    tensors: &'a TensorSet<'a>,
    rows: Option<usize>,
    known: Vec<String>,
}

impl<'a> Reader<'a> {
    fn refuse(tensor: &Tensor<'_>, reason: String) -> SketchFileError {
        SketchFileError::Tensor { tensor: tensor.name().to_owned(), reason }
    }

    /// A tensor of which row has the shape `of_row`; a leading 1 in it may be left out.
    fn optional(&mut self, name: String, of_row: &[usize]) -> Result<Option<Tensor<'a>>, SketchFileError> {
        let Some(tensor) = self.tensors.tensor(&name) else { return Ok(None) };
        self.known.push(name);
        let shape = tensor.shape();
        let short = of_row.strip_prefix(&[1]).unwrap_or(of_row);
        let fits = shape.split_first().is_some_and(|(_, row)| row == of_row || row == short);
        if !fits {
            let reason = format!("has shape {shape:?}, the schema calls for [rows, {of_row:?}]");
            return Err(Self::refuse(&tensor, reason));
        }
        let rows = tensor.rows();
        if *self.rows.get_or_insert(rows) != rows {
            let reason = format!("has {rows} rows, others of the file {}", self.rows.unwrap_or(0));
            return Err(Self::refuse(&tensor, reason));
        }
        Ok(Some(tensor))
    }

    fn required(&mut self, name: String, of_row: &[usize]) -> Result<Tensor<'a>, SketchFileError> {
        let missing = SketchFileError::Tensor {
            tensor: format!("{}, tensor {name:?},", self.tensors.name()),
            reason: "is missing, or has a type that is not read".to_owned(),
        };
        self.optional(name, of_row)?.ok_or(missing)
    }

    fn real(&mut self, name: String, of_row: &[usize]) -> Result<Tensor<'a>, SketchFileError> {
        let tensor = self.required(name, of_row)?;
        match tensor.element() {
            TensorElement::Real(_) => Ok(tensor),
            _ => Err(Self::refuse(&tensor, "holds integers; write F32, F16 or BF16".to_owned())),
        }
    }

    fn integers(&mut self, name: String, terms: usize) -> Result<Tensor<'a>, SketchFileError> {
        let tensor = self.required(name, &[terms])?;
        match tensor.element() {
            TensorElement::I64 => Ok(tensor),
            _ => Err(Self::refuse(&tensor, "holds no I64 values".to_owned())),
        }
    }

    /// Probabilities along training and the weights of the epochs.
    fn trajectory(&mut self) -> Result<Option<(Tensor<'a>, Vec<f32>)>, SketchFileError> {
        let (name, weights_name) = ("trajectory.p", "trajectory.weight");
        let Some(probabilities) = self.tensors.tensor(name) else { return Ok(None) };
        let epochs = probabilities.shape().get(1).copied().unwrap_or(0);
        let probabilities = self.real(name.to_owned(), &[epochs])?;
        let weights = self.tensors.tensor(weights_name).ok_or_else(|| SketchFileError::Tensor {
            tensor: format!("{}, tensor {weights_name:?},", self.tensors.name()),
            reason: "is missing beside \"trajectory.p\"".to_owned(),
        })?;
        self.known.push(weights_name.to_owned());
        let mut values = vec![0.0];
        if weights.shape() == [epochs] && epochs > 0 {
            let mut one = [0.0];
            values = (0..epochs)
                .map(|epoch| {
                    weights.read_row(epoch, &mut one);
                    one[0]
                })
                .collect();
        }
        let is_weight = |weight: &f32| weight.is_finite() && *weight >= 0.0;
        if values.iter().all(is_weight) && values.iter().sum::<f32>() > 0.0 {
            return Ok(Some((probabilities, values)));
        }
        let reason = format!("does not hold {epochs} weights that are 0 or more, with a sum above 0");
        Err(Self::refuse(&weights, reason))
    }

    /// Whether a tensor was read, or is one of those that other methods use.
    fn is_known(&self, name: &str) -> bool {
        let is_extra = |suffix: &str| name.starts_with('m') && name.ends_with(suffix);
        self.known.iter().any(|known| known == name) || [".A", ".B", ".jacobian"].into_iter().any(is_extra)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"members":2,"checkpoints":[{"run":0,"epoch":1},{"run":0,"epoch":2}],"loss":"l","labels":"true","modules":[
        {"name":"a","out":1,"in":2,"encoding":"factored","shared_input":true},
        {"name":"b","out":1,"in":2,"encoding":"dense"},
        {"name":"w","out":1,"in":5,"encoding":"sparse","terms":2}]}"#;

    /// A file of these tensors, each a name, a type, a shape and bytes.
    fn file(schema: &str, tensors: &[(&str, &str, &[usize], Vec<u8>)]) -> Vec<u8> {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        header
            .insert("__metadata__".to_owned(), serde_json::json!({"ascribe.sketch": "1", "schema": schema}));
        for (name, kind, shape, bytes) in tensors {
            let offsets = [data.len(), data.len() + bytes.len()];
            data.extend_from_slice(bytes);
            let tensor = serde_json::json!({"dtype": kind, "shape": shape, "data_offsets": offsets});
            header.insert((*name).to_owned(), tensor);
        }
        let header = serde_json::to_string(&header).unwrap();
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
    }

    fn reals(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn integers(values: &[i64]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    type Tensors = Vec<(&'static str, &'static str, &'static [usize], Vec<u8>)>;

    fn tensors() -> Tensors {
        vec![
            ("m0.a.u", "F32", &[2, 1, 1], reals(&[1.0, 2.0])),
            ("m0.a.v", "F32", &[2, 2], reals(&[3.0, 4.0, 5.0, 6.0])),
            ("m1.a.u", "F32", &[2, 1], reals(&[7.0, 8.0])),
            ("m0.b.g", "F32", &[2, 1, 2], reals(&[1.5, 2.5, 3.5, 4.5])),
            ("m1.b.g", "F32", &[2, 1, 2], reals(&[0.0; 4])),
            ("m0.w.u", "F32", &[2, 1, 1], reals(&[1.0, 1.0])),
            ("m0.w.v", "F32", &[2, 1, 2], reals(&[1.0, 1.0, 1.0, 0.0])),
            ("m0.w.ids", "I64", &[2, 2], integers(&[0, 4, 3, -1])),
            ("m1.w.u", "F32", &[2, 1, 1], reals(&[1.0, 1.0])),
            ("m1.w.v", "F32", &[2, 1, 2], reals(&[1.0, 1.0, 1.0, 0.0])),
            ("m1.w.ids", "I64", &[2, 2], integers(&[0, 4, 3, -1])),
            ("m0.own", "F32", &[2], reals(&[0.5, 1e-10])),
            ("m1.own", "F32", &[2], reals(&[0.25, 0.0])),
            ("trajectory.p", "F32", &[2, 3], reals(&[0.0, 0.5, 1.0, 1.0, 1.0, 1.0])),
            ("trajectory.weight", "F32", &[3], reals(&[1.0, 1.0, 2.0])),
            ("m0.a.A", "F32", &[1], reals(&[1.0])),
        ]
    }

    #[test]
    fn rows_are_read_in_the_order_of_the_layout() {
        let bytes = file(SCHEMA, &tensors());
        let set = TensorSet::new(&bytes, "s").unwrap();
        let sketches = SketchFile::new(&set).unwrap();
        let (mut values, mut terms, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        sketches.read_row(1, &mut values, &mut terms, &mut outcomes).unwrap();
        assert_eq!(values, [2.0, 5.0, 6.0, 3.5, 4.5, 1.0, 1.0, 0.0, 8.0, 0.0, 0.0, 1.0, 1.0, 0.0]);
        assert_eq!(values.len(), sketches.schema().layout().width());
        assert_eq!(terms, [3, SPARSE_PADDING]);
        assert_eq!(outcomes, [1e-10, 0.0, 1.0, 1.0]);
        outcomes.clear();
        sketches.read_row(0, &mut values, &mut terms, &mut outcomes).unwrap();
        assert_eq!(outcomes, [0.5, 0.25, 0.625, 0.5]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_place() {
        type Change = Box<dyn Fn(&mut Tensors)>;
        let replace = |name: &'static str, kind: &'static str, shape: &'static [usize], bytes: Vec<u8>| {
            Box::new(move |all: &mut Tensors| {
                all.retain(|tensor| tensor.0 != name);
                all.push((name, kind, shape, bytes.clone()));
            }) as Change
        };
        let cases: Vec<(Change, &str)> = vec![
            (Box::new(|all: &mut Tensors| drop(all.remove(1))), "\"m0.a.v\", is missing"),
            (replace("m0.a.u", "F32", &[3, 1, 1], reals(&[0.0; 3])), "has 2 rows, others of the file 3"),
            (replace("m0.b.g", "F32", &[2, 2, 1], reals(&[0.0; 4])), "has shape [2, 2, 1]"),
            (replace("m0.w.ids", "F32", &[2, 2], reals(&[0.0; 4])), "holds no I64"),
            (replace("m0.a.u", "I64", &[2, 1], integers(&[0; 2])), "holds integers"),
            (replace("trajectory.weight", "F32", &[3], reals(&[0.0; 3])), "3 weights"),
            (replace("trajectory.weight", "F32", &[2], reals(&[1.0; 2])), "3 weights"),
            (replace("m0.c.u", "F32", &[2], reals(&[0.0; 2])), "\"m0.c.u\", is not one that the schema"),
            (replace("m0.own", "F32", &[2], reals(&[0.5, 1.5])), "is 1.5; a probability"),
            (replace("m0.own", "F32", &[2], reals(&[0.5, f32::NAN])), "is NaN; a probability"),
            (replace("m0.w.ids", "I64", &[2, 2], integers(&[0, 4, 5, -1])), "names place 5; 0 to 4"),
            (replace("m1.w.ids", "I64", &[2, 2], integers(&[0, 4, 2, -1])), "differs from that of the first"),
        ];
        for (change, said) in cases {
            let mut changed = tensors();
            change(&mut changed);
            let bytes = file(SCHEMA, &changed);
            let set = TensorSet::new(&bytes, "s").unwrap();
            let read = SketchFile::new(&set)
                .and_then(|sketches| sketches.read_row(1, &mut Vec::new(), &mut Vec::new(), &mut Vec::new()));
            let text = read.expect_err(said).to_string();
            assert!(text.starts_with('s') && text.contains(said), "{text}");
        }
        let bytes = file("{}", &tensors());
        let set = TensorSet::new(&bytes, "s").unwrap();
        assert!(SketchFile::new(&set).unwrap_err().to_string().contains("missing field"));
        let mut bytes = file(SCHEMA, &[]);
        let place = bytes.windows(14).position(|text| text == b"ascribe.sketch").unwrap();
        bytes[place + 13] = b'd';
        let set = TensorSet::new(&bytes, "s").unwrap();
        assert!(SketchFile::new(&set).unwrap_err().to_string().contains("no \"ascribe.sketch\""));
    }
}
