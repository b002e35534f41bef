//! Gradients and factors of other tools as those of a schema.

use std::io::{self, Seek, SeekFrom, Write};

use serde_json::{Map, Value, json};

use super::file::SKETCH_FILE_VERSION;
use super::schema::{Checkpoint, SchemaModule, SketchSchema};
use super::source::{GradientSource, SketchFileError};
use crate::base::limits::SCAN_CHUNK_ROWS;
use crate::format::NOT_MEASURED;
use crate::sources::{ForeignFactors, ForeignGradients, Place};

/// Bytes that the header of a safetensors file is padded to a multiple of.
const HEADER_ALIGNMENT_BYTES: usize = 8;

/// Gradients of another tool, with the schema that follows from its folder: one dense module for each of the tool's.
#[derive(Debug)]
pub struct ForeignSketches<'a> {
    gradients: ForeignGradients<'a>,
    schema: SketchSchema,
}

impl<'a> ForeignSketches<'a> {
    /// The gradients of a folder.
    ///
    /// # Errors
    /// No column can be laid out so.
    pub fn new(gradients: ForeignGradients<'a>) -> Result<Self, SketchFileError> {
        let modules = gradients.modules().iter().map(|module| SchemaModule {
            name: module.name.clone(),
            out: module.out,
            input: module.input,
            bias: false,
            encoding: "dense".to_owned(),
            rank: None,
            terms: None,
            projection: None,
            shared_input: false,
        });
        // How long a model was trained is kept by none of the tools.
        let checkpoints = gradients.runs().iter().map(|run| Checkpoint { run: *run, epoch: 0 });
        let from = gradients.origin();
        let schema =
            SketchSchema::of_modules(checkpoints.collect(), &from.loss, &from.labels, modules.collect())
                .map_err(|source| SketchFileError::Schema { input: gradients.name().to_owned(), source })?
                .with_origin(&from.origin, from.scaling.as_deref());
        Ok(Self { gradients, schema })
    }

    /// The gradients as they were read.
    pub fn gradients(&self) -> &ForeignGradients<'a> {
        &self.gradients
    }

    /// Writes a sketch file of all rows in single precision.
    ///
    /// # Errors
    /// `out` cannot be written to.
    ///
    /// # Complexity
    /// One pass over the rows, a block at a time.
    pub fn write_file<W: Write + Seek>(&self, out: &mut W) -> io::Result<()> {
        let (rows, parts) = (self.rows(), self.schema.layout().parts());
        let (header, starts) = self.header();
        out.write_all(&header)?;
        let (mut values, mut bytes) = (Vec::new(), Vec::new());
        for first in (0..rows).step_by(SCAN_CHUNK_ROWS as usize) {
            let count = (rows - first).min(SCAN_CHUNK_ROWS as usize);
            values.clear();
            (first..first + count).for_each(|row| self.gradients.read_row(row, &mut values));
            let width = self.schema.layout().width();
            for (part, start) in parts.iter().zip(&starts) {
                bytes.clear();
                for row in values.chunks_exact(width.max(1)) {
                    let own = &row[part.offset..part.offset + part.width];
                    bytes.extend(own.iter().flat_map(|value| value.to_le_bytes()));
                }
                let place = header.len() as u64 + start + (first * part.width) as u64 * 4;
                out.seek(SeekFrom::Start(place))?;
                out.write_all(&bytes)?;
            }
        }
        if self.has_outcomes() {
            let mut own = Vec::new();
            (0..rows).for_each(|row| self.gradients.read_own(row, &mut own));
            let members = self.schema.members() as usize;
            for (member, start) in (0..members).zip(&starts[parts.len()..]) {
                let of_member = own.iter().skip(member).step_by(members);
                let bytes: Vec<u8> = of_member.flat_map(|value| value.to_le_bytes()).collect();
                out.seek(SeekFrom::Start(header.len() as u64 + start))?;
                out.write_all(&bytes)?;
            }
        }
        out.flush()
    }

    /// The header of a sketch file, and where the values of each part, and then each member's `own`, begin behind it.
    fn header(&self) -> (Vec<u8>, Vec<u64>) {
        let modules = self.schema.layout().modules();
        let mut header = Map::new();
        let metadata = json!({"ascribe.sketch": SKETCH_FILE_VERSION, "schema": self.schema.to_json()});
        header.insert("__metadata__".to_owned(), metadata);
        let (mut starts, mut end) = (Vec::new(), 0_u64);
        for (position, part) in self.schema.layout().parts().iter().enumerate() {
            let module = &modules[position % modules.len()];
            let bytes = self.rows() as u64 * part.width as u64 * 4;
            let tensor = json!({
                "dtype": "F32",
                "shape": [self.rows(), module.out, module.input],
                "data_offsets": [end, end + bytes],
            });
            header.insert(format!("m{}.{}.g", position / modules.len(), module.name), tensor);
            starts.push(end);
            end += bytes;
        }
        for member in (0..self.schema.members()).filter(|_| self.has_outcomes()) {
            let bytes = self.rows() as u64 * 4;
            let tensor = json!({"dtype": "F32", "shape": [self.rows()], "data_offsets": [end, end + bytes]});
            header.insert(format!("m{member}.own"), tensor);
            starts.push(end);
            end += bytes;
        }
        let mut text = Value::Object(header).to_string();
        while !text.len().is_multiple_of(HEADER_ALIGNMENT_BYTES) {
            text.push(' ');
        }
        ([&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat(), starts)
    }
}

impl GradientSource for ForeignSketches<'_> {
    fn name(&self) -> &str {
        self.gradients.name()
    }

    fn schema(&self) -> &SketchSchema {
        &self.schema
    }

    fn rows(&self) -> usize {
        self.gradients.rows()
    }

    fn has_outcomes(&self) -> bool {
        self.gradients.has_own()
    }

    fn place(&self, row: usize) -> Place {
        Place { input: self.name().to_owned(), unit: "row", number: row as u64 + 1 }
    }

    fn read_row(
        &self,
        row: usize,
        values: &mut Vec<f32>,
        _: &mut Vec<u32>,
        outcomes: &mut Vec<f32>,
    ) -> Result<(), SketchFileError> {
        self.gradients.read_row(row, values);
        if self.has_outcomes() {
            self.gradients.read_own(row, outcomes);
            // The course of training is kept by none of the tools.
            outcomes.extend([NOT_MEASURED; 2]);
        }
        Ok(())
    }
}

/// Refuses factors of another tool that are not those of a schema's modules: each module must have one of its widths, the
/// input of a bias counted, and none may be projected. Tables need none.
///
/// # Errors
/// A module has no factor, or one of another width; or it is projected.
///
/// ```
/// use ascribe::sketch::{SketchSchema, check_factors};
/// use ascribe::sources::{ForeignFactor, ForeignFactors};
/// let text = r#"{"members": 1, "checkpoints": [{"run": 0, "epoch": 3}], "loss": "l", "labels": "true",
///   "modules": [{"name": "net.0", "out": 1, "in": 2, "bias": true, "encoding": "factored"}]}"#;
/// let schema = SketchSchema::parse(text).unwrap();
/// let (name, a, b) = ("net.0".to_owned(), vec![1.0; 4], vec![1.0]);
/// let factor = ForeignFactor { name, a, input: 2, b, out: 1, activations: 9, gradients: 9 };
/// let mut factors = ForeignFactors { name: "factors_ekfac".to_owned(), modules: vec![factor] };
/// assert!(check_factors(&factors, &schema).is_ok());
/// factors.modules[0].input = 1;
/// let text = check_factors(&factors, &schema).unwrap_err().to_string();
/// assert!(text.contains("1 x 1, the schema has 1 outputs and 2 inputs (the bias counted)"), "{text}");
/// ```
pub fn check_factors(factors: &ForeignFactors, schema: &SketchSchema) -> Result<(), SketchFileError> {
    for module in schema.modules() {
        let refuse = |reason: String| SketchFileError::Tensor {
            tensor: format!("{}, module {:?}", factors.name, module.name),
            reason,
        };
        // Nobody has a factor over a vocabulary.
        if module.encoding == "sparse" {
            continue;
        }
        if module.projection.is_some() {
            return Err(refuse("is projected in the schema, factors are not".to_owned()));
        }
        let Some(factor) = factors.modules.iter().find(|factor| factor.name == module.name) else {
            return Err(refuse("has no factors".to_owned()));
        };
        if (factor.out, factor.input) != (module.out as usize, module.input as usize) {
            let bias = if module.bias { " (the bias counted)" } else { "" };
            return Err(refuse(format!(
                "has factors for {} x {}, the schema has {} outputs and {} inputs{bias}",
                factor.out, factor.input, module.out, module.input
            )));
        }
    }
    Ok(())
}
