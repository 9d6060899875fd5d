//! The report: ratios first, because absolute numbers belong to one machine on one day.

use serde::Serialize;

use crate::load::Burst;

/// All bursts of one scenario, one list per way, in the order of the rounds.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// Its name.
    pub(crate) name: String,
    /// Per way: its name and its bursts. The first is what the others are compared with.
    pub(crate) ways: Vec<(&'static str, Vec<Burst>)>,
}

/// One line of the report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    scenario: String,
    way: &'static str,
    per_second: f64,
    median_us: f64,
    ratio_to_direct: f64,
    ratio_to_relay: f64,
    added_median_us: f64,
}

impl Scenario {
    /// The medians over the rounds; ratios are taken round by round first.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let find = |name: &str| {
            self.ways
                .iter()
                .find(|(way, _)| *way == name)
                .map(|(_, bursts)| bursts.as_slice())
        };
        let first = self.ways.first().map(|(_, bursts)| bursts.as_slice());
        let (direct, relay) = (first.unwrap_or_default(), find("relay").unwrap_or_default());
        let ratio = |bursts: &[Burst], base: &[Burst]| {
            median(
                bursts
                    .iter()
                    .zip(base)
                    .map(|(a, b)| a.per_second / b.per_second),
            )
        };
        self.ways
            .iter()
            .map(|(way, bursts)| Row {
                scenario: self.name.clone(),
                way,
                per_second: median(bursts.iter().map(|burst| burst.per_second)),
                median_us: median(bursts.iter().map(|burst| burst.median_us)),
                ratio_to_direct: ratio(bursts, direct),
                ratio_to_relay: ratio(bursts, relay),
                added_median_us: median(
                    bursts
                        .iter()
                        .zip(direct)
                        .map(|(a, b)| a.median_us - b.median_us),
                ),
            })
            .collect()
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints the rows.
pub(crate) fn print(rows: &[Row], json: bool) -> Result<(), crate::Failure> {
    if json {
        println!("{}", serde_json::to_string_pretty(rows)?);
        return Ok(());
    }
    println!(
        "{:<28} {:<16} {:>10} {:>11} {:>9} {:>9} {:>10}",
        "scenario", "way", "calls/s", "median us", "x direct", "x relay", "added us"
    );
    let mut last = "";
    for row in rows {
        if row.scenario != last {
            println!();
            last = &row.scenario;
        }
        println!(
            "{:<28} {:<16} {:>10.0} {:>11.1} {:>9} {:>9} {:>10.1}",
            row.scenario,
            row.way,
            row.per_second,
            row.median_us,
            ratio(row.ratio_to_direct),
            ratio(row.ratio_to_relay),
            row.added_median_us
        );
    }
    Ok(())
}

/// A ratio, if there was something to compare with.
fn ratio(ratio: f64) -> String {
    if ratio.is_nan() {
        "-".to_owned()
    } else {
        format!("{ratio:.2}")
    }
}
