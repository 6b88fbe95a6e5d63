//! How long a clean release build takes, and how large the binaries are.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

mod report;

use std::{fs, path::Path, process::Command, time::Instant};

use self::report::Figures;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = tempfile::tempdir().expect("a directory");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let start = Instant::now();
    let status = Command::new(cargo)
        .args(["build", "--release", "--locked"])
        .current_dir(root)
        .env("CARGO_TARGET_DIR", target.path())
        .status()
        .expect("cargo runs");
    let took = start.elapsed();
    assert!(status.success(), "the build failed");
    let mut figures = Figures::new("build");
    figures.add("clean release build", vec![took.as_secs_f64()], "s", None);
    for binary in ["calvin", "calvin-agent"] {
        let file = fs::metadata(target.path().join("release").join(binary)).expect("it was built");
        let bytes = u32::try_from(file.len()).expect("below 4 GB");
        figures.add(binary, vec![f64::from(bytes) / 1_048_576.0], "MB", None);
    }
    figures.print();
}
