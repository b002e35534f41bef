//! The learned encoder: BERT directories such as MiniLM. [`BertEncoder`] says how.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `batch.rs` | texts of one forward pass |
//! | `configuration.rs` | what a model computes: its shapes and functions |
//! | `device.rs` | from a device as users name it to the library's |
//! | `directory.rs` | the files of an encoder directory |
//! | `encoder.rs` | the encoder |
//! | `error.rs` | what is wrong with an encoder directory or state |
//! | `forward.rs` | what computes vectors from tokens |
//! | `functions.rs` | the functions between products, in the form that suits the device |
//! | `fused.rs` | softmax, GELU and layer normalisation with gradients, one operation each |
//! | `model.rs` | the model of tensors |
//! | `parameters.rs` | its weights as tensors, fixed or variable |
//! | `sentence.rs` | the files of the sentence-transformers layout |
//! | `state.rs` | all that an encoder is made of, as one byte string |
//! | `tensor_file.rs` | tensors in safetensors bytes |
//! | `tokenizer.rs` | from a text to the numbers of its tokens |
//! | `weights.rs` | the weights of a model, each tensor by its role |

mod batch;
mod configuration;
mod device;
mod directory;
mod encoder;
mod error;
mod forward;
mod functions;
mod fused;
mod model;
mod parameters;
mod sentence;
mod state;
mod tensor_file;
mod tokenizer;
mod weights;

pub use batch::BertBatch;
pub use configuration::{BertActivation, BertConfiguration, BertPooling};
pub use encoder::{BertEncoder, BertPrecision};
pub use error::BertError;
pub use model::BertModel;
pub use parameters::BertTrained;
pub use tensor_file::BertTensor;
pub use tokenizer::BertTokenizer;
pub use weights::{BertLayerWeights, BertLinear, BertNorm, BertWeightFiles, BertWeights};
