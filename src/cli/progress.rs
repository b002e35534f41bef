//! Progress bars.

use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::base::Progress;

/// Draws a bar on standard error with rate and time left, gone when its stage is over.
#[derive(Debug, Default)]
pub(super) struct ProgressBars {
    bar: Mutex<Option<ProgressBar>>,
}

impl ProgressBars {
    fn with_bar(&self, act: impl FnOnce(&mut Option<ProgressBar>)) {
        act(&mut self.bar.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The line of a stage: what is counted, how fast, and how long it will take if that is known.
fn template(unit: &str, known_total: bool) -> String {
    let (position, total, rate) = if unit == "bytes" {
        ("{decimal_bytes}", "{decimal_total_bytes}", "{decimal_bytes_per_sec}")
    } else {
        ("{human_pos}", "{human_len}", "{per_sec}")
    };
    if known_total {
        format!("{{msg}} {{wide_bar}} {position}/{total} {unit} ({rate}, {{eta}} left){{prefix}}")
            .replace(" bytes (", " (")
    } else {
        format!("{{msg}} {{spinner}} {position} {unit} ({rate}, {{elapsed}}){{prefix}}")
            .replace(" bytes (", " (")
    }
}

impl Progress for ProgressBars {
    fn begin(&self, stage: &str, unit: &str, total: Option<u64>) {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(&template(unit, total.is_some())) {
            bar.set_style(style);
        }
        bar.set_message(stage.to_owned());
        self.with_bar(|slot| {
            if let Some(previous) = slot.replace(bar) {
                previous.finish_and_clear();
            }
        });
    }

    fn advance(&self, done: u64) {
        self.with_bar(|slot| {
            if let Some(bar) = slot {
                bar.set_position(done);
            }
        });
    }

    fn remark(&self, text: &str) {
        self.with_bar(|slot| {
            if let Some(bar) = slot {
                bar.set_prefix(format!(" - {text}"));
            }
        });
    }

    fn end(&self) {
        self.with_bar(|slot| {
            if let Some(bar) = slot.take() {
                bar.finish_and_clear();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_valid_and_shows_rate_and_time() {
        for unit in ["bytes", "rows", "files"] {
            for known in [true, false] {
                let text = template(unit, known);
                assert!(ProgressStyle::with_template(&text).is_ok(), "{text}");
                assert!(text.contains("per_sec"), "{text}");
                assert_eq!(text.contains("eta"), known, "{text}");
            }
        }
    }

    #[test]
    fn a_bar_follows_its_stage_and_goes_away() {
        let progress = ProgressBars::default();
        progress.advance(1);
        progress.begin("reading", "rows", Some(10));
        progress.advance(4);
        progress.remark("3 rows/s");
        progress.with_bar(|bar| assert_eq!(bar.as_ref().unwrap().prefix(), " - 3 rows/s"));
        progress.with_bar(|bar| assert_eq!(bar.as_ref().unwrap().position(), 4));
        progress.begin("writing", "bytes", None);
        progress.end();
        progress.with_bar(|bar| assert!(bar.is_none()));
        progress.end();
    }
}
