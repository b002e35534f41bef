//! A matrix from npy bytes, versions 1 to 3.
//!
//! The header is a Python dictionary literal. Only the one form that NumPy writes is read: three known names, a type
//! string, `True` or `False`, a tuple of whole numbers.

use super::error::shortened;
use super::matrix::Stored;
use super::{Matrix, SourceError};
use crate::base::ByteReader;
use crate::base::limits::NPY_HEADER_BYTES_MAX;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Dimensions of a shape that are read before it is refused.
const DIMENSIONS_MAX: usize = 32;

impl<'a> Matrix<'a> {
    /// The matrix in `bytes`, a whole npy file, which is called `name` in messages.
    ///
    /// Shape `[rows, width]`, or `[width]` of one row; types `<f4`, `<f2` and `<f8`; C order.
    ///
    /// # Errors
    /// The header is not as the format demands; the type, the order of bytes or of values is another one; the shape
    /// is no matrix or too wide; the file is shorter or longer than its header says.
    ///
    /// # References
    /// NumPy, `numpy.lib.format`, "Format Version 1.0" to "3.0".
    ///
    /// ```
    /// use ascribe::sources::Matrix;
    /// # fn main() -> Result<(), ascribe::sources::SourceError> {
    /// let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n";
    /// let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    /// bytes.extend((header.len() as u16).to_le_bytes());
    /// bytes.extend(header.bytes());
    /// bytes.extend([0.5_f32, -2.0].into_iter().flat_map(f32::to_le_bytes));
    /// let matrix = Matrix::from_npy(&bytes, "queries.npy")?;
    /// let mut values = Vec::new();
    /// matrix.read_rows(0, 1, &mut values)?;
    /// assert_eq!((matrix.rows(), matrix.width(), values), (1, 2, vec![0.5, -2.0]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_npy(bytes: &'a [u8], name: &str) -> Result<Self, SourceError> {
        let array = NpyArray::new(bytes, name)?;
        let stored = array.real(name)?;
        Matrix::new(name, stored, &array.shape, array.data)
    }
}

/// An array of an npy file: what its header says, and the bytes behind it.
pub(super) struct NpyArray<'a> {
    /// Type of the values, such as `<f4`.
    pub(super) kind: &'a str,
    /// Sizes, the slowest first.
    pub(super) shape: Vec<u64>,
    /// The values, not yet compared with the shape.
    pub(super) data: &'a [u8],
}

impl<'a> NpyArray<'a> {
    /// The array in `bytes`, a whole npy file in C order.
    pub(super) fn new(bytes: &'a [u8], name: &str) -> Result<Self, SourceError> {
        let (text, start) = header_text(bytes).map_err(|problem| problem.of(name, 0))?;
        let header = Literal { text, offset: 0 }.header().map_err(|problem| problem.of(name, start))?;
        if header.fortran_order {
            return Err(SourceError::FortranOrder { input: name.to_owned() });
        }
        Ok(Self { kind: header.kind, shape: header.shape, data: &bytes[start + text.len()..] })
    }

    /// The type of values that are real numbers.
    pub(super) fn real(&self, name: &str) -> Result<Stored, SourceError> {
        match self.kind {
            "<f4" => Ok(Stored::F32),
            "<f2" => Ok(Stored::F16),
            "<f8" => Ok(Stored::F64),
            other => Err(SourceError::MatrixType {
                input: name.to_owned(),
                found: format!("{:?}", shortened(other)),
                accepted: "float32, float16 or float64",
            }),
        }
    }
}

/// What is wrong, and at which byte from some start.
struct Problem {
    offset: usize,
    reason: String,
}

impl Problem {
    fn of(self, name: &str, start: usize) -> SourceError {
        SourceError::MatrixHeader {
            input: name.to_owned(),
            format: "npy",
            offset: start + self.offset,
            reason: self.reason,
        }
    }
}

/// The text of the header, and the byte at which it begins.
fn header_text(bytes: &[u8]) -> Result<(&str, usize), Problem> {
    let mut reader = ByteReader::new(bytes);
    let cut_off =
        |error: crate::base::BytesError| Problem { offset: error.offset, reason: error.to_string() };
    if reader.take(MAGIC.len()).map_err(cut_off)? != MAGIC {
        return Err(Problem { offset: 0, reason: "it does not begin with the npy mark".to_owned() });
    }
    let version = (reader.u8().map_err(cut_off)?, reader.u8().map_err(cut_off)?);
    let length = match version {
        (1, 0) => usize::from(reader.u16().map_err(cut_off)?),
        (2 | 3, 0) => usize::try_from(reader.u32().map_err(cut_off)?).unwrap_or(usize::MAX),
        (major, minor) => {
            let reason = format!("version {major}.{minor} is unknown, versions 1.0, 2.0 and 3.0 are read");
            return Err(Problem { offset: MAGIC.len(), reason });
        }
    };
    let start = reader.offset();
    if length > NPY_HEADER_BYTES_MAX {
        let reason = format!("a header of {length} bytes, at most {NPY_HEADER_BYTES_MAX} are allowed");
        return Err(Problem { offset: MAGIC.len() + 2, reason });
    }
    let header = reader.take(length).map_err(cut_off)?;
    let text = str::from_utf8(header).map_err(|error| Problem {
        offset: start + error.valid_up_to(),
        reason: "the header is not valid UTF-8".to_owned(),
    })?;
    Ok((text, start))
}

/// What the header says.
struct Header<'a> {
    kind: &'a str,
    fortran_order: bool,
    shape: Vec<u64>,
}

/// Reads a Python dictionary literal from front to back.
struct Literal<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Literal<'a> {
    fn header(mut self) -> Result<Header<'a>, Problem> {
        let (mut kind, mut fortran_order, mut shape) = (None, None, None);
        self.expect("{")?;
        while !self.accept("}") {
            let start = self.offset;
            let name = self.string()?;
            self.expect(":")?;
            let is_new = match name {
                "descr" => kind.replace(self.string()?).is_none(),
                "fortran_order" => fortran_order.replace(self.boolean()?).is_none(),
                "shape" => shape.replace(self.tuple()?).is_none(),
                _ => false,
            };
            if !is_new {
                let reason = format!("the name {:?} is unknown or stands twice", shortened(name));
                return Err(Problem { offset: start, reason });
            }
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        self.skip_space();
        if self.offset != self.text.len() {
            return Err(self.problem("only spaces may follow the header's dictionary"));
        }
        match (kind, fortran_order, shape) {
            (Some(kind), Some(fortran_order), Some(shape)) => Ok(Header { kind, fortran_order, shape }),
            _ => Err(self.problem("one of 'descr', 'fortran_order' and 'shape' is missing")),
        }
    }

    fn problem(&self, reason: &str) -> Problem {
        Problem { offset: self.offset, reason: reason.to_owned() }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.offset..).unwrap_or("")
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.offset += rest.len() - rest.trim_ascii_start().len();
    }

    fn accept(&mut self, token: &str) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(token);
        self.offset += if found { token.len() } else { 0 };
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), Problem> {
        if self.accept(token) { Ok(()) } else { Err(self.problem(&format!("{token:?} is expected here"))) }
    }

    /// A string in single or double quotes, without escapes: no name or type needs one.
    fn string(&mut self) -> Result<&'a str, Problem> {
        let quote = if self.accept("'") {
            '\''
        } else if self.accept("\"") {
            '"'
        } else {
            return Err(self.problem("a string is expected here (a table of named fields is not a matrix)"));
        };
        let rest = self.rest();
        let end = rest.find([quote, '\\']).filter(|end| rest[*end..].starts_with(quote));
        let text = end.map(|end| &rest[..end]).ok_or_else(|| self.problem("this string does not end"))?;
        self.offset += text.len() + 1;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, Problem> {
        if self.accept("False") {
            Ok(false)
        } else if self.accept("True") {
            Ok(true)
        } else {
            Err(self.problem("True or False is expected here"))
        }
    }

    fn tuple(&mut self) -> Result<Vec<u64>, Problem> {
        self.expect("(")?;
        let mut numbers = Vec::new();
        while !self.accept(")") {
            if numbers.len() == DIMENSIONS_MAX {
                return Err(self.problem("a shape with so many dimensions is not a matrix"));
            }
            numbers.push(self.number()?);
            if !self.accept(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(numbers)
    }

    fn number(&mut self) -> Result<u64, Problem> {
        self.skip_space();
        let rest = self.rest();
        let digits =
            &rest[..rest.len() - rest.trim_start_matches(|digit: char| digit.is_ascii_digit()).len()];
        let number =
            digits.parse().map_err(|_| self.problem("a whole number below 2^64 is expected here"))?;
        self.offset += digits.len();
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = [MAGIC, &[version, 0]].concat();
        match version {
            1 => bytes.extend((header.len() as u16).to_le_bytes()),
            _ => bytes.extend((header.len() as u32).to_le_bytes()),
        }
        bytes.extend(header.bytes());
        bytes.extend(data);
        bytes
    }

    fn refusal(header: &str, data: &[u8]) -> String {
        let bytes = file(1, header, data);
        Matrix::from_npy(&bytes, "m.npy").expect_err(header).to_string()
    }

    const HEADER: &str = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }      \n";

    fn valid() -> Vec<u8> {
        file(1, HEADER, &[0, 0, 128, 63, 0, 0, 0, 192])
    }

    #[test]
    fn every_version_and_form_reads_the_same() {
        let data = [0, 0, 128, 63, 0, 0, 0, 192];
        let other = "{\"shape\":(2,1),\"descr\":\"<f4\",\"fortran_order\":False}";
        for bytes in [valid(), file(2, HEADER, &data), file(3, HEADER, &data), file(1, other, &data)] {
            let matrix = Matrix::from_npy(&bytes, "m.npy").unwrap();
            let mut values = Vec::new();
            matrix.read_rows(0, 2, &mut values).unwrap();
            assert_eq!((matrix.rows(), matrix.width(), values), (2, 1, vec![1.0, -2.0]));
        }
    }

    #[test]
    fn types_and_shapes_of_the_header_count() {
        for (kind, size) in [("<f4", 4), ("<f2", 2), ("<f8", 8)] {
            for (shape, rows, width) in [("(3,)", 1, 3), ("(3)", 1, 3), ("(2, 3)", 2, 3), ("(0, 3)", 0, 3)] {
                let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
                let bytes = file(1, &header, &vec![0; rows * width * size]);
                let matrix = Matrix::from_npy(&bytes, "m.npy").unwrap();
                assert_eq!((matrix.rows(), matrix.width()), (rows, width), "{header}");
            }
        }
    }

    #[test]
    fn refusals_say_what_where_and_what_to_do() {
        let of = |kind, order, shape| {
            format!("{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}\n")
        };
        let cases = [
            (of("'>f4'", "False", "(1, 1)"), "holds values of type \">f4\"; convert it to little-endian"),
            (of("'<i8'", "False", "(1, 1)"), "type \"<i8\""),
            (of("'|i1'", "False", "(1, 1)"), "array.astype('<f4')"),
            (of("'<f4'", "True", "(1, 1)"), "save numpy.ascontiguousarray(array) instead"),
            (of("'<f4'", "False", "()"), "has shape []"),
            (of("'<f4'", "False", "(1, 1, 1)"), "has shape [1, 1, 1]"),
            (of("'<f4'", "False", "(1, 2)"), "has 4 bytes of values, its header says 8"),
            (of("'<f4'", "False", "(0, 0)"), "rows of 0 values"),
            (of("'<f4'", "False", "(18446744073709551616, 1)"), "a whole number below 2^64"),
            (of("'<f4'", "False", "(-1, 1)"), "a whole number"),
            (of("'<f4'", "false", "(1, 1)"), "True or False is expected here (offset 44)"),
            (of("[('a', '<f4')]", "False", "(1, 1)"), "a string is expected here"),
            (of("'<f4'", "False", "[1, 1]"), "\"(\" is expected here"),
            (of("'<f4'", "False", &format!("({})", "1, ".repeat(33))), "so many dimensions"),
            ("{'descr': '<f4', 'fortran_order': False}".to_owned(), "'shape' is missing"),
            ("{'descr': '<f4', 'descr': '<f4'}".to_owned(), "\"descr\" is unknown or stands twice"),
            ("{'extra': 1}".to_owned(), "\"extra\" is unknown or stands twice"),
            (format!("{}x", of("'<f4'", "False", "(1, 1)")), "only spaces may follow"),
            ("{'descr".to_owned(), "this string does not end"),
            (String::new(), "\"{\" is expected here"),
        ];
        for (header, expected) in cases {
            let text = refusal(&header, &[0; 4]);
            assert!(text.starts_with("m.npy ") && text.contains(expected), "{header}: {text}");
        }
    }

    #[test]
    fn marks_versions_and_header_lengths_are_checked() {
        for (bytes, expected) in [
            (b"PK\x03\x04....".to_vec(), "does not begin with the npy mark"),
            (file(4, HEADER, &[]), "version 4.0 is unknown"),
            ([MAGIC, &[2, 0, 255, 255, 255, 255]].concat(), "a header of 4294967295 bytes"),
            (file(2, &" ".repeat(NPY_HEADER_BYTES_MAX + 1), &[]), "a header of 10001 bytes"),
        ] {
            let text = Matrix::from_npy(&bytes, "m.npy").unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn cut_off_extended_and_changed_files_never_panic() {
        let bytes = valid();
        for length in 0..bytes.len() {
            assert!(Matrix::from_npy(&bytes[..length], "m.npy").is_err(), "{length} bytes");
        }
        assert!(Matrix::from_npy(&[bytes.clone(), vec![0]].concat(), "m.npy").is_err());
        let data_start = bytes.len() - 8;
        for (offset, change) in
            (0..bytes.len()).flat_map(|offset| (1..=255_u8).map(move |change| (offset, change)))
        {
            let mut changed = bytes.clone();
            changed[offset] ^= change;
            let matrix = Matrix::from_npy(&changed, "m.npy");
            // A changed value is still a value; its checksum is not the business of npy.
            assert!(offset < data_start || matrix.is_ok());
            if let Ok(matrix) = matrix {
                let rows = matrix.rows();
                let _ = matrix.read_rows(0, rows, &mut Vec::new());
                assert_eq!(rows * matrix.width() * matrix.element().size_bytes(), 8);
            }
        }
    }
}
