//! Medians and quartiles of a handful of rounds, and what it takes to meet a target.

use serde::Serialize;

/// What is said of a handful of samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    pub median: f64,
    pub lower_quartile: f64,
    pub upper_quartile: f64,
    pub lowest: f64,
    pub highest: f64,
}

/// Which way a figure should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    Higher,
    Lower,
}

impl Figure {
    /// `None` without samples. Samples are finite.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Figure {
            median: quantile(&sorted, 0.5)?,
            lower_quartile: quantile(&sorted, 0.25)?,
            upper_quartile: quantile(&sorted, 0.75)?,
            lowest: *sorted.first()?,
            highest: *sorted.last()?,
        })
    }

    /// The quartile on the bad side: three rounds in four were at least that good.
    pub fn bad_quartile(&self, better: Better) -> f64 {
        match better {
            Better::Higher => self.lower_quartile,
            Better::Lower => self.upper_quartile,
        }
    }

    /// The one bad end of the range.
    pub fn worst(&self, better: Better) -> f64 {
        match better {
            Better::Higher => self.lowest,
            Better::Lower => self.highest,
        }
    }
}

impl Better {
    /// Whether `value` is at least as good as `target`.
    pub fn meets(self, value: f64, target: f64) -> bool {
        match self {
            Better::Higher => value >= target,
            Better::Lower => value <= target,
        }
    }
}

/// The quantile by linear interpolation between the two nearest samples (Hyndman and Fan's type 7).
fn quantile(sorted: &[f64], fraction: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = fraction * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_samples_have_their_second_and_fourth_as_quartiles() {
        let figure = Figure::of(&[5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        let expected = Figure {
            median: 3.0,
            lower_quartile: 2.0,
            upper_quartile: 4.0,
            lowest: 1.0,
            highest: 5.0,
        };
        assert_eq!(figure, expected);
    }

    #[test]
    fn quantiles_between_samples_are_interpolated() {
        let figure = Figure::of(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(figure.median, 2.5);
        assert_eq!(figure.lower_quartile, 1.75);
        assert_eq!(figure.upper_quartile, 3.25);
    }

    #[test]
    fn one_sample_is_all_of_its_figures_and_none_has_no_figure() {
        let figure = Figure::of(&[7.0]).unwrap();
        assert_eq!(
            (figure.lower_quartile, figure.median, figure.highest),
            (7.0, 7.0, 7.0)
        );
        assert_eq!(Figure::of(&[]), None);
    }

    #[test]
    fn a_target_is_met_by_the_quartile_on_the_bad_side() {
        let ratios = Figure::of(&[2.4, 2.5, 2.6, 2.7, 2.8]).unwrap();
        assert!(Better::Higher.meets(ratios.bad_quartile(Better::Higher), 2.5));
        assert!(!Better::Higher.meets(ratios.worst(Better::Higher), 2.5));
        let costs = Figure::of(&[0.1, 0.2, 0.2, 0.31, 0.32]).unwrap();
        assert!(!Better::Lower.meets(costs.bad_quartile(Better::Lower), 0.3));
    }
}
