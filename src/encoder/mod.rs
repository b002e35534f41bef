//! Floor 4: encoders turn text into vectors.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `bert/` | the learned encoder of BERT directories (feature `bert`) |
//! | `device.rs` | where an encoder computes |
//! | `encode.rs` | what every encoder is |
//! | `hashed/` | the built-in encoder of shared words, the same on every platform |
//! | `load.rs` | encoders made of files: a model's directory, the state that a store keeps |
//! | `prepared.rs` | a text between the two halves of encoding |
//! | `specification.rs` | encoders as users name them |
//! | `vectors.rs` | the encoder of stores whose vectors come ready-made |

#[cfg(feature = "bert")]
mod bert;
mod device;
mod encode;
mod hashed;
mod load;
mod prepared;
mod specification;
mod vectors;

#[cfg(feature = "bert")]
pub use bert::{
    BertActivation, BertBatch, BertConfiguration, BertEncoder, BertError, BertLayerWeights, BertLinear,
    BertModel, BertNorm, BertPooling, BertPrecision, BertTensor, BertTokenizer, BertTrained, BertWeightFiles,
    BertWeights,
};
pub use device::{Device, DeviceError};
pub use encode::{EncodeError, Encoder};
pub use hashed::{HashedEncoder, HashedEncoderError};
pub use load::{LoadError, check_device, load_directory, load_state, uses_devices};
pub use prepared::PreparedText;
pub use specification::{EncoderSpecification, EncoderSpecificationError};
pub use vectors::VectorsEncoder;
