//! What every bench prints: a table for people, and as its last line one JSON object.

use serde_json::{Map, Value, json};

/// Figures of one bench.
#[derive(Debug)]
pub(crate) struct Figures {
    bench: &'static str,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    median: f64,
    least: f64,
    most: f64,
    unit: &'static str,
    limit: Option<f64>,
}

impl Figures {
    /// Of the bench of this name.
    pub(crate) fn new(bench: &'static str) -> Self {
        Self {
            bench,
            rows: Vec::new(),
        }
    }

    /// Adds the median of several runs; `limit` is what it must stay below.
    pub(crate) fn add(
        &mut self,
        name: impl Into<String>,
        mut runs: Vec<f64>,
        unit: &'static str,
        limit: Option<f64>,
    ) {
        assert!(!runs.is_empty(), "a figure needs a run");
        runs.sort_by(f64::total_cmp);
        self.rows.push(Row {
            name: name.into(),
            median: runs[runs.len() / 2],
            least: runs[0],
            most: runs[runs.len() - 1],
            unit,
            limit,
        });
    }

    /// Prints everything; ends the process with 1 if a limit was passed.
    #[allow(dead_code, reason = "not every bench judges")]
    pub(crate) fn print(&self) {
        let passed_limit = self.show();
        // Limits are for what is shipped.
        if !cfg!(debug_assertions) && passed_limit {
            std::process::exit(1);
        }
    }

    /// Prints everything. Says whether a limit was passed.
    pub(crate) fn show(&self) -> bool {
        let passed_limit = |row: &Row| row.limit.is_some_and(|limit| row.median >= limit);
        let wide = self
            .rows
            .iter()
            .map(|row| row.name.chars().count())
            .max()
            .unwrap_or(0);
        println!("{}: medians, on {}", self.bench, machine());
        for row in &self.rows {
            let limit = row
                .limit
                .map_or(String::new(), |limit| format!("  (below {limit})"));
            let mark = if passed_limit(row) { "  TOO MUCH" } else { "" };
            println!(
                "  {:<wide$}  {:>10.2} {:<4} {:>10.2} to {:.2}{limit}{mark}",
                row.name, row.median, row.unit, row.least, row.most
            );
        }
        let mut figures = Map::new();
        for row in &self.rows {
            let figure = json!({
                "median": row.median, "least": row.least, "most": row.most,
                "unit": row.unit, "limit": row.limit,
            });
            figures.insert(row.name.clone(), figure);
        }
        let all =
            json!({ "bench": self.bench, "machine": machine(), "figures": Value::Object(figures) });
        println!("{all}");
        self.rows.iter().any(passed_limit)
    }
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = model.trim_start_matches([' ', '\t', ':']);
    let profile = if cfg!(debug_assertions) {
        "unoptimised"
    } else {
        "optimised"
    };
    format!("{cores} cores, {model}, {profile}")
}
