//! Charts as SVG, drawn by hand: lines over a growing load, and bars beside a bar to reach. No script, no
//! font of its own, readable on white and in print.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 52.0;
/// Told apart also without colours, by their lightness.
const COLOURS: [&str; 5] = ["#1f5fa8", "#d1495b", "#66a182", "#edae49", "#5b5f97"];

/// One line of a [`Lines`].
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// Values over a load; both scales are logarithmic, because ladders rise by factors.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Lines {
    pub(super) title: String,
    pub(super) x: &'static str,
    pub(super) y: &'static str,
    pub(super) series: Vec<Series>,
    /// A value not to be exceeded, and its name.
    pub(super) limit: Option<(f64, String)>,
}

/// Values side by side.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Bars {
    pub(super) title: String,
    pub(super) y: &'static str,
    /// Name and value, with the value to compare it with.
    pub(super) bars: Vec<(String, f64, Option<f64>)>,
}

/// From values to a place on the paper.
#[derive(Clone, Copy, Debug)]
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    /// Around `values`, with round ends. Logarithmic ones begin and end at powers of ten; linear ones begin
    /// at 0.
    fn around(values: impl Iterator<Item = f64>, logarithmic: bool, from: f64, to: f64) -> Self {
        let usable = values.filter(|value| value.is_finite() && (!logarithmic || *value > 0.0));
        let (low, high) = usable
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return Self { low: 1.0, high: 10.0, from, to, logarithmic };
        }
        if logarithmic {
            let low = 10_f64.powf(low.log10().floor());
            let high = 10_f64.powf(high.log10().ceil()).max(low * 10.0);
            Self { low, high, from, to, logarithmic }
        } else {
            let step = round_step(high / 5.0);
            Self { low: 0.0, high: (high / step).ceil().max(1.0) * step, from, to, logarithmic }
        }
    }

    fn at(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low).ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        let step = round_step(self.high / 5.0);
        let mut tick = self.low;
        // A little room, for sums of fractions.
        while tick <= self.high * 1.001 && ticks.len() < TICKS_MAX {
            ticks.push(tick);
            tick = if self.logarithmic { tick * 10.0 } else { tick + step };
        }
        ticks
    }
}

const TICKS_MAX: usize = 20;

/// 1, 2 or 5 times a power of ten, at least `about`.
fn round_step(about: f64) -> f64 {
    if about <= 0.0 || !about.is_finite() {
        return 1.0;
    }
    let power = 10_f64.powf(about.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= about * 0.999)
        .unwrap_or(power)
}

/// A value in at most four digits.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    let (value, unit) = if size >= 1_000_000.0 {
        (value / 1_000_000.0, "M")
    } else if size >= 10_000.0 {
        (value / 1_000.0, "k")
    } else {
        (value, "")
    };
    let digits = match value.abs() {
        value if value >= 100.0 || value == 0.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        value if value >= 0.01 => 3,
        _ => 5,
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The paper, its title and the axis on the left.
fn paper(title: &str, y: &str, scale: &Scale) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<title>{0}</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"15\" fill=\"#222222\">{0}</text>\n\
         <text x=\"{LEFT}\" y=\"36\" fill=\"#555555\">{1}</text>\n",
        escape(title),
        escape(y)
    );
    for tick in scale.ticks() {
        let at = scale.at(tick);
        add(
            &mut svg,
            format_args!(
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555555\">{}</text>\n",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                short(tick)
            ),
        );
    }
    svg
}

fn add(svg: &mut String, what: std::fmt::Arguments<'_>) {
    svg.write_fmt(what).expect("writing to a string never fails");
}

impl Lines {
    /// The chart.
    pub(super) fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let limit = self.limit.as_ref().map(|(value, _)| *value);
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let down = Scale::around(points().map(|(_, y)| y).chain(limit), true, bottom, TOP);
        let across = Scale::around(points().map(|(x, _)| x), true, LEFT, right);
        // Between the ends that are used, not between powers of ten.
        let low = points().map(|(x, _)| x).fold(f64::INFINITY, f64::min);
        let high = points().map(|(x, _)| x).fold(f64::NEG_INFINITY, f64::max);
        let across = if low < high { Scale { low, high, ..across } } else { across };
        let mut svg = paper(&self.title, self.y, &down);
        let mut seen: Vec<f64> = points().map(|(x, _)| x).collect();
        seen.sort_by(f64::total_cmp);
        seen.dedup();
        let mut last = f64::NEG_INFINITY;
        for x in seen {
            let at = across.at(x);
            // Labels that would touch are left out.
            if at - last < 44.0 {
                continue;
            }
            last = at;
            add(
                &mut svg,
                format_args!(
                    "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555555\">{}</text>\n",
                    bottom + 18.0,
                    short(x)
                ),
            );
        }
        add(
            &mut svg,
            format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555555\">{}</text>\n",
                (LEFT + right) / 2.0,
                HEIGHT - 12.0,
                escape(self.x)
            ),
        );
        if let Some((value, name)) = &self.limit {
            let at = down.at(*value);
            add(
                &mut svg,
                format_args!(
                    "<line x1=\"{LEFT}\" x2=\"{right:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#888888\" \
                     stroke-dasharray=\"6 4\"/>\n<text x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\" \
                     fill=\"#888888\">{}</text>\n",
                    at - 5.0,
                    escape(name)
                ),
            );
        }
        for ((number, series), colour) in self.series.iter().enumerate().zip(COLOURS.iter().cycle()) {
            let path: Vec<String> = series
                .points
                .iter()
                .map(|(x, y)| format!("{:.1},{:.1}", across.at(*x), down.at(*y)))
                .collect();
            add(
                &mut svg,
                format_args!(
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
                    path.join(" ")
                ),
            );
            for place in &path {
                let (x, y) = place.split_once(',').unwrap_or_default();
                add(&mut svg, format_args!("<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\"/>\n"));
            }
            let line = TOP + 14.0 + 16.0 * number as f64;
            add(
                &mut svg,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{line:.1}\" fill=\"{colour}\">{}</text>\n",
                    LEFT + 10.0,
                    escape(&series.name)
                ),
            );
        }
        svg + "</svg>\n"
    }
}

impl Bars {
    /// The chart.
    pub(super) fn svg(&self) -> String {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let values = self.bars.iter().flat_map(|(_, value, target)| [Some(*value), *target]).flatten();
        let down = Scale::around(values, false, bottom, TOP);
        let mut svg = paper(&self.title, self.y, &down);
        let room = (right - LEFT) / self.bars.len().max(1) as f64;
        for (number, (name, value, target)) in self.bars.iter().enumerate() {
            let (from, top) = (LEFT + room * (number as f64 + 0.2), down.at(*value));
            let middle = LEFT + room * (number as f64 + 0.5);
            add(
                &mut svg,
                format_args!(
                    "<rect x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>\n\
                     <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#222222\">{}</text>\n\
                     <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555555\">{}</text>\n",
                    room * 0.6,
                    (bottom - top).max(0.0),
                    COLOURS[0],
                    top - 4.0,
                    short(*value),
                    bottom + 18.0,
                    escape(name)
                ),
            );
            if let Some(target) = target {
                let at = down.at(*target);
                add(
                    &mut svg,
                    format_args!(
                        "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{}\" \
                         stroke-width=\"2\" stroke-dasharray=\"6 4\"/>\n",
                        from - room * 0.1,
                        from + room * 0.7,
                        COLOURS[1]
                    ),
                );
            }
        }
        svg + "</svg>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_short() {
        let texts = [0.0, 0.0123, 0.5, 1.0, 1.25, 12.34, 999.4, 1_234.0, 15_000.0, 10_000_000.0].map(short);
        assert_eq!(texts, ["0", "0.012", "0.5", "1", "1.25", "12.3", "999", "1234", "15k", "10M"]);
    }

    #[test]
    fn scales_have_round_ends_and_keep_what_is_outside_on_the_paper() {
        let scale = Scale::around([3.0, 40.0].into_iter(), true, 100.0, 0.0);
        assert_eq!((scale.low, scale.high, scale.ticks().len()), (1.0, 100.0, 3));
        assert!((scale.at(10.0) - 50.0).abs() < 0.01);
        assert!((scale.at(0.0) - 100.0).abs() < 0.01 && scale.at(5_000.0).abs() < 0.01);
        let scale = Scale::around([7.0, 23.0].into_iter(), false, 0.0, 1.0);
        assert_eq!((scale.low, scale.high), (0.0, 25.0));
        let empty = Scale::around(std::iter::empty(), true, 0.0, 1.0);
        assert!(empty.at(5.0).is_finite());
    }

    #[test]
    fn a_higher_value_stands_higher_and_texts_are_escaped() {
        let chart = Bars {
            title: "A < B & \"C\"".to_owned(),
            y: "ms",
            bars: vec![("one".to_owned(), 10.0, Some(5.0)), ("two".to_owned(), 20.0, None)],
        };
        let svg = chart.svg();
        assert!(svg.contains("A &lt; B &amp; &quot;C&quot;") && !svg.contains("A < B"));
        let heights: Vec<f64> =
            svg.split("height=\"").skip(2).filter_map(|rest| rest.split('"').next()?.parse().ok()).collect();
        assert_eq!(heights.len(), 2);
        assert!((heights[1] - 2.0 * heights[0]).abs() < 0.3, "{heights:?}");
        assert_eq!(svg.matches("stroke-dasharray").count(), 1);
    }

    #[test]
    fn lines_have_their_points_from_left_to_right() {
        let chart = Lines {
            title: "t".to_owned(),
            x: "rate",
            y: "ms",
            series: vec![Series {
                name: "p99".to_owned(),
                points: vec![(100.0, 1.0), (125.0, 2.0), (156.0, 50.0)],
            }],
            limit: Some((200.0, "limit".to_owned())),
        };
        let svg = chart.svg();
        let points =
            svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        let places: Vec<(f64, f64)> = points
            .split(' ')
            .filter_map(|place| place.split_once(','))
            .filter_map(|(x, y)| Some((x.parse().ok()?, y.parse().ok()?)))
            .collect();
        assert_eq!(places.len(), 3);
        assert!(places.is_sorted_by(|a, b| a.0 < b.0 && a.1 > b.1), "{places:?}");
        assert_eq!(places.first().map(|place| place.0), Some(LEFT));
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.ends_with("</svg>\n"));
    }
}
