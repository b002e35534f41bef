//! The module table of a sketch column: how one row's values split into modules.
//!
//! Row values are the modules in table order. A `factored` module of rank c has its c vectors u (out values each),
//! then its c vectors v (in values each); a `dense` module has its out x in values, row-major.

use thiserror::Error;

use crate::base::limits::{NAME_BYTES_MAX, SKETCH_MODULES_MAX, SKETCH_WIDTH_MAX};
use crate::base::{ByteReader, BytesError, put_u16, put_u32};

/// Bytes of one entry of the table without the module's name.
pub const MODULE_ENTRY_SIZE_BYTES: usize = 16;

/// A module name may be a dotted path; longer than field names, still bounded.
const MODULE_NAME_BYTES_MAX: usize = 8 * NAME_BYTES_MAX;

/// How one module's gradient is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleEncoding {
    /// Sum over `rank` of u v^T.
    Factored,
    /// All out x in values; `rank` is 0.
    Dense,
}

/// One module of a sketch column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SketchModule {
    /// Name of the module in its model, such as `layers.0.linear`.
    pub name: String,
    /// How its gradient is kept.
    pub encoding: ModuleEncoding,
    /// Number of factor pairs; 0 for dense.
    pub rank: u32,
    /// Output width, at least 1.
    pub out: u32,
    /// Input width, the bias input counted, at least 1.
    pub input: u32,
}

impl SketchModule {
    /// Values that this module takes in a row; `None` if that overflows.
    pub fn width(&self) -> Option<u64> {
        let (out, input, rank) = (u64::from(self.out), u64::from(self.input), u64::from(self.rank));
        match self.encoding {
            ModuleEncoding::Factored => (out + input).checked_mul(rank),
            ModuleEncoding::Dense => out.checked_mul(input),
        }
    }
}

/// Bytes that are no module table, or modules that none can hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SketchModulesError {
    /// The table ends in the middle of an entry.
    #[error("the module table is cut off: {0}")]
    CutOff(#[from] BytesError),
    /// An entry or the whole table has a value that it cannot have.
    #[error("module {module} of the table: {reason}")]
    Module {
        /// Position in the table, from 0.
        module: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Values of one row over all modules.
///
/// # Errors
/// A module has no values, or the row would have more than the limit.
pub fn sketch_width(modules: &[SketchModule]) -> Result<u32, SketchModulesError> {
    let mut width = 0_u64;
    for (module, entry) in modules.iter().enumerate() {
        let refuse = |reason| SketchModulesError::Module { module, reason };
        let rank_fits = match entry.encoding {
            ModuleEncoding::Factored => entry.rank > 0,
            ModuleEncoding::Dense => entry.rank == 0,
        };
        if !rank_fits || entry.out == 0 || entry.input == 0 {
            return Err(refuse("a width or rank is 0, or a dense module has a rank"));
        }
        width = entry.width().and_then(|own| width.checked_add(own)).unwrap_or(u64::MAX);
        if width > SKETCH_WIDTH_MAX as u64 {
            return Err(refuse("the row has too many values"));
        }
    }
    u32::try_from(width)
        .map_err(|_| SketchModulesError::Module { module: 0, reason: "the row has too many values" })
}

/// Bytes of the module table.
///
/// # Errors
/// A module cannot be written: see [`sketch_width`], or its name is empty or too long.
///
/// ```
/// use ascribe::format::{ModuleEncoding, SketchModule, decode_modules, encode_modules};
/// let encoding = ModuleEncoding::Factored;
/// let module = SketchModule { name: "net.0".into(), encoding, rank: 1, out: 64, input: 785 };
/// let bytes = encode_modules(&[module.clone()]).unwrap();
/// assert_eq!(decode_modules(&bytes), Ok(vec![module]));
/// ```
pub fn encode_modules(modules: &[SketchModule]) -> Result<Vec<u8>, SketchModulesError> {
    if modules.is_empty() || modules.len() > SKETCH_MODULES_MAX {
        return Err(SketchModulesError::Module { module: modules.len(), reason: "no or too many modules" });
    }
    sketch_width(modules)?;
    let mut bytes = Vec::new();
    put_u32(&mut bytes, modules.len() as u32);
    for (module, entry) in modules.iter().enumerate() {
        if entry.name.is_empty() || entry.name.len() > MODULE_NAME_BYTES_MAX {
            return Err(SketchModulesError::Module { module, reason: "the name is empty or too long" });
        }
        put_u16(&mut bytes, entry.name.len() as u16);
        put_u16(&mut bytes, if entry.encoding == ModuleEncoding::Factored { 1 } else { 2 });
        put_u32(&mut bytes, entry.rank);
        put_u32(&mut bytes, entry.out);
        put_u32(&mut bytes, entry.input);
        bytes.extend_from_slice(entry.name.as_bytes());
    }
    Ok(bytes)
}

/// The modules that [`encode_modules`] wrote.
///
/// # Errors
/// The bytes are no module table.
pub fn decode_modules(bytes: &[u8]) -> Result<Vec<SketchModule>, SketchModulesError> {
    let mut reader = ByteReader::new(bytes);
    let count = reader.u32()? as usize;
    if count == 0 || count > SKETCH_MODULES_MAX {
        return Err(SketchModulesError::Module { module: count, reason: "no or too many modules" });
    }
    let mut modules = Vec::with_capacity(count.min(bytes.len() / MODULE_ENTRY_SIZE_BYTES));
    for module in 0..count {
        let refuse = |reason| SketchModulesError::Module { module, reason };
        let name_length = usize::from(reader.u16()?);
        let encoding = match reader.u16()? {
            1 => ModuleEncoding::Factored,
            2 => ModuleEncoding::Dense,
            _ => return Err(refuse("unknown encoding")),
        };
        let (rank, out, input) = (reader.u32()?, reader.u32()?, reader.u32()?);
        if name_length == 0 || name_length > MODULE_NAME_BYTES_MAX {
            return Err(refuse("the name is empty or too long"));
        }
        let name =
            std::str::from_utf8(reader.take(name_length)?).map_err(|_| refuse("the name is not UTF-8"))?;
        modules.push(SketchModule { name: name.to_owned(), encoding, rank, out, input });
    }
    if reader.remaining() != 0 {
        return Err(SketchModulesError::Module { module: count, reason: "bytes follow the last entry" });
    }
    sketch_width(&modules)?;
    Ok(modules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Vec<SketchModule> {
        let factored =
            SketchModule { name: "a".into(), encoding: ModuleEncoding::Factored, rank: 2, out: 3, input: 5 };
        let dense = SketchModule {
            name: "b.weight".into(),
            encoding: ModuleEncoding::Dense,
            rank: 0,
            out: 4,
            input: 2,
        };
        vec![factored, dense]
    }

    #[test]
    fn tables_come_back_and_give_the_row_width() {
        let bytes = encode_modules(&modules()).unwrap();
        assert_eq!(decode_modules(&bytes), Ok(modules()));
        assert_eq!(sketch_width(&modules()), Ok(2 * (3 + 5) + 4 * 2));
    }

    #[test]
    fn cut_off_and_damaged_tables_never_panic() {
        let bytes = encode_modules(&modules()).unwrap();
        for length in 0..bytes.len() {
            assert!(decode_modules(&bytes[..length]).is_err(), "{length}");
        }
        for position in 0..bytes.len() {
            for flip in [1, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[position] ^= flip;
                if let Ok(read) = decode_modules(&damaged) {
                    assert_ne!(read, modules(), "byte {position} does not count");
                }
            }
        }
    }

    #[test]
    fn modules_without_values_are_refused() {
        let mut wrong = modules();
        wrong[0].rank = 0;
        assert!(encode_modules(&wrong).is_err());
        let mut wrong = modules();
        wrong[1].out = u32::MAX;
        wrong[1].input = u32::MAX;
        assert!(encode_modules(&wrong).is_err());
    }
}
