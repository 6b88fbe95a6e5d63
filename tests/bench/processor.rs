//! What `/proc` says of a process and its time.

use std::fs;

/// Clock ticks a second in `/proc`: `USER_HZ`, 100 on every architecture that we build for.
pub(crate) const TICKS: f64 = 100.0;

/// A field of `/proc/PID/stat`, numbered as in proc_pid_stat(5).
pub(crate) fn stat(pid: i32, field: usize) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The second field may hold blanks; it ends with the last parenthesis.
    let rest = text.rsplit(')').next().unwrap();
    rest.split_whitespace()
        .nth(field - 3)
        .unwrap()
        .parse()
        .unwrap()
}

/// Processor time that a process has used, of its own and the kernel's.
pub(crate) fn ticks(pid: i32) -> f64 {
    stat(pid, 14) + stat(pid, 15)
}
