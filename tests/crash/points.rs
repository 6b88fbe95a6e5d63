//! Which places there are, and which of them this run tries.

use std::{
    collections::VecDeque,
    fmt,
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

/// At normal depth one death of so many is tried, another part each day, so that over so many days
/// each is.
const PARTS: u64 = 5;

/// Names the part, in place of the day: a number.
const PART: &str = "CALVIN_CRASH_PART";

/// On which side of what is done there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
}

/// A place to die at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) number: u64,
    pub(crate) side: Side,
    /// What was done there in the dry run.
    pub(crate) what: String,
}

impl Point {
    /// As the coordinator is told it.
    pub(crate) fn order(&self) -> String {
        match self.side {
            Side::Before => format!("{} before", self.number),
            Side::After => format!("{} after", self.number),
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.order(), self.what)
    }
}

/// The places that are still to be tried.
#[derive(Debug)]
pub(crate) struct Points {
    left: Mutex<VecDeque<Point>>,
    count: usize,
}

impl Points {
    /// Both sides of every place that a dry run passed.
    pub(crate) fn of(passed: &[String]) -> Vec<Point> {
        let mut points = Vec::new();
        for line in passed {
            let (number, what) = line.split_once(' ').expect("a line begins with its number");
            let number = number.parse().expect("a line begins with its number");
            for side in [Side::Before, Side::After] {
                let what = what.to_owned();
                points.push(Point { number, side, what });
            }
        }
        points
    }

    pub(crate) fn next(&self) -> Option<Point> {
        let mut left = self.left.lock().expect("nobody panics with it");
        left.pop_front()
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }
}

/// What this run tries, and that in words.
pub(crate) fn chosen(all: Vec<Point>) -> (String, Points) {
    let (share, points) = if std::env::var_os("CALVIN_TESTS_DEEP").is_some() {
        ("all".to_owned(), all)
    } else {
        let part = part();
        let places = (0_u64..).zip(all);
        let ours = places.filter(|(place, _)| place % PARTS == part);
        let share = format!("every fifth, part {part} ({PART}={part} tries the same again)");
        (share, ours.map(|(_, point)| point).collect())
    };
    let points = Points {
        count: points.len(),
        left: Mutex::new(points.into()),
    };
    (share, points)
}

fn part() -> u64 {
    if let Some(part) = std::env::var_os(PART) {
        let part = part.to_str().and_then(|part| part.parse::<u64>().ok());
        return part.expect("CALVIN_CRASH_PART is a number") % PARTS;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let days = now.expect("it is later than 1970").as_secs() / (24 * 60 * 60);
    days % PARTS
}
