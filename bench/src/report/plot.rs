//! A plot of a row's ratios: median, half of the rounds, and the lines that they must keep to.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Point, Sense};
use crate::stats::number;

const WIDTH: u32 = 860;
const LINE: u32 = 26;
/// Room for names on the left, numbers on the right, the axis below.
const MARGINS: (i32, i32, i32) = (250, 90, 34);

const GOOD: RGBColor = RGBColor(0x2a, 0x7d, 0x4f);
const FAIR: RGBColor = RGBColor(0xb0, 0x7a, 0x12);
const BAD: RGBColor = RGBColor(0xb3, 0x2d, 0x2d);
const PLAIN: RGBColor = RGBColor(0x55, 0x66, 0x77);
const FAINT: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);

/// Where things stand on the picture.
struct Scale {
    from: f64,
    to: f64,
    height: i32,
}

impl Scale {
    fn of(points: &[Point], height: i32) -> Self {
        let of_point = |point: &Point| {
            let bound = point.bound;
            [Some(point.ratio.low), Some(point.ratio.high), Some(bound.limit), bound.aim, Some(1.0)]
        };
        let values: Vec<f64> =
            points.iter().flat_map(of_point).flatten().filter(|value| value.is_finite()).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let rim = ((most - least) * 0.06).max(0.02);
        Self { from: (least - rim).max(0.0), to: most + rim, height }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a place on a picture")]
    fn x(&self, value: f64) -> i32 {
        let (left, right, _) = MARGINS;
        let room = f64::from(WIDTH) - f64::from(left) - f64::from(right);
        let share = ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        left + (room * share) as i32
    }

    /// Round values on the axis.
    fn ticks(&self) -> Vec<f64> {
        let span = self.to - self.from;
        let steps = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
        let step = steps.into_iter().find(|step| span / step <= 8.0).unwrap_or(span);
        let first = (self.from / step).ceil();
        (0..10)
            .map(|index| (first + number(index)) * step)
            .take_while(|tick| *tick <= self.to)
            .collect()
    }
}

/// An SVG of its own.
///
/// # Errors
/// When it cannot be drawn.
pub(super) fn svg(points: &[Point]) -> Result<String> {
    let lines = u32::try_from(points.len())?;
    let (_, _, below) = MARGINS;
    let height = 12 + lines * LINE + below.unsigned_abs();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let scale = Scale::of(points, i32::try_from(height)?);
        let failed = |error| anyhow!("drawing a plot: {error}");
        draw(&area, points, &scale).map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>>;

fn draw(area: &Area<'_>, points: &[Point], scale: &Scale) -> Drawn {
    let (_, _, below) = MARGINS;
    let floor = scale.height - below;
    let small = ("sans-serif", 12).into_font().color(&BLACK);
    let centred = small.clone().pos(Pos::new(HPos::Center, VPos::Top));
    for tick in scale.ticks() {
        let x = scale.x(tick);
        area.draw(&PathElement::new([(x, 6), (x, floor)], FAINT))?;
        area.draw(&Text::new(trimmed(tick), (x, floor + 6), &centred))?;
    }
    let mut y = 6 + i32::try_from(LINE).unwrap_or_default() / 2;
    for point in points {
        draw_point(area, point, scale, y)?;
        y += i32::try_from(LINE).unwrap_or_default();
    }
    Ok(())
}

fn draw_point(area: &Area<'_>, point: &Point, scale: &Scale, y: i32) -> Drawn {
    let font = ("sans-serif", 13).into_font().color(&BLACK);
    let to_the_left = font.clone().pos(Pos::new(HPos::Right, VPos::Center));
    let to_the_right = font.pos(Pos::new(HPos::Left, VPos::Center));
    let (left, right, _) = MARGINS;
    area.draw(&Text::new(point.label.clone(), (left - 12, y), &to_the_left))?;
    let end = i32::try_from(WIDTH).unwrap_or_default() - right;
    area.draw(&Text::new(format!("{:.2}", point.ratio.median), (end + 12, y), &to_the_right))?;
    let half = i32::try_from(LINE).unwrap_or_default() / 2;
    if point.bound.sense != Sense::Told {
        let at = |value: f64| [(scale.x(value), y - half), (scale.x(value), y + half)];
        area.draw(&PathElement::new(at(point.bound.limit), BAD.stroke_width(2)))?;
        if let Some(aim) = point.bound.aim {
            area.draw(&PathElement::new(at(aim), GOOD.stroke_width(1)))?;
        }
    }
    let colour = match point.outcome {
        super::Outcome::Met => GOOD,
        super::Outcome::ShortOfAim => FAIR,
        super::Outcome::Missed => BAD,
        super::Outcome::Told => PLAIN,
    };
    let (low, high) =
        (scale.x(point.ratio.low), scale.x(point.ratio.high).max(scale.x(point.ratio.low) + 1));
    area.draw(&Rectangle::new([(low, y - 5), (high, y + 5)], colour.mix(0.35).filled()))?;
    area.draw(&Circle::new((scale.x(point.ratio.median), y), 5, colour.filled()))
}

/// A number without zeros at its end.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Bound;
    use crate::stats::Spread;

    #[test]
    fn every_point_is_drawn_with_its_name_and_bound() {
        let point = |label: &str, ratio| {
            Point::new(label, Spread::of([ratio, ratio * 1.1]), Bound::at_most(1.25).aiming(1.1))
        };
        let svg = svg(&[point("one", 1.0), point("other", 2.0)]).unwrap();
        assert!(svg.contains("one") && svg.contains("other"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2);
        assert_eq!(svg.matches("#B32D2D").count(), 2 + 2, "two limits, a miss of two marks");
    }

    #[test]
    fn ticks_are_round_and_few() {
        let scale = Scale { from: 0.93, to: 3.1, height: 100 };
        assert_eq!(scale.ticks(), [1.0, 1.5, 2.0, 2.5, 3.0]);
    }
}
