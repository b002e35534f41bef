//! The module table of a sketch column: how one row's values split into members, modules and parts.
//!
//! Row values are the members one after the other, each with its modules in table order. A `factored` module of rank c
//! has its c vectors u (out values each), then its c vectors v (in values each); with a shared input the vectors v stand
//! in the first member only. A `sparse` module has its c vectors u, then c times `terms` values, whose places in the
//! input stand in a section of their own. A `dense` module has its out x in values, row-major.

use thiserror::Error;

use crate::base::limits::{NAME_BYTES_MAX, SKETCH_MEMBERS_MAX, SKETCH_MODULES_MAX, SKETCH_WIDTH_MAX};
use crate::base::{ByteReader, BytesError, put_u16, put_u32};

/// Bytes of one entry of the table without the module's name.
pub const MODULE_ENTRY_SIZE_BYTES: usize = 20;

/// A term of a sparse module that is not there: only rows with fewer terms have it.
pub const SPARSE_PADDING: u32 = u32::MAX;

/// Stands for what was not measured of a row; probabilities are at least 0.
pub const NOT_MEASURED: f32 = -1.0;

/// A module name may be a dotted path; longer than field names, still bounded.
pub const MODULE_NAME_BYTES_MAX: usize = 8 * NAME_BYTES_MAX;

/// How one module's gradient is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleEncoding {
    /// Sum over `rank` of u v^T.
    Factored,
    /// All out x in values; `rank` is 0.
    Dense,
    /// Factored, with vectors v that are the same for all members and kept once.
    SharedInput,
    /// Sum over `rank` of u v^T, where v has at most `terms` values that are not zero, at the same places for all.
    Sparse,
}

impl ModuleEncoding {
    /// Every encoding, in the order of its code.
    pub const ALL: [Self; 4] = [Self::Factored, Self::Dense, Self::SharedInput, Self::Sparse];

    /// The number that stands for this encoding in files.
    pub fn code(self) -> u16 {
        match self {
            Self::Factored => 1,
            Self::Dense => 2,
            Self::SharedInput => 3,
            Self::Sparse => 4,
        }
    }

    /// Whether a gradient is kept as pairs of vectors.
    pub fn has_factors(self) -> bool {
        self != Self::Dense
    }
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
    /// Places of the input that a row names; of sparse modules only, 0 otherwise.
    pub terms: u32,
}

/// What a part of a row's values is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SketchSide {
    /// Vectors u: `rank` x `out` values.
    Output,
    /// Vectors v: `rank` x `in` values, or `rank` x `terms` of a sparse module.
    Input,
    /// A whole matrix: `out` x `in` values.
    Matrix,
}

/// A run of a row's values that belong together, and have a scale of their own where the element type needs one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SketchPart {
    /// Member, from 0.
    pub member: u32,
    /// Module, by its place in the table.
    pub module: u32,
    /// What the values are.
    pub side: SketchSide,
    /// Where they begin in the row.
    pub offset: usize,
    /// How many they are.
    pub width: usize,
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

/// The parts of a row, in the order of its values.
///
/// # Errors
/// A module has no values, or the row would have more than the limit.
///
/// ```
/// use ascribe::format::{ModuleEncoding, SketchModule, sketch_parts};
/// let encoding = ModuleEncoding::SharedInput;
/// let module = SketchModule { name: "net.0".into(), encoding, rank: 1, out: 64, input: 785, terms: 0 };
/// let parts = sketch_parts(&[module], 2).unwrap();
/// assert_eq!(parts.iter().map(|part| part.width).collect::<Vec<_>>(), [64, 785, 64]);
/// ```
pub fn sketch_parts(modules: &[SketchModule], members: u32) -> Result<Vec<SketchPart>, SketchModulesError> {
    if members == 0 || members > SKETCH_MEMBERS_MAX {
        return Err(SketchModulesError::Module { module: 0, reason: "no or too many members" });
    }
    // Bounded together, so that a small table cannot ask for a large list.
    if modules.is_empty() || modules.len().saturating_mul(members as usize) > SKETCH_MODULES_MAX {
        return Err(SketchModulesError::Module { module: modules.len(), reason: "no or too many modules" });
    }
    let (mut parts, mut offset) = (Vec::new(), 0_u64);
    for member in 0..members {
        for (module, entry) in modules.iter().enumerate() {
            let refuse = |reason| SketchModulesError::Module { module, reason };
            check_entry(entry).map_err(refuse)?;
            let [out, input, rank, terms] = [entry.out, entry.input, entry.rank, entry.terms].map(u64::from);
            let sides = match entry.encoding {
                ModuleEncoding::Dense => {
                    [(SketchSide::Matrix, out.saturating_mul(input)), (SketchSide::Input, 0)]
                }
                ModuleEncoding::Sparse => {
                    [(SketchSide::Output, rank * out), (SketchSide::Input, rank * terms)]
                }
                ModuleEncoding::SharedInput if member > 0 => {
                    [(SketchSide::Output, rank * out), (SketchSide::Input, 0)]
                }
                ModuleEncoding::Factored | ModuleEncoding::SharedInput => {
                    [(SketchSide::Output, rank * out), (SketchSide::Input, rank * input)]
                }
            };
            for (side, width) in sides.into_iter().filter(|(_, width)| *width > 0) {
                if offset.saturating_add(width) > SKETCH_WIDTH_MAX as u64 {
                    return Err(refuse("the row has too many values"));
                }
                let (offset_now, width_now) = (offset as usize, width as usize);
                parts.push(SketchPart {
                    member,
                    module: module as u32,
                    side,
                    offset: offset_now,
                    width: width_now,
                });
                offset += width;
            }
        }
    }
    Ok(parts)
}

fn check_entry(entry: &SketchModule) -> Result<(), &'static str> {
    let has_terms = entry.encoding == ModuleEncoding::Sparse;
    if entry.out == 0
        || entry.input == 0
        || (entry.rank > 0) != entry.encoding.has_factors()
        || (entry.terms > 0) != has_terms
    {
        return Err("a width or rank is 0, or a dense module has a rank, or only sparse ones have terms");
    }
    if has_terms && entry.input > SPARSE_PADDING - 1 {
        return Err("a sparse input has more places than can be named");
    }
    Ok(())
}

/// Values of one row over all members and modules.
///
/// # Errors
/// A module has no values, or the row would have more than the limit.
pub fn sketch_width(modules: &[SketchModule], members: u32) -> Result<u32, SketchModulesError> {
    let last = sketch_parts(modules, members)?.pop();
    // At most the limit, which fits.
    Ok(last.map_or(0, |part| (part.offset + part.width) as u32))
}

/// Places of inputs that a row names: those of all sparse modules, which all members share.
pub fn sketch_terms(modules: &[SketchModule]) -> u64 {
    modules.iter().map(|module| u64::from(module.terms)).sum()
}

/// Bytes of the module table.
///
/// # Errors
/// A module cannot be written: see [`sketch_parts`], or its name is empty or too long.
///
/// ```
/// use ascribe::format::{ModuleEncoding, SketchModule, decode_modules, encode_modules};
/// let encoding = ModuleEncoding::Factored;
/// let module = SketchModule { name: "net.0".into(), encoding, rank: 1, out: 64, input: 785, terms: 0 };
/// let bytes = encode_modules(&[module.clone()]).unwrap();
/// assert_eq!(decode_modules(&bytes), Ok(vec![module]));
/// ```
pub fn encode_modules(modules: &[SketchModule]) -> Result<Vec<u8>, SketchModulesError> {
    sketch_parts(modules, 1)?;
    let mut bytes = Vec::new();
    put_u32(&mut bytes, modules.len() as u32);
    for (module, entry) in modules.iter().enumerate() {
        if entry.name.is_empty() || entry.name.len() > MODULE_NAME_BYTES_MAX {
            return Err(SketchModulesError::Module { module, reason: "the name is empty or too long" });
        }
        put_u16(&mut bytes, entry.name.len() as u16);
        put_u16(&mut bytes, entry.encoding.code());
        put_u32(&mut bytes, entry.rank);
        put_u32(&mut bytes, entry.out);
        put_u32(&mut bytes, entry.input);
        put_u32(&mut bytes, entry.terms);
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
        let code = reader.u16()?;
        let encoding = ModuleEncoding::ALL.into_iter().find(|encoding| encoding.code() == code);
        let encoding = encoding.ok_or_else(|| refuse("unknown encoding"))?;
        let (rank, out, input, terms) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
        if name_length == 0 || name_length > MODULE_NAME_BYTES_MAX {
            return Err(refuse("the name is empty or too long"));
        }
        let name =
            std::str::from_utf8(reader.take(name_length)?).map_err(|_| refuse("the name is not UTF-8"))?;
        modules.push(SketchModule { name: name.to_owned(), encoding, rank, out, input, terms });
    }
    if reader.remaining() != 0 {
        return Err(SketchModulesError::Module { module: count, reason: "bytes follow the last entry" });
    }
    sketch_parts(&modules, 1)?;
    Ok(modules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, encoding: ModuleEncoding, [rank, out, input, terms]: [u32; 4]) -> SketchModule {
        SketchModule { name: name.into(), encoding, rank, out, input, terms }
    }

    fn modules() -> Vec<SketchModule> {
        vec![
            module("a", ModuleEncoding::Factored, [2, 3, 5, 0]),
            module("b.weight", ModuleEncoding::Dense, [0, 4, 2, 0]),
            module("c", ModuleEncoding::SharedInput, [1, 2, 7, 0]),
            module("words", ModuleEncoding::Sparse, [1, 6, 1000, 4]),
        ]
    }

    #[test]
    fn tables_come_back_and_give_the_row_width() {
        let bytes = encode_modules(&modules()).unwrap();
        assert_eq!(decode_modules(&bytes), Ok(modules()));
        let one = 2 * (3 + 5) + 4 * 2 + (2 + 7) + (6 + 4);
        assert_eq!(sketch_width(&modules(), 1), Ok(one));
        assert_eq!(sketch_width(&modules(), 3), Ok(3 * one - 2 * 7));
        assert_eq!(sketch_terms(&modules()), 4);
        let parts = sketch_parts(&modules(), 2).unwrap();
        let mut end = 0;
        for part in &parts {
            assert_eq!(part.offset, end);
            end += part.width;
        }
        assert_eq!(parts.len(), 7 + 6);
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
    fn modules_without_values_and_rows_that_are_too_wide_are_refused() {
        type Change<'a> = &'a dyn Fn(&mut Vec<SketchModule>);
        let changes: [Change<'_>; 7] = [
            &|wrong| wrong[0].rank = 0,
            &|wrong| wrong[1].rank = 1,
            &|wrong| (wrong[1].out, wrong[1].input) = (u32::MAX, u32::MAX),
            &|wrong| (wrong[0].rank, wrong[0].out) = (u32::MAX, u32::MAX),
            &|wrong| wrong[0].terms = 1,
            &|wrong| wrong[3].terms = 0,
            &|wrong| wrong.clear(),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut wrong = modules();
            change(&mut wrong);
            assert!(encode_modules(&wrong).is_err(), "change {number}");
        }
        assert!(sketch_parts(&modules(), 0).is_err());
        assert!(sketch_parts(&modules(), SKETCH_MEMBERS_MAX + 1).is_err());
    }
}
