//! Floor 4: encoders turn text into vectors.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `bert/` | the learned encoder of BERT directories (feature `bert`) |
//! | `device.rs` | where an encoder computes |
//! | `encode.rs` | what every encoder is |
//! | `gradient.rs` | what turns an embedding and a label into a gradient |
//! | `hashed/` | the built-in encoder of shared words, the same on every platform |
//! | `head/` | the classification head, with the exact gradient of every row (feature `bert`) |
//! | `load.rs` | encoders made of files: a model's directory, the state that a store keeps |
//! | `prepared.rs` | a text between the two halves of encoding |
//! | `specification.rs` | encoders as users name them |
//! | `vectors.rs` | the encoder of stores whose vectors come ready-made |

#[cfg(feature = "bert")]
mod bert;
mod device;
mod encode;
mod gradient;
mod hashed;
#[cfg(feature = "bert")]
mod head;
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
pub use gradient::{GradientRow, LayerTangents, QueryGradient, QueryGradientError};
pub use hashed::{HashedEncoder, HashedEncoderError};
#[cfg(feature = "bert")]
pub use head::{
    Head, HeadConfiguration, HeadError, HeadGradients, HeadJacobian, HeadModule, HeadModuleGradients,
    HeadSet, HeadShape, head_affine,
};
pub use load::{LoadError, check_device, load_directory, load_query_gradient, load_state, uses_devices};
pub use prepared::PreparedText;
pub use specification::{EncoderSpecification, EncoderSpecificationError};
pub use vectors::VectorsEncoder;
