//! A period of time, and the days it has in a time zone.

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::clock::Timestamp;

/// The longest period, in days.
pub const MOST_DAYS: usize = 366;

/// The usual one.
const USUAL_DAYS: i64 = 30;

/// The span of time by which sums are kept everywhere, in microseconds: a quarter of an hour, of which every time zone's
/// days are made.
pub const QUARTER: i64 = 900_000_000;

/// A day in UTC, in microseconds.
pub const DAY: i64 = 86_400_000_000;

/// A period, cut into the days of a time zone.
#[derive(Clone, Debug)]
pub struct Period {
    zone: String,
    /// Its days: when each begins, the first where the period does.
    days: Vec<(i64, Date)>,
    end: i64,
}

/// What cannot be read, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear {
    /// `from`, `to` or `tz`.
    pub field: &'static str,
    /// What it must be.
    pub must: &'static str,
}

const fn unclear(field: &'static str, must: &'static str) -> Unclear {
    Unclear { field, must }
}

impl Period {
    /// Reads a period. `from` and `to` are days of the zone, both in it, or moments, the last not in it. It ends with
    /// today and has thirty days where nothing else is said; the zone is UTC.
    ///
    /// # Errors
    /// [`Unclear`], which names what is wrong.
    pub fn read(from: Option<&str>, to: Option<&str>, zone: Option<&str>, now: Timestamp) -> Result<Self, Unclear> {
        let zone = match zone.unwrap_or("UTC") {
            "UTC" => TimeZone::UTC,
            name => TimeZone::get(name).map_err(|_| unclear("tz", "must be a time zone, such as Europe/Berlin"))?,
        };
        let today = moment(now).to_zoned(zone.clone()).date();
        let last = to.map(|text| Edge::read(text).ok_or(unclear("to", EDGE))).transpose()?;
        let last = last.unwrap_or(Edge::Day(today));
        let end = match last {
            Edge::Day(day) => day.tomorrow().ok().and_then(|next| begin(next, &zone)),
            Edge::Moment(at) => Some(at),
        };
        let end = end.ok_or(unclear("to", "must be a day that has a next"))?;
        let first = match from {
            Some(text) => Edge::read(text).ok_or(unclear("from", EDGE))?,
            None => {
                let last = match last {
                    Edge::Day(day) => day,
                    Edge::Moment(at) => date_of(at.saturating_sub(1), &zone).ok_or(unclear("to", EDGE))?,
                };
                let span = jiff::Span::new().days(USUAL_DAYS - 1);
                Edge::Day(last.checked_sub(span).map_err(|_| unclear("to", EDGE))?)
            }
        };
        let (start, first) = match first {
            Edge::Day(day) => (begin(day, &zone), Some(day)),
            Edge::Moment(at) => (Some(at), date_of(at, &zone)),
        };
        let (Some(start), Some(first)) = (start.filter(|start| *start >= 0), first) else {
            return Err(unclear("from", "must not be before 1970"));
        };
        if end <= start {
            return Err(unclear("to", "must not be before `from`"));
        }
        let mut days = vec![(start, first)];
        let mut next = first.tomorrow().ok();
        while let Some((day, at)) = next.and_then(|day| Some((day, begin(day, &zone)?))).filter(|(_, at)| *at < end) {
            if days.len() == MOST_DAYS {
                return Err(unclear("from", "must be at most 366 days before `to`"));
            }
            days.push((at, day));
            next = day.tomorrow().ok();
        }
        // Zones were less even once, and may be again.
        if days.iter().any(|(at, _)| at % QUARTER != 0) || end % QUARTER != 0 {
            return Err(unclear("tz", "must be a zone whose days begin on a quarter of an hour"));
        }
        Ok(Self { zone: zone.iana_name().unwrap_or("UTC").to_owned(), days, end })
    }

    /// The zone's name.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// When it begins, and when it is over, in microseconds.
    pub fn bounds(&self) -> (i64, i64) {
        (self.days.first().map_or(0, |(at, _)| *at), self.end)
    }

    /// Whether whole days in UTC make it up: all of it or, if it is to be told by `day`, each of its days.
    pub fn is_of_utc_days(&self, by_day: bool) -> bool {
        let (start, end) = self.bounds();
        let days = self.days.iter().map(|(at, _)| *at).filter(|_| by_day);
        days.chain([start, end]).all(|at| at % DAY == 0)
    }

    /// The day in which a moment of it lies.
    pub fn day(&self, at: i64) -> Option<Date> {
        let after = self.days.partition_point(|(begin, _)| *begin <= at);
        self.days.get(after.checked_sub(1)?).map(|(_, day)| *day)
    }
}

const EDGE: &str =
    "must be a day, such as 2026-01-31, or a moment on a quarter of an hour, such as 2026-01-31T12:15:00Z";

/// Where a period begins or ends.
#[derive(Clone, Copy)]
enum Edge {
    Day(Date),
    Moment(i64),
}

impl Edge {
    fn read(text: &str) -> Option<Self> {
        // jiff reads more than these two.
        if text.len() == 10 {
            return text.parse().ok().map(Self::Day);
        }
        let at: jiff::Timestamp = text.parse().ok()?;
        let micros = at.as_microsecond();
        (at.subsec_nanosecond() == 0 && micros % QUARTER == 0).then_some(Self::Moment(micros))
    }
}

fn moment(at: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(at.as_micros()).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// When a day begins there: not always at midnight.
fn begin(day: Date, zone: &TimeZone) -> Option<i64> {
    let midnight = day.to_zoned(zone.clone()).ok()?;
    Some(midnight.start_of_day().ok()?.timestamp().as_microsecond())
}

fn date_of(at: i64, zone: &TimeZone) -> Option<Date> {
    Some(jiff::Timestamp::from_microsecond(at).ok()?.to_zoned(zone.clone()).date())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        serde_json::from_str("\"2026-11-28T23:30:00Z\"").unwrap()
    }

    fn read(from: &str, to: &str, zone: &str) -> Result<Period, &'static str> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (from, to, zone) = (given(from), given(to), given(zone));
        Period::read(from.as_deref(), to.as_deref(), zone.as_deref(), now()).map_err(|unclear| unclear.field)
    }

    fn bounds(period: &Period) -> (String, String) {
        let (start, end) = period.bounds();
        let text = |at| jiff::Timestamp::from_microsecond(at).unwrap().to_string();
        (text(start), text(end))
    }

    #[test]
    fn without_a_word_it_is_thirty_days_with_today() {
        let utc = read("", "", "").unwrap();
        assert_eq!(bounds(&utc), ("2026-10-30T00:00:00Z".to_owned(), "2026-11-29T00:00:00Z".to_owned()));
        assert!(utc.is_of_utc_days(true) && utc.zone() == "UTC");
        let there = read("", "", "Asia/Tokyo").unwrap();
        assert_eq!(bounds(&there).1, "2026-11-29T15:00:00Z", "it is tomorrow already");
        assert!(!there.is_of_utc_days(false));
    }

    #[test]
    fn days_are_those_of_the_zone() {
        // An hour was skipped on the 29th of March.
        let berlin = read("2026-03-28", "2026-03-30", "europe/berlin").unwrap();
        assert_eq!(berlin.zone(), "Europe/Berlin");
        assert_eq!(bounds(&berlin), ("2026-03-27T23:00:00Z".to_owned(), "2026-03-30T22:00:00Z".to_owned()));
        let day =
            |text: &str| berlin.day(text.parse::<jiff::Timestamp>().unwrap().as_microsecond()).unwrap().to_string();
        assert_eq!(day("2026-03-28T22:45:00Z"), "2026-03-28");
        assert_eq!(day("2026-03-28T23:00:00Z"), "2026-03-29");
        assert_eq!(day("2026-03-29T22:00:00Z"), "2026-03-30");
        // A quarter of an hour beside the half, and a day that begins at one.
        assert_eq!(bounds(&read("2026-01-01", "2026-01-01", "Asia/Kathmandu").unwrap()).0, "2025-12-31T18:15:00Z");
        assert_eq!(bounds(&read("2026-04-24", "2026-04-24", "Africa/Cairo").unwrap()).0, "2026-04-23T22:00:00Z");
    }

    #[test]
    fn moments_lie_on_quarters_of_an_hour() {
        let period = read("2026-01-01T12:15:00Z", "2026-01-02T14:00:00+02:00", "").unwrap();
        assert_eq!(bounds(&period), ("2026-01-01T12:15:00Z".to_owned(), "2026-01-02T12:00:00Z".to_owned()));
        assert!(!period.is_of_utc_days(false));
        assert!(read("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "").unwrap().is_of_utc_days(true));
        for (from, to, field) in [
            ("2026-01-01T12:16:00Z", "", "from"),
            ("", "2026-01-01T12:15:00.5Z", "to"),
            ("yesterday", "", "from"),
            ("2026-02-30", "", "from"),
            ("2026-01-01T00:00:00", "", "from"),
            ("1969-12-31", "1970-01-02", "from"),
            ("", "9999-12-31", "to"),
            ("2026-11-29", "2026-11-28", "to"),
            ("2026-11-28T00:00:00Z", "2026-11-28T00:00:00Z", "to"),
            ("2025-11-27", "2026-11-28", "from"),
        ] {
            assert_eq!(read(from, to, "").map(|period| bounds(&period)), Err(field), "{from} to {to}");
        }
        assert!(read("2025-11-28", "2026-11-28", "").is_ok());
        for zone in ["Mars", "../UTC", "Europe", "+02:00", "Europe/Berlin\0"] {
            assert_eq!(read("", "", zone).map(|period| bounds(&period)), Err("tz"), "{zone}");
        }
    }
}
