//! An index on its way to the disk: the codes of all rows, then their coarse codes, which are about the centre of all.
//!
//! Rows are gone through twice. Rejected: to hold the coarse codes of all rows until the codes are written, which takes
//! 200 MB for a million rows of 384 values.

use super::segment::ScannedColumn;
use crate::base::{RandomStream, RowId};
use crate::format::{FileRecord, IndexHeader};
use crate::index::{CentreSum, CoarseRows, Coarsener, CodedRows, QuantiseError, dither, quantise_rows};
use crate::kernels::code_row_bytes;
use crate::storage::{ColumnFile, FileError, IndexFileWriter, Storage};

/// Takes codes of rows: padded, then scales, errors and norms as an index file has them.
pub(super) type TakeCodes<'a, E> = dyn FnMut(&[u8], [&[u8]; 3]) -> Result<(), E> + 'a;

/// Which time it is that rows are gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Codes,
    CoarseCodes,
}

/// Writes the index of the column file `origin`. `each` hands over all rows in order, the same in both passes.
pub(super) fn write_index<E: From<FileError>>(
    storage: &dyn Storage,
    header: IndexHeader,
    origin: FileRecord,
    each: impl Fn(Pass, &mut TakeCodes<'_, E>) -> Result<(), E>,
) -> Result<(), E> {
    let width = header.width as usize;
    // Of the content: the same bytes at every attempt, and other ones for other rows.
    let seed = RandomStream::mix(origin.root ^ header.segment.0);
    let mut writer = IndexFileWriter::create(storage, header, origin)?;
    let mut sum = CentreSum::new(width);
    each(Pass::Codes, &mut |codes, numbers| {
        for (codes, scale) in codes.chunks_exact(code_row_bytes(width)).zip(values(numbers[0])) {
            sum.add(codes, scale);
        }
        Ok(writer.append(codes, numbers)?)
    })?;
    let (centre, dither) = (sum.centre(), dither(width, seed));
    writer.begin_coarse(&centre, &dither)?;
    let (mut coarsener, mut rows) = (Coarsener::new(&centre, &dither), CoarseRows::default());
    each(Pass::CoarseCodes, &mut |codes, [scales, ..]| {
        rows.clear();
        for (codes, scale) in codes.chunks_exact(code_row_bytes(width)).zip(values(scales)) {
            coarsener.append(codes, scale, &mut rows);
        }
        let [scales, norms] = [&rows.scales, &rows.norms].map(|all| bytes(all));
        Ok(writer.append_coarse(&rows.codes, [&scales, &norms])?)
    })?;
    Ok(writer.finish()?)
}

/// Makes the codes of some rows of a column, for an index.
pub(super) fn take_quantised<E: From<FileError> + From<QuantiseError<FileError>>>(
    file: &ColumnFile,
    first: RowId,
    count: u32,
    coded: &mut CodedRows,
    take: &mut TakeCodes<'_, E>,
) -> Result<(), E> {
    quantise_rows(&ScannedColumn(file), first, count, coded)?;
    let [scales, errors, norms] = [&coded.scales, &coded.errors, &coded.norms].map(|all| bytes(all));
    take(&coded.codes, [&scales, &errors, &norms])
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn values(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number))
}
