//! Numbers for people: times, sizes and counts, said the same way by every command. And times as people give them.
//!
//! Must not look at a clock, except where a function says that it reads the time zone.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A duration in the two largest units that say something: `0.4s`, `12s`, `3m 5s`, `2h 7m`, `5d 3h`.
pub(crate) fn duration(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0..10 => format!("{}.{}s", s, ms % 1_000 / 100),
        10..60 => format!("{s}s"),
        60..3_600 => format!("{}m {}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h {}m", s / 3_600, s % 3_600 / 60),
        86_400.. => format!("{}d {}h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// A duration in one unit, as people say it: `0 s`, `12 s`, `3 min`, `2 h`, `5 days`.
pub(crate) fn span(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min", s / 60),
        3_600..172_800 => format!("{} h", s / 3_600),
        172_800.. => format!("{} days", s / 86_400),
    }
}

/// How long ago, as people say it: `just now`, `12 s ago`, `3 min ago`.
pub(crate) fn ago(ms: u64) -> String {
    if ms < 1_000 {
        "just now".to_owned()
    } else {
        format!("{} ago", span(ms))
    }
}

/// How long ago a moment was, both in milliseconds since 1970.
pub(crate) fn since(at_unix_ms: u64, now_unix_ms: u64) -> String {
    ago(now_unix_ms.saturating_sub(at_unix_ms))
}

/// A time that a call took: `<1 ms`, `0.4 ms`, `12 ms`, `1.4 s`, then as [`duration`].
pub(crate) fn latency(ms: f64) -> String {
    if ms < 0.05 {
        "<1 ms".to_owned()
    } else if ms < 9.95 && ms.fract() > 0.0 {
        format!("{ms:.1} ms")
    } else if ms < 999.5 {
        format!("{ms:.0} ms")
    } else if ms < 59_950.0 {
        format!("{:.1} s", ms / 1_000.0)
    } else {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at least a minute, and a cast saturates"
        )]
        duration(ms as u64)
    }
}

/// A size: `812 B`, `1.4 KiB`, `38 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    scaled(count, 1_024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// A count that takes little room: `999`, `1.2k`, `38k`, `1.5M`.
pub(crate) fn count(count: u64) -> String {
    scaled(count, 1_000.0, &["", "k", "M", "G", "T"])
}

fn scaled(count: u64, step: f64, units: &[&str]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown at most")]
    let mut left = count as f64;
    let mut unit = 0;
    // What would be rounded up to the next unit belongs to it.
    while left >= step - 0.5 && unit + 1 < units.len() {
        left /= step;
        unit += 1;
    }
    let word = units.get(unit).copied().unwrap_or_default();
    if unit > 0 && left < 9.95 {
        format!("{left:.1}{word}")
    } else {
        format!("{left:.0}{word}")
    }
}

/// A share of one processor: `0.4 %`, `12 %`, `180 %`.
pub(crate) fn percent(share: f64) -> String {
    if share < 9.95 {
        format!("{share:.1} %")
    } else {
        format!("{share:.0} %")
    }
}

/// The time of day, with the date if it is another day than `now_unix_ms`: `22:15:03`, `Nov 20 22:15:03`. Reads the time
/// zone of this machine.
pub(crate) fn clock(at_unix_ms: u64, now_unix_ms: u64) -> String {
    clock_in(at_unix_ms, now_unix_ms, &TimeZone::system())
}

fn clock_in(at_unix_ms: u64, now_unix_ms: u64, zone: &TimeZone) -> String {
    let local = |ms| moment(ms).to_zoned(zone.clone());
    let (at, now) = (local(at_unix_ms), local(now_unix_ms));
    let format = if at.date() == now.date() {
        "%H:%M:%S"
    } else if at.year() == now.year() {
        "%b %d %H:%M:%S"
    } else {
        "%Y-%m-%d %H:%M"
    };
    at.strftime(format).to_string()
}

fn moment(unix_ms: u64) -> Timestamp {
    i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or(Timestamp::MAX)
}

/// The moment that somebody means, in milliseconds since 1970: a time ago (`10m`, `1h 30m`, `2 days`), a moment
/// (`2026-11-21T22:00:00Z`), a local time (`2026-11-21 22:00`, `2026-11-21`, `22:00`: the last time it was that late), or
/// the number itself. Reads the time zone of this machine.
///
/// # Errors
/// What is none of that, in words that say what would be.
pub(crate) fn parse_since(text: &str, now_unix_ms: u64) -> Result<u64, String> {
    since_in(text.trim(), now_unix_ms, &TimeZone::system()).ok_or_else(|| {
        format!(
            "`{text}` is no time; give a time ago (`10m`, `2h 30m`, `3 days`), a time of day (`22:15`), or a moment \
             (`2026-11-21 22:15`, `2026-11-21T22:15:00Z`)"
        )
    })
}

fn since_in(text: &str, now_unix_ms: u64, zone: &TimeZone) -> Option<u64> {
    let unix = |at: Timestamp| u64::try_from(at.as_millisecond()).ok();
    // Shorter numbers of milliseconds would be moments of 1970: whoever writes one means something else.
    if text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return unix(at);
    }
    let local = |at: jiff::civil::DateTime| at.to_zoned(zone.clone()).ok().map(|at| at.timestamp());
    if let Ok(at) = text.parse::<jiff::civil::Time>()
        && text.contains(':')
    {
        let now = moment(now_unix_ms).to_zoned(zone.clone());
        let today = local(now.date().to_datetime(at))?;
        let at = if today <= now.timestamp() {
            today
        } else {
            local(now.date().yesterday().ok()?.to_datetime(at))?
        };
        return unix(at);
    }
    if let Ok(at) = text.parse::<jiff::civil::DateTime>() {
        return local(at).and_then(unix);
    }
    if let Ok(date) = text.parse::<Date>() {
        return local(date.to_datetime(jiff::civil::Time::midnight())).and_then(unix);
    }
    let ago = long_ago(text)?;
    let ago_ms = u64::try_from(ago.as_millis()).ok()?;
    Some(now_unix_ms.saturating_sub(ago_ms))
}

/// A time ago, days and weeks included: a day has 24 hours here.
fn long_ago(text: &str) -> Option<SignedDuration> {
    let span: jiff::Span = text.trim_end_matches(" ago").parse().ok()?;
    if span.is_negative() {
        return None;
    }
    span.to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .ok()
}

/// Now, in milliseconds since 1970.
pub(crate) fn now_unix_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        for (ms, text) in [
            (0, "0.0s"),
            (470, "0.4s"),
            (9_990, "9.9s"),
            (12_400, "12s"),
            (185_000, "3m 5s"),
            (7_620_000, "2h 7m"),
            (442_800_000, "5d 3h"),
        ] {
            assert_eq!(duration(ms), text);
        }
        for (ms, text) in [
            (999, "just now"),
            (12_400, "12 s ago"),
            (185_000, "3 min ago"),
            (7_620_000, "2 h ago"),
            (442_800_000, "5 days ago"),
        ] {
            assert_eq!(ago(ms), text);
        }
        for (ms, text) in [
            (0.0, "<1 ms"),
            (0.32, "0.3 ms"),
            (3.0, "3 ms"),
            (12.4, "12 ms"),
            (999.7, "1.0 s"),
            (61_000.0, "1m 1s"),
        ] {
            assert_eq!(latency(ms), text);
        }
    }

    #[test]
    fn sizes_and_counts_have_at_most_three_digits() {
        for (size, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (40_000_000, "38 MiB"),
        ] {
            assert_eq!(bytes(size), text);
        }
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1.0k"),
            (9_949, "9.9k"),
            (9_951, "10k"),
            (999_600, "1.0M"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    /// 2026-11-21T22:15:03Z
    const NOW: u64 = 1_795_299_303_000;

    #[test]
    fn a_clock_shows_the_day_only_if_it_is_another() {
        let clock = |at| clock_in(at, NOW, &TimeZone::UTC);
        assert_eq!(clock(NOW), "22:15:03");
        assert_eq!(clock(NOW - 86_400_000), "Nov 20 22:15:03");
        assert_eq!(clock(NOW - 366 * 86_400_000), "2025-11-20 22:15");
    }

    #[test]
    fn times_are_understood_as_people_write_them() {
        let since = |text| since_in(text, NOW, &TimeZone::UTC);
        for (text, before_ms) in [
            ("10m", 600_000),
            ("90s", 90_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("2 days", 172_800_000),
            ("10 min ago", 600_000),
            ("22:15", 3_000),
            ("22:16", 86_400_000 - 57_000),
            ("2026-11-21T22:00:00Z", 903_000),
            ("2026-11-21 22:00", 903_000),
            ("2026-11-21", 80_103_000),
            ("1795299302000", 1_000),
        ] {
            assert_eq!(since(text), Some(NOW - before_ms), "{text}");
        }
        for text in ["", "soon", "10", "-5m", "25:00", "2026-13-01"] {
            assert_eq!(since(text), None, "{text}");
        }
        assert!(
            parse_since("soon", NOW)
                .unwrap_err()
                .contains("`soon` is no time")
        );
    }
}
