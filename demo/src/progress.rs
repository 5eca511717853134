//! What the user sees while the program runs: a bar, or lines for a log.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// What a moment of training looks like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) epoch: u32,
    pub(crate) loss: f32,
    pub(crate) accuracy: f64,
}

/// The user's screen.
#[derive(Debug)]
pub(crate) struct Progress {
    plain: bool,
}

/// A training run on the screen.
#[derive(Debug)]
pub(crate) struct Run {
    bar: Option<ProgressBar>,
    started: Instant,
    steps: u64,
}

// === impl Progress ===

impl Progress {
    pub(crate) fn new(plain: bool) -> Self {
        Self { plain }
    }

    /// Prints a line.
    #[expect(clippy::print_stdout, reason = "the results are this program's output")]
    pub(crate) fn say(&self, text: &str) {
        println!("{text}");
    }

    /// Begins a run of so many steps.
    pub(crate) fn run(&self, steps: u64) -> Run {
        let bar = (!self.plain).then(|| {
            let template = "{bar:40.cyan/blue} {pos}/{len} steps  {per_sec:.0}  {msg}";
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|error| unreachable!("the template is a constant: {error}"));
            let per_second = |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                // A screen that cannot be written to has nobody before it.
                let _ = write!(out, "{:.0} steps/s", state.per_sec());
            };
            ProgressBar::new(steps).with_style(style.with_key("per_sec", per_second))
        });
        Run { bar, started: Instant::now(), steps: 0 }
    }
}

// === impl Run ===

impl Run {
    /// One more step is on its way.
    pub(crate) fn step(&mut self) {
        self.steps += 1;
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// An epoch is over.
    #[expect(clippy::print_stdout, reason = "the log is this program's output")]
    pub(crate) fn epoch(&self, moment: Moment) {
        let Moment { epoch, loss, accuracy } = moment;
        let accuracy = accuracy * 100.0;
        match &self.bar {
            Some(bar) => {
                bar.set_message(format!("epoch {epoch}  loss {loss:.4}  accuracy {accuracy:.2} %"));
            }
            None => println!(
                "epoch={epoch} steps={} loss={loss:.4} held_out_accuracy={accuracy:.2} steps_per_second={:.0}",
                self.steps,
                self.steps_per_second(),
            ),
        }
    }

    /// Ends the run; how long it took.
    pub(crate) fn finish(self) -> (Duration, f64) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
        (self.started.elapsed(), self.steps_per_second())
    }

    #[expect(clippy::cast_precision_loss, reason = "no run has 2^52 steps")]
    fn steps_per_second(&self) -> f64 {
        self.steps as f64 / self.started.elapsed().as_secs_f64()
    }
}
