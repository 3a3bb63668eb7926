//! A small chart kit: axes, lines, bands, bars and dots as inline SVG.
//!
//! Own code rather than `plotters`: its SVG carries fixed colours in every element and estimates text by a font of its
//! own, while here every mark has a class that the page's style sheet colours, for light and dark alike, and legends
//! and titles are HTML, which wraps by itself.

use super::format::{pixels, tick};
use maud::{Markup, html};

/// A scale with its ticks. Values outside are drawn at its ends.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    label: String,
    min: f64,
    max: f64,
    ticks: Vec<(f64, String)>,
    grid: bool,
}

impl Axis {
    /// Holds all finite `values`, widened to whole ticks.
    pub(super) fn around(label: &str, values: impl IntoIterator<Item = f64>) -> Axis {
        let (low, high) = span(values);
        let step = nice_step((high - low) / 5.0);
        Axis::stepped(label, (low / step).floor() * step, (high / step).ceil() * step, step)
    }

    /// Holds all finite `values` with a margin of one fiftieth; ticks inside.
    pub(super) fn tight(label: &str, values: impl IntoIterator<Item = f64>) -> Axis {
        let (low, high) = span(values);
        let margin = (high - low) / 50.0;
        let (low, high) = (low - margin, high + margin);
        Axis::stepped(label, low, high, nice_step((high - low) / 7.0))
    }

    /// Whole numbers from `first` to `last` with half a unit beyond either.
    pub(super) fn counted(label: &str, first: usize, last: usize) -> Axis {
        let step = nice_step((last.saturating_sub(first)) as f64 / 6.0).max(1.0);
        Axis::stepped(label, first as f64 - 0.5, last.max(first) as f64 + 0.5, step)
    }

    /// Shares from 0 to 1, as percentages.
    pub(super) fn share(label: &str) -> Axis {
        let ticks = (0..=5).map(|i| (f64::from(i) / 5.0, format!("{} %", i * 20))).collect();
        Axis { label: label.into(), min: 0.0, max: 1.0, ticks, grid: true }
    }

    /// Rows with names, the first on top; see [`Plot::row`].
    pub(super) fn rows(names: &[String]) -> Axis {
        let n = names.len();
        let ticks = names.iter().enumerate().map(|(i, name)| ((n - i) as f64 - 0.5, name.clone())).collect();
        Axis { label: String::new(), min: 0.0, max: n.max(1) as f64, ticks, grid: false }
    }

    /// Without ticks, for coordinates that mean nothing in themselves.
    pub(super) fn bare(label: &str, values: impl IntoIterator<Item = f64>) -> Axis {
        Axis { ticks: Vec::new(), ..Axis::tight(label, values) }
    }

    /// The ends of the scale.
    pub(super) fn range(&self) -> (f64, f64) {
        (self.min, self.max)
    }

    fn stepped(label: &str, min: f64, max: f64, step: f64) -> Axis {
        let first = (min / step - 1e-6).ceil() as i64;
        let last = (max / step + 1e-6).floor() as i64;
        let ticks = (first..=last).map(|i| (i as f64 * step, tick(i as f64 * step, step))).collect();
        Axis { label: label.into(), min, max, ticks, grid: true }
    }

    /// Where a value lies, 0..=1.
    fn place(&self, value: f64) -> f64 {
        ((value - self.min) / (self.max - self.min)).clamp(0.0, 1.0)
    }
}

/// A chart being drawn: marks lie over each other in the order they are added. What is not finite is left out.
pub(super) struct Plot {
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x: Axis,
    y: Axis,
    marks: Vec<Markup>,
}

impl Plot {
    /// `width` and `height` in pixels at full size, axes and labels included.
    pub(super) fn new(width: f64, height: f64, x: Axis, y: Axis) -> Plot {
        let longest = y.ticks.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0);
        let y_label = if y.label.is_empty() { 0.0 } else { 20.0 };
        // The last tick of x sticks out by half its label.
        let left = 18.0 + y_label + CHARACTER * longest as f64;
        let bottom = if x.ticks.is_empty() { 28.0 } else { 44.0 };
        Plot { width, height, left, right: 22.0, top: 16.0, bottom, x, y, marks: Vec::new() }
    }

    /// Room to the right of the axes, for [`note`](Plot::note).
    pub(super) fn with_right_margin(mut self, pixels: f64) -> Plot {
        self.right = pixels;
        self
    }

    /// A line through points.
    pub(super) fn line(&mut self, class: &str, points: impl IntoIterator<Item = (f64, f64)>) {
        let mut path = String::new();
        let mut last = None;
        let mut drawn = 0;
        for (x, y) in points.into_iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
            let (x, y) = (self.x(x), self.y(y));
            path += &format!("{}{} {}", if drawn == 0 { "M" } else { "L" }, pixels(x), pixels(y));
            last = Some((x, y));
            drawn += 1;
        }
        match last {
            // A line of one point would not be seen.
            Some((x, y)) if drawn == 1 => {
                self.marks.push(html! { circle class={ "dot " (class) } cx=(pixels(x)) cy=(pixels(y)) r="3.5" {} });
            }
            Some(_) => self.marks.push(html! { path class={ "line " (class) } d=(path) {} }),
            None => {}
        }
    }

    /// The area between two curves, (x, low, high).
    pub(super) fn band(&mut self, class: &str, points: &[(f64, f64, f64)]) {
        let finite: Vec<_> =
            points.iter().filter(|(x, l, h)| x.is_finite() && l.is_finite() && h.is_finite()).collect();
        let place = |x: f64, y: f64| format!("{} {}", pixels(self.x(x)), pixels(self.y(y)));
        let upper = finite.iter().map(|(x, _, high)| place(*x, *high));
        let lower = finite.iter().rev().map(|(x, low, _)| place(*x, *low));
        let path: Vec<String> = upper.chain(lower).collect();
        if finite.len() > 1 {
            self.marks.push(html! { path class={ "band " (class) } d={ "M" (path.join("L")) "Z" } {} });
        }
    }

    /// A rectangle from (x0, y0) to (x1, y1), with a text that shows when it is pointed at.
    pub(super) fn bar(&mut self, class: &str, x: (f64, f64), y: (f64, f64), hint: &str) {
        if ![x.0, x.1, y.0, y.1].iter().all(|v| v.is_finite()) {
            return;
        }
        let (left, right) = (self.x(x.0.min(x.1)), self.x(x.0.max(x.1)));
        let (top, bottom) = (self.y(y.0.max(y.1)), self.y(y.0.min(y.1)));
        self.marks.push(html! {
            rect class={ "bar " (class) } x=(pixels(left)) y=(pixels(top))
                width=(pixels(right - left)) height=(pixels(bottom - top)) { title { (hint) } }
        });
    }

    /// A dot with a text that shows when it is pointed at.
    pub(super) fn dot(&mut self, class: &str, x: f64, y: f64, radius: f64, hint: &str) {
        if x.is_finite() && y.is_finite() {
            self.marks.push(html! {
                circle class={ "dot " (class) } cx=(pixels(self.x(x))) cy=(pixels(self.y(y))) r=(pixels(radius)) {
                    title { (hint) }
                }
            });
        }
    }

    /// A line from bottom to top at `x`, its label above the axes.
    pub(super) fn vertical(&mut self, class: &str, x: f64, label: &str) {
        if !x.is_finite() {
            return;
        }
        let at = self.x(x);
        // Near an edge the label turns inwards.
        let half = CHARACTER * label.chars().count() as f64 / 2.0;
        let anchor = match at {
            at if at - half < 0.0 => "start",
            at if at + half > self.width => "end",
            _ => "middle",
        };
        self.marks.push(html! {
            line class={ "line " (class) } x1=(pixels(at)) x2=(pixels(at)) y1=(pixels(self.top))
                y2=(pixels(self.height - self.bottom)) {}
            text class={ "mark " (class) } x=(pixels(at)) y=(pixels(self.top - 5.0)) text-anchor=(anchor) { (label) }
        });
    }

    /// A text to the right of the axes, beside `y`.
    pub(super) fn note(&mut self, class: &str, y: f64, text: &str) {
        let (x, y) = (self.width - self.right + 10.0, self.y(y) + 4.0);
        self.marks.push(html! { text class={ "mark " (class) } x=(pixels(x)) y=(pixels(y)) { (text) } });
    }

    /// The middle of row `index` of [`Axis::rows`].
    pub(super) fn row(&self, index: usize) -> f64 {
        self.y.max - index as f64 - 0.5
    }

    /// Pixels between two values of x.
    pub(super) fn pixels_between(&self, a: f64, b: f64) -> f64 {
        (self.x(b) - self.x(a)).abs()
    }

    /// The finished SVG; `description` is for those who do not see it.
    pub(super) fn svg(self, description: &str) -> Markup {
        let (right, bottom) = (self.width - self.right, self.height - self.bottom);
        let middle = pixels((self.top + bottom) / 2.0);
        html! {
            svg viewBox={ "0 0 " (pixels(self.width)) " " (pixels(self.height)) } role="img" aria-label=(description) {
                @for (value, text) in &self.y.ticks {
                    @let y = self.y(*value);
                    @if self.y.grid {
                        line class="grid" x1=(pixels(self.left)) x2=(pixels(right)) y1=(pixels(y)) y2=(pixels(y)) {}
                    }
                    text class="tick" x=(pixels(self.left - 7.0)) y=(pixels(y + 4.0)) text-anchor="end" { (text) }
                }
                @for (value, text) in &self.x.ticks {
                    @let x = self.x(*value);
                    line class="notch" x1=(pixels(x)) x2=(pixels(x)) y1=(pixels(bottom)) y2=(pixels(bottom + 4.0)) {}
                    text class="tick" x=(pixels(x)) y=(pixels(bottom + 17.0)) text-anchor="middle" { (text) }
                }
                line class="axis" x1=(pixels(self.left)) x2=(pixels(right)) y1=(pixels(bottom)) y2=(pixels(bottom)) {}
                @for mark in &self.marks { (mark) }
                text class="label" x=(pixels((self.left + right) / 2.0)) y=(pixels(self.height - 6.0)) text-anchor="middle" {
                    (self.x.label)
                }
                @if !self.y.label.is_empty() {
                    text class="label" x="12" y=(middle) text-anchor="middle" transform={ "rotate(-90 12 " (middle) ")" } {
                        (self.y.label)
                    }
                }
            }
        }
    }

    fn x(&self, value: f64) -> f64 {
        self.left + self.x.place(value) * (self.width - self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        self.height - self.bottom - self.y.place(value) * (self.height - self.bottom - self.top)
    }
}

/// A chart with its title, what to look for, and its legend of (class, text).
pub(super) fn figure(title: &str, look_for: &str, legend: &[(&str, &str)], chart: &Markup) -> Markup {
    html! {
        figure {
            figcaption { h3 { (title) } p { (look_for) } }
            @if !legend.is_empty() {
                ul class="legend" { @for (class, text) in legend { li class=(class) { (text) } } }
            }
            div class="scroll" { (chart) }
        }
    }
}

/// At most `most` of the values, evenly taken, the first and the last among them.
pub(super) fn thin<T: Clone>(values: &[T], most: usize) -> Vec<T> {
    if values.len() <= most || most < 2 {
        return values.to_vec();
    }
    (0..most).filter_map(|i| values.get(i * (values.len() - 1) / (most - 1)).cloned()).collect()
}

/// Width of a tick's character, pixels: digits are the widest that occur often.
const CHARACTER: f64 = 6.6;

/// The smallest and largest finite value, apart by something.
fn span(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .into_iter()
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return (0.0, 1.0);
    }
    let least = low.abs().max(high.abs()).max(1e-9) * 1e-3;
    if high - low >= least { (low, high) } else { (low - least, high + least) }
}

/// The next of 1, 2, 5 times a power of ten.
fn nice_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.max(1e-300).log10().floor());
    let nice = [1.0, 2.0, 5.0].into_iter().find(|m| m * power >= step * 0.999).unwrap_or(10.0);
    nice * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (step, nice) in [(0.3, 0.5), (0.1, 0.1), (1.01, 2.0), (7.0, 10.0), (2e-5, 2e-5)] {
            assert!((nice_step(step) / nice - 1.0).abs() < 1e-9, "{step}: {}", nice_step(step));
        }
    }

    #[test]
    fn axes_hold_their_values_and_have_a_few_ticks() {
        for values in
            [vec![0.0, 1.0], vec![3.2e-6, 7.9e-6], vec![-4.0, 1e6], vec![0.5], vec![0.0], vec![], vec![1e30, 2e30]]
        {
            for axis in [Axis::around("", values.clone()), Axis::tight("", values.clone())] {
                let (low, high) = axis.range();
                assert!(low < high && values.iter().all(|&v| low <= v && v <= high), "{axis:?}");
                assert!((2..=12).contains(&axis.ticks.len()), "{axis:?}");
            }
        }
        let axis = Axis::around("", [f64::NAN, f64::INFINITY, 2.0, 4.0]);
        assert_eq!(axis.range(), (2.0, 4.0));
        assert_eq!(Axis::counted("", 1, 1).ticks, [(1.0, "1".to_owned())]);
        assert!(Axis::counted("", 1, 500).ticks.len() <= 8);
    }

    #[test]
    fn nothing_that_is_not_finite_is_drawn() {
        let mut plot = Plot::new(300.0, 200.0, Axis::share("x"), Axis::share("y"));
        plot.line("a", [(f64::NAN, 0.0), (0.5, f64::INFINITY)]);
        plot.band("a", &[(0.0, f64::NAN, 1.0), (1.0, 0.0, 1.0)]);
        plot.bar("a", (0.0, f64::NAN), (0.0, 1.0), "");
        plot.dot("a", f64::NAN, 0.0, 2.0, "");
        plot.vertical("a", f64::NEG_INFINITY, "");
        assert!(plot.marks.is_empty());
        plot.line("a", [(0.0, 0.0), (f64::NAN, 0.0), (1.0, 1.0)]);
        plot.line("a", [(0.5, 0.5)]);
        let svg = plot.svg("d").into_string();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(svg.contains("<path") && svg.contains("<circle"));
    }

    #[test]
    fn thinning_keeps_the_ends() {
        let values: Vec<usize> = (0..1000).collect();
        let thinned = thin(&values, 10);
        assert_eq!((thinned.len(), thinned[0], thinned[9]), (10, 0, 999));
        assert_eq!(thin(&values[..3], 10), [0, 1, 2]);
    }
}
