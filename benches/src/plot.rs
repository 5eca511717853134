//! Draws the picture of the README: for the loop and for each model a bar a contender, on a logarithmic scale.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::{
    coord::Shift,
    prelude::{
        Color as _, DrawingArea, IntoDrawingArea as _, IntoFont as _, RGBColor, Rectangle,
        SVGBackend, Text, WHITE,
    },
};

use crate::{
    report,
    results::Results,
    table::{Bench, Unit},
};

/// What is drawn: the bench and its row.
const PANELS: [(&str, &str); 4] =
    [("seed", "1000 steps"), ("mlp", "step"), ("cnn", "step"), ("gpt", "step")];

const OURS: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const THEIRS: RGBColor = RGBColor(0xb0, 0xb0, 0xb0);
const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);

const WIDTH: i32 = 760;
const BAR: i32 = 16;
const PITCH: i32 = 22;
const TITLE: i32 = 34;
/// Where names end, and where bars begin and the longest ends.
const NAMES: i32 = 12;
const BARS: i32 = 190;
const LONGEST: i32 = 330;

const LEGEND: &str = "Medians of samples in turn, on a logarithmic scale; ours / theirs is our best divided by theirs.";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A bar: name, whose it is, the median, and our best divided by it.
struct Bar {
    name: String,
    ours: bool,
    seconds: f64,
    ratio: f64,
}

/// Writes the picture, if any of its benches was run.
pub(crate) fn write(all: &[Results], folder: &Path) -> Result<()> {
    let panels: Vec<(&Bench, Vec<Bar>)> = PANELS
        .iter()
        .filter_map(|(name, row)| {
            let results = all.iter().find(|results| results.bench == *name)?;
            Some((report::bench_of(results)?, bars(results, row)))
        })
        .filter(|(_, bars)| !bars.is_empty())
        .collect();
    if panels.is_empty() {
        return Ok(());
    }
    let height: i32 = panels.iter().map(|(_, bars)| height_of(bars)).sum::<i32>() + TITLE;
    let path = folder.join("results.svg");
    let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
    let area = SVGBackend::new(&path, size).into_drawing_area();
    area.fill(&WHITE).map_err(|error| anyhow!("draw: {error}"))?;
    let mut top = 0;
    for (bench, bars) in &panels {
        draw(&area, top, bench.about, bars)?;
        top += height_of(bars);
    }
    text(&area, LEGEND, (NAMES, top + 12), 13)?;
    area.present().map_err(|error| anyhow!("write {}: {error}", path.display()))
}

fn height_of(bars: &[Bar]) -> i32 {
    TITLE + PITCH * i32::try_from(bars.len()).unwrap_or(i32::MAX / PITCH / 2)
}

/// The contenders' bars, the quickest first.
fn bars(results: &Results, row: &str) -> Vec<Bar> {
    if results.disagreement.is_some() {
        return Vec::new();
    }
    let mut bars: Vec<Bar> = results
        .contenders
        .iter()
        .filter_map(|measured| {
            let seconds = results.median(&measured.name, row)?;
            let name = if measured.ours {
                format!("gradtape {}", measured.name)
            } else {
                measured.name.clone()
            };
            Some(Bar { name, ours: measured.ours, seconds, ratio: 1.0 })
        })
        .collect();
    bars.sort_by(|x, y| x.seconds.total_cmp(&y.seconds));
    let best = bars.iter().find(|bar| bar.ours).map(|bar| bar.seconds);
    for bar in &mut bars {
        bar.ratio = best.unwrap_or(bar.seconds) / bar.seconds;
    }
    bars
}

fn draw(area: &Area<'_>, top: i32, title: &str, bars: &[Bar]) -> Result<()> {
    let failed = |error| anyhow!("draw: {error}");
    text(area, title, (NAMES, top + 12), 15)?;
    let shortest = bars.iter().map(|bar| bar.seconds).fold(f64::INFINITY, f64::min);
    let longest = bars.iter().map(|bar| bar.seconds).fold(0.0, f64::max);
    // The shortest bar is a tenth of a decade long, so that it can be seen.
    let decades = |seconds: f64| (seconds / shortest).log10() + 0.1;
    for (number, bar) in (0..).zip(bars) {
        let y = top + TITLE + PITCH * number;
        let share = decades(bar.seconds) / decades(longest);
        #[expect(clippy::cast_possible_truncation, reason = "at most LONGEST")]
        let end = BARS + (share * f64::from(LONGEST)) as i32;
        let color = if bar.ours { OURS } else { THEIRS };
        area.draw(&Rectangle::new([(BARS, y), (end, y + BAR)], color.filled())).map_err(failed)?;
        text(area, &bar.name, (NAMES, y + 2), 13)?;
        let ratio = report::show(Unit::Ratio, bar.ratio);
        let ratio = if bar.ours { String::new() } else { format!(", ours / theirs {ratio}") };
        let label = report::show(Unit::Seconds, bar.seconds) + &ratio;
        text(area, &label, (end + 6, y + 2), 13)?;
    }
    Ok(())
}

fn text(area: &Area<'_>, text: &str, place: (i32, i32), size: i32) -> Result<()> {
    let style = ("sans-serif", size).into_font().color(&INK);
    area.draw(&Text::new(text, place, style)).map_err(|error| anyhow!("draw: {error}"))
}
