//! Floor 7: what every face shows. The command line, the shell and the server give the same answers in the same words.
//!
//! A result is first a JSON value with a stable order of names ([`answer_value`], the `*_report` functions) and then,
//! where people or scripts read it, written in one of the formats of [`OutputFormat`].
//!
//! | file | what lives there |
//! | --- | --- |
//! | `answer.rs` | the answer to a query as JSON |
//! | `answer_text.rs` | answers written as tables, JSON, JSONL and CSV |
//! | `comma_separated.rs` | records of CSV |
//! | `escape.rs` | text that cannot steer a terminal |
//! | `gradient_report.rs` | what fits, trainings of heads and measurements of the truth did |
//! | `grid.rs` | tables that fit the page |
//! | `label_report.rs` | what an audit of labels and its evaluation say |
//! | `lds_report.rs` | what a measurement of faithfulness found |
//! | `number.rs` | numbers for people |
//! | `output.rs` | formats, and the page that tables are written on |
//! | `provenance.rs` | what figures were computed with |
//! | `report.rs` | what other operations did and found, as JSON |
//! | `report_text.rs` | reports written as tables, JSON, JSONL and CSV |

mod answer;
mod answer_text;
mod comma_separated;
mod escape;
mod gradient_report;
mod grid;
mod label_report;
mod lds_report;
mod number;
mod output;
mod provenance;
mod report;
mod report_text;

pub use answer::{AnswerDetail, answer_value, question_value};
pub use answer_text::AnswerWriter;
pub use escape::escaped;
pub use gradient_report::{DampingSearch, DampingTrial, fit_report, self_report};
#[cfg(feature = "bert")]
pub use gradient_report::{head_report, truth_report};
pub use grid::{Grid, GridColumn};
pub use label_report::{audit_report, detection_report};
pub use lds_report::{LdsEvaluation, LdsMethod, lds_report};
pub use number::{bytes_shown, count_shown, duration_shown, score_shown};
pub use output::{OutputFormat, Page};
pub use provenance::Provenance;
pub use report::{
    Report, compact_report, delete_report, import_report, ingest_report, recall_report, schema_report,
    stages_report, statistics_report, verify_report,
};
pub use report_text::write_report;
