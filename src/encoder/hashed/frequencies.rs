//! Document frequencies, fitted, written and read.

use thiserror::Error;

use super::features::{Feature, FeatureExtractor};
use crate::base::limits::{HASHED_BUCKETS, HASHED_FIT_DOCUMENTS_MAX, HASHED_WIDTH_MAX, HASHED_WIDTH_MIN};
use crate::base::{ByteReader, BytesError, put_u32};

const MAGIC: [u8; 8] = *b"ASCRHASH";
const VERSION: u32 = 1;
const ENTRY_BYTES: usize = 8;

/// Bits of a bucket that choose where a search for it begins.
const GUIDE_BITS: u32 = 12;
const BUCKET_BITS: u32 = HASHED_BUCKETS.trailing_zeros();

/// Bytes that are no hashed encoder, or a width that one cannot have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HashedEncoderError {
    /// The width is out of range.
    #[error(
        "a hashed encoder cannot have {width} values: use {HASHED_WIDTH_MIN} to {HASHED_WIDTH_MAX}, such as hashed:256"
    )]
    Width {
        /// The width that was given.
        width: usize,
    },
    /// The bytes do not begin with the mark of a hashed encoder.
    #[error("these bytes are no hashed encoder: they begin with {found:02x?}, expected {MAGIC:02x?}")]
    Magic {
        /// The first bytes.
        found: [u8; 8],
    },
    /// The bytes are of another version.
    #[error("hashed encoder of version {found}, this build reads version {VERSION}: use a newer build")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The bytes end too early.
    #[error("hashed encoder is cut off: {0}")]
    CutOff(#[from] BytesError),
    /// The bytes have another length than their number of entries says.
    #[error("hashed encoder with {entries} entries has {found} bytes of entries, expected {expected}")]
    Length {
        /// Number of entries that the header says.
        entries: u32,
        /// Bytes after the header.
        found: usize,
        /// Bytes that the entries need.
        expected: u64,
    },
    /// An entry that a fit does not write.
    #[error(
        "entry {entry} of the hashed encoder is damaged: bucket {bucket}, document frequency {frequency}; buckets must \
         ascend below {HASHED_BUCKETS}, frequencies be from 2 to the number of documents, {documents}"
    )]
    Entry {
        /// Number of the entry, from 0.
        entry: usize,
        /// Its bucket.
        bucket: u32,
        /// Its document frequency.
        frequency: u32,
        /// Number of documents that the encoder was fitted on.
        documents: u32,
    },
}

/// In how many documents the features of each bucket were seen.
#[derive(Clone)]
pub(super) struct Frequencies {
    documents: u32,
    /// Buckets with a document frequency of at least 2, ascending.
    buckets: Vec<u32>,
    /// Document frequency of each.
    frequencies: Vec<u32>,
    /// Weight ln(1 + N / df) of each.
    weights: Vec<f64>,
    /// Weight of a feature of any other bucket: as if one document had it.
    unseen_weight: f64,
    /// First position in `buckets` of each value of the upper bits, and the end.
    guide: Vec<u32>,
}

impl Frequencies {
    /// Counts over the first [`HASHED_FIT_DOCUMENTS_MAX`] documents.
    pub(super) fn fit<'a>(documents: impl Iterator<Item = &'a str>) -> Self {
        let mut counts = vec![0_u32; HASHED_BUCKETS as usize];
        let mut extractor = FeatureExtractor::default();
        let mut seen = Vec::new();
        let mut total = 0;
        for text in documents.take(HASHED_FIT_DOCUMENTS_MAX) {
            total += 1;
            seen.clear();
            seen.extend(extractor.extract(text).iter().map(bucket));
            // Ascending hashes have ascending buckets.
            seen.dedup();
            for &bucket in &seen {
                counts[bucket as usize] += 1;
            }
        }
        let entries = (0..HASHED_BUCKETS).zip(counts).filter(|(_, count)| *count > 1);
        Self::of(total, entries.collect())
    }

    fn of(documents: u32, entries: Vec<(u32, u32)>) -> Self {
        let (buckets, frequencies): (Vec<u32>, Vec<u32>) = entries.into_iter().unzip();
        let weight = |frequency: u32| libm::log(1.0 + f64::from(documents) / f64::from(frequency));
        let guide = (0..=1_u32 << GUIDE_BITS)
            .map(|upper| {
                buckets.partition_point(|bucket| bucket >> (BUCKET_BITS - GUIDE_BITS) < upper) as u32
            })
            .collect();
        let weights = frequencies.iter().map(|frequency| weight(*frequency)).collect();
        Self { documents, weights, buckets, frequencies, unseen_weight: weight(1), guide }
    }

    /// Number of documents that were counted.
    pub(super) fn documents(&self) -> u32 {
        self.documents
    }

    /// Number of buckets seen in more than one document.
    pub(super) fn entries(&self) -> usize {
        self.buckets.len()
    }

    /// ln(1 + N / df) of the feature.
    pub(super) fn weight(&self, feature: &Feature) -> f64 {
        let bucket = bucket(feature);
        let upper = (bucket >> (BUCKET_BITS - GUIDE_BITS)) as usize;
        let (start, end) = (self.guide[upper] as usize, self.guide[upper + 1] as usize);
        match self.buckets[start..end].binary_search(&bucket) {
            Ok(at) => self.weights[start + at],
            Err(_) => self.unseen_weight,
        }
    }

    /// The layout that [`HashedEncoder::to_bytes`](super::HashedEncoder::to_bytes) describes.
    pub(super) fn to_bytes(&self, width: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24 + ENTRY_BYTES * self.buckets.len());
        bytes.extend_from_slice(&MAGIC);
        for value in [VERSION, width, self.documents, self.buckets.len() as u32] {
            put_u32(&mut bytes, value);
        }
        for (bucket, frequency) in self.buckets.iter().zip(&self.frequencies) {
            put_u32(&mut bytes, *bucket);
            put_u32(&mut bytes, *frequency);
        }
        bytes
    }

    /// The width and frequencies that [`to_bytes`](Self::to_bytes) wrote.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<(usize, Self), HashedEncoderError> {
        let mut reader = ByteReader::new(bytes);
        let mut found = [0; 8];
        found.copy_from_slice(reader.take(8)?);
        if found != MAGIC {
            return Err(HashedEncoderError::Magic { found });
        }
        let version = reader.u32()?;
        if version != VERSION {
            return Err(HashedEncoderError::Version { found: version });
        }
        let width = check_width(reader.u32()? as usize)?;
        let (documents, entries) = (reader.u32()?, reader.u32()?);
        let expected = u64::from(entries) * ENTRY_BYTES as u64;
        if reader.remaining() as u64 != expected {
            return Err(HashedEncoderError::Length { entries, found: reader.remaining(), expected });
        }
        // No larger than the bytes themselves, as checked.
        let mut read = Vec::with_capacity(reader.remaining() / ENTRY_BYTES);
        let mut next = 0;
        for entry in 0..entries as usize {
            let (bucket, frequency) = (reader.u32()?, reader.u32()?);
            if bucket < next || bucket >= HASHED_BUCKETS || frequency < 2 || frequency > documents {
                return Err(HashedEncoderError::Entry { entry, bucket, frequency, documents });
            }
            next = bucket + 1;
            read.push((bucket, frequency));
        }
        Ok((width, Self::of(documents, read)))
    }
}

fn bucket(feature: &Feature) -> u32 {
    (feature.hash >> (u64::BITS - BUCKET_BITS)) as u32
}

/// Refuses a width that a hashed encoder cannot have.
///
/// # Errors
/// The width is out of range.
pub(super) fn check_width(width: usize) -> Result<usize, HashedEncoderError> {
    if (HASHED_WIDTH_MIN..=HASHED_WIDTH_MAX).contains(&width) {
        Ok(width)
    } else {
        Err(HashedEncoderError::Width { width })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_are_those_of_a_plain_count() {
        let mut texts: Vec<String> =
            (0..298).map(|n| format!("w{} w{} w{} w{}", n % 2, n % 7, n % 7, n % 90)).collect();
        // So many words that some share a bucket, which then counts a document once.
        let long: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
        texts.extend([long.join(" "), long.join(" ")]);
        let fitted = Frequencies::fit(texts.iter().map(String::as_str));
        assert_eq!(fitted.documents(), 300);
        let mut extractor = FeatureExtractor::default();
        let mut documents_of = std::collections::BTreeMap::<u32, std::collections::BTreeSet<usize>>::new();
        for (document, text) in texts.iter().enumerate() {
            for feature in extractor.extract(text) {
                documents_of.entry(bucket(feature)).or_default().insert(document);
            }
        }
        for text in &texts {
            for feature in extractor.extract(text) {
                let frequency = documents_of[&bucket(feature)].len() as f64;
                assert_eq!(fitted.weight(feature), libm::log(1.0 + 300.0 / frequency));
            }
        }
        assert!(fitted.entries() < documents_of.len(), "what only one document has takes no entry");
        let unseen = extractor.extract("unheard")[0];
        assert_eq!(fitted.weight(&unseen), libm::log(301.0));
    }

    #[test]
    fn a_fit_reads_a_limited_number_of_documents() {
        let documents = std::iter::repeat("a");
        assert_eq!(Frequencies::fit(documents).documents() as usize, HASHED_FIT_DOCUMENTS_MAX);
    }
}
