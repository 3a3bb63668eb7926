//! Numbers as people read them. What is not finite becomes a dash.

const DASH: &str = "–";

/// Fixed decimals.
pub(super) fn fixed(value: f64, decimals: usize) -> String {
    if value.is_finite() { minus(format!("{value:.decimals$}")) } else { DASH.to_owned() }
}

/// Three significant digits, in scientific form where the plain one would be long.
pub(super) fn short(value: f64) -> String {
    if !value.is_finite() {
        return DASH.to_owned();
    }
    let size = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if (1e-3..1e6).contains(&size) {
        let decimals = (2 - size.log10().floor() as i32).max(0) as usize;
        fixed(value, decimals)
    } else {
        scientific(value)
    }
}

/// A share as a percentage, one decimal below 10 %.
pub(super) fn percent(share: f64) -> String {
    let value = share * 100.0;
    let decimals = usize::from(value > 0.0 && value < 9.95 || value > 99.0 && value < 100.0);
    format!("{} %", fixed(value, decimals))
}

/// A count with its thousands set apart by thin spaces.
pub(super) fn count(value: usize) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// "1 image", "2 images".
pub(super) fn images(value: usize) -> String {
    format!("{} image{}", count(value), if value == 1 { "" } else { "s" })
}

/// A tick's label on an axis whose ticks are `step` apart.
pub(super) fn tick(value: f64, step: f64) -> String {
    // The multiple of a step next to zero is not quite zero.
    if value.abs() < step * 1e-6 {
        return "0".to_owned();
    }
    let decimals = (0..=4).find(|&d| {
        let scaled = step * 10_f64.powi(d);
        (scaled - scaled.round()).abs() < scaled * 1e-6
    });
    match decimals {
        Some(decimals) if value.abs() < 1e6 => fixed(value, decimals as usize),
        _ => scientific(value),
    }
}

/// A coordinate inside an SVG.
pub(super) fn pixels(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn scientific(value: f64) -> String {
    minus(format!("{value:.1e}").replace(".0e", "e"))
}

fn minus(text: String) -> String {
    if text.contains('-') { text.replace('-', "−") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_never_nan() {
        assert_eq!(short(0.123_456), "0.123");
        assert_eq!(short(12.345), "12.3");
        assert_eq!(short(1234.5), "1234");
        assert_eq!(short(-0.5), "−0.500");
        assert_eq!(short(2e-5), "2e−5");
        assert_eq!((short(0.0), short(f64::NAN), fixed(f64::INFINITY, 2)), ("0".into(), DASH.into(), DASH.into()));
        assert_eq!(
            (percent(0.034), percent(0.5), percent(1.0), percent(0.994)),
            ("3.4 %".into(), "50 %".into(), "100 %".into(), "99.4 %".into())
        );
        assert_eq!((count(7), count(1_234_567)), ("7".into(), "1\u{202f}234\u{202f}567".into()));
        assert_eq!((images(1), images(2)), ("1 image".into(), "2 images".into()));
    }

    #[test]
    fn ticks_have_the_decimals_their_step_needs() {
        assert_eq!((tick(0.3, 0.1), tick(0.25, 0.05), tick(2.0, 1.0)), ("0.3".into(), "0.25".into(), "2".into()));
        assert_eq!((tick(6e-5, 2e-5), tick(1e-17, 0.1), tick(-2.0, 1.0)), ("6e−5".into(), "0".into(), "−2".into()));
        assert_eq!((pixels(3.04), pixels(3.25)), ("3".into(), "3.2".into()));
    }
}
