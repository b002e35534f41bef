//! Columns and fields as they are typed.

use std::fs;

use super::failure::Failure;
use crate::base::{ElementType, FieldDeclaration, FieldType, check_name};
use crate::encoder::{Device, EncoderSpecification};
use crate::engine::{ColumnDefinition, ColumnEncoder};
use crate::sketch::SketchSchema;

/// Reads `NAME:TYPE`.
pub(super) fn parse_field(text: &str) -> Result<FieldDeclaration, String> {
    let kinds = || FieldType::ALL.map(FieldType::name).join(", ");
    let (name, kind) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("write NAME:TYPE, such as year:integer; types are {}", kinds()))?;
    check_name(name).map_err(|error| error.to_string())?;
    let kind =
        FieldType::from_name(kind).ok_or_else(|| format!("{kind:?} is no type; types are {}", kinds()))?;
    Ok(FieldDeclaration { name: name.to_owned(), kind })
}

/// Reads `cpu` or `cuda[:N]`.
pub(super) fn parse_device(text: &str) -> Result<Device, String> {
    Device::parse(text).map_err(|error| error.to_string())
}

/// Reads `vectors:DIM`, `hashed[:DIM]` or the folder of a model, with the element type (`:f32`, `:f16`, `:bf16`, `:int8`) behind it if the
/// values shall not be stored as f32.
pub(super) fn parse_column(name: &str, text: &str) -> Result<ColumnDefinition, Failure> {
    let (encoder, element) = split_element(text);
    let specification =
        EncoderSpecification::parse(encoder).map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(ColumnDefinition { name: name.to_owned(), element, encoder: ColumnEncoder::BuiltIn(specification) })
}

/// The element type behind a specification, f32 where there is none.
fn split_element(text: &str) -> (&str, ElementType) {
    let named = text.rsplit_once(':').and_then(|(rest, last)| Some((rest, ElementType::from_name(last)?)));
    named.unwrap_or((text, ElementType::F32))
}

/// Reads the schema of a sketch column from the file `text`, with an element type behind its name if the values shall not
/// be stored as f32.
pub(super) fn parse_sketch(name: &str, text: &str) -> Result<ColumnDefinition, Failure> {
    let (path, element) = split_element(text);
    let schema = fs::read_to_string(path)
        .map_err(|error| Failure::Failed(format!("cannot read the schema {path}: {error}")))?;
    let schema = SketchSchema::parse(&schema).map_err(|error| Failure::Failed(format!("{path}: {error}")))?;
    Ok(ColumnDefinition { name: name.to_owned(), element, encoder: ColumnEncoder::Sketch(Box::new(schema)) })
}

/// Reads `NAME=SPEC`.
pub(super) fn parse_named_column(text: &str) -> Result<ColumnDefinition, Failure> {
    let (name, specification) = text.split_once('=').ok_or_else(|| {
        Failure::Usage(format!("{text:?} is no NAME=ENCODER, such as small=hashed:64 or other=vectors:384"))
    })?;
    check_name(name).map_err(|error| Failure::Usage(error.to_string()))?;
    if split_element(specification).0.ends_with(".json") {
        return parse_sketch(name, specification);
    }
    parse_column(name, specification)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_name_and_type() {
        let field = parse_field("year:integer").unwrap();
        assert_eq!((field.name.as_str(), field.kind), ("year", FieldType::Integer));
        for text in ["year", "year:", ":integer", "year:int", "a:b:text", "9:text"] {
            assert!(parse_field(text).is_err(), "{text}");
        }
        assert!(parse_field("year:int").is_err_and(|text| text.contains("timestamp")));
    }

    #[test]
    fn columns_have_encoder_and_element() {
        let read = |text: &str| {
            let column = parse_column("embedding", text).unwrap();
            match column.encoder {
                ColumnEncoder::BuiltIn(specification) => (specification.to_string(), column.element),
                _ => unreachable!(),
            }
        };
        assert_eq!(read("vectors:384"), ("vectors:384".to_owned(), ElementType::F32));
        assert_eq!(read("vectors:384:f16"), ("vectors:384".to_owned(), ElementType::F16));
        assert_eq!(read("hashed:64:int8"), ("hashed:64".to_owned(), ElementType::I8));
        assert_eq!(read("hashed:bf16").1, ElementType::BF16);
        assert_eq!(read("./models/bert"), ("./models/bert".to_owned(), ElementType::F32));
        assert_eq!(read("src:f16"), ("src".to_owned(), ElementType::F16));
    }

    #[test]
    fn nonsense_is_wrong_usage() {
        for text in ["vectors", "vectors:0", "hashed:x", "vectors:3:f64", "nonsense", ""] {
            assert!(matches!(parse_column("c", text), Err(Failure::Usage(_))), "{text}");
        }
        for text in ["x", "=hashed", "a b=hashed", "a="] {
            assert!(matches!(parse_named_column(text), Err(Failure::Usage(_))), "{text}");
        }
        assert_eq!(parse_named_column("small=hashed:64").unwrap().name, "small");
    }
}
