//! Nothing is exported: this package is its test suites (`house`, `demo`, `e2e`, `consul`) and its benches. They use the other
//! crates as development dependencies only, so that nothing of theirs can get into what is shipped.
