//! Encoders as users name them.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::base::limits::{EMBEDDING_WIDTH_MAX, HASHED_WIDTH_DEFAULT, HASHED_WIDTH_MAX, HASHED_WIDTH_MIN};

/// An encoder as a user names it, checked.
///
/// ```
/// use ascribe::encoder::EncoderSpecification;
/// assert_eq!(EncoderSpecification::parse("vectors:384"), Ok(EncoderSpecification::Vectors { width: 384 }));
/// assert_eq!(EncoderSpecification::parse("hashed")?.to_string(), "hashed:256");
/// assert_eq!(EncoderSpecification::parse("./bert")?, EncoderSpecification::Directory { path: "./bert".into() });
/// # Ok::<(), ascribe::encoder::EncoderSpecificationError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EncoderSpecification {
    /// `vectors:DIM`: rows and queries bring their vectors.
    Vectors {
        /// Values of a vector.
        width: usize,
    },
    /// `hashed` or `hashed:DIM`: the built-in encoder of shared words.
    Hashed {
        /// Values of a vector.
        width: usize,
    },
    /// A folder with a learned encoder (`config.json`, `tokenizer.json`, `model.safetensors`). A store copies it when the
    /// column is made, and needs the folder no more.
    Directory {
        /// The folder.
        path: PathBuf,
    },
}

/// A text that names no encoder.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncoderSpecificationError {
    /// Neither `vectors` nor `hashed`, nor a folder.
    #[error(
        "there is no encoder {text:?}: use vectors:DIM for ready vectors, hashed or hashed:DIM for text, or the folder \
         of a model, such as ./{text}"
    )]
    Unknown {
        /// What was given.
        text: String,
    },
    /// `vectors` alone.
    #[error(
        "encoder \"vectors\" lacks the number of values of a vector: use vectors:DIM, such as vectors:384"
    )]
    MissingWidth,
    /// A width that is no number, or too small or large.
    #[error("encoder {text:?}: {width:?} is no width, use a number from {minimum} to {maximum}")]
    Width {
        /// What was given.
        text: String,
        /// The part that is no width.
        width: String,
        /// Smallest width.
        minimum: usize,
        /// Largest width.
        maximum: usize,
    },
}

impl EncoderSpecification {
    /// Reads `vectors:DIM`, `hashed` or `hashed:DIM`, or a folder: a text that holds `/` or `\`, begins with `.` or `~`, or
    /// names a folder that is there. `vectors` and `hashed` are never folders; write `./hashed` for one of that name.
    /// Whether the folder holds an encoder shows when it is loaded.
    ///
    /// # Errors
    /// The text is none of them, or DIM is out of range: 1 to
    /// [`EMBEDDING_WIDTH_MAX`](crate::base::limits::EMBEDDING_WIDTH_MAX) for vectors,
    /// [`HASHED_WIDTH_MIN`](crate::base::limits::HASHED_WIDTH_MIN) to
    /// [`HASHED_WIDTH_MAX`](crate::base::limits::HASHED_WIDTH_MAX) for hashed.
    pub fn parse(text: &str) -> Result<Self, EncoderSpecificationError> {
        let (kind, width) = text.split_once(':').map_or((text, None), |(kind, width)| (kind, Some(width)));
        let checked = |width: &str, minimum, maximum| {
            // Digits only: a number would take a sign.
            let digits = width.bytes().all(|byte| byte.is_ascii_digit());
            let number = width.parse().ok().filter(|number| digits && (minimum..=maximum).contains(number));
            let text = text.to_owned();
            number.ok_or(EncoderSpecificationError::Width { text, width: width.to_owned(), minimum, maximum })
        };
        match (kind, width) {
            ("vectors", Some(width)) => Ok(Self::Vectors { width: checked(width, 1, EMBEDDING_WIDTH_MAX)? }),
            ("vectors", None) => Err(EncoderSpecificationError::MissingWidth),
            ("hashed", Some(width)) => {
                Ok(Self::Hashed { width: checked(width, HASHED_WIDTH_MIN, HASHED_WIDTH_MAX)? })
            }
            ("hashed", None) => Ok(Self::Hashed { width: HASHED_WIDTH_DEFAULT }),
            _ if text.contains(['/', '\\']) || text.starts_with(['.', '~']) || Path::new(text).is_dir() => {
                Ok(Self::Directory { path: PathBuf::from(text) })
            }
            _ => Err(EncoderSpecificationError::Unknown { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for EncoderSpecification {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vectors { width } => write!(formatter, "vectors:{width}"),
            Self::Hashed { width } => write!(formatter, "hashed:{width}"),
            Self::Directory { path } => write!(formatter, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_they_are_written() {
        for text in ["vectors:1", "vectors:384", "vectors:65536", "hashed:8", "hashed:256", "hashed:4096"] {
            let specification = EncoderSpecification::parse(text).unwrap();
            assert_eq!(specification.to_string(), text);
        }
        assert_eq!(EncoderSpecification::parse("hashed"), Ok(EncoderSpecification::Hashed { width: 256 }));
    }

    #[test]
    fn a_path_is_a_folder_and_so_is_the_name_of_one() {
        for text in ["models/bert", "./bert", "~", "C:\\bert", "/models:3", "../hashed", "src"] {
            let expected = EncoderSpecification::Directory { path: PathBuf::from(text) };
            assert_eq!(EncoderSpecification::parse(text), Ok(expected), "{text}");
        }
        assert!(matches!(
            EncoderSpecification::parse("Cargo.toml"),
            Err(EncoderSpecificationError::Unknown { .. })
        ));
    }

    #[test]
    fn what_is_no_encoder_is_refused_with_the_remedy() {
        let message = |text: &str| EncoderSpecification::parse(text).unwrap_err().to_string();
        for text in ["hashed:7", "hashed:4097", "hashed:", "hashed:x", "hashed:+9", "hashed:8:8", "hashed: 8"]
        {
            assert!(message(text).ends_with("use a number from 8 to 4096"), "{}", message(text));
        }
        for text in
            ["vectors:0", "vectors:65537", "vectors:-1", "vectors:99999999999999999999999", "vectors:٣"]
        {
            assert!(message(text).ends_with("use a number from 1 to 65536"), "{}", message(text));
        }
        assert!(message("vectors").contains("use vectors:DIM"));
        for text in ["", "hash", "Hashed", "bert", "hashed "] {
            assert!(message(text).starts_with("there is no encoder"), "{}", message(text));
        }
    }
}
