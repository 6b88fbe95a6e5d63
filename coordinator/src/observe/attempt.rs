//! One look at one port: connect, or `GET` a path.

use std::{io, time::Duration};

use calvin_engine::ports::ProbeTarget;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Longest time for one look, whatever the image's check allows. After the longest pause, 2 s, a
/// target that answers has its result renewed within 5 s, and a result counts for 6 s. One that went
/// silent fails at its second look in a row, at most 10 s after it last passed (two pauses and two
/// looks); between the 6 s and then its probe says nothing. It also bounds how long a network that
/// went silent holds up the looks at everybody else.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(3);
/// Bytes read of an answer: `HTTP/1.1 200` takes 12.
const STATUS_BYTES: usize = 12;

/// What one look says of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It answers as it should.
    Passing,
    /// It does not.
    Failing,
    /// Nothing: the look could not be made, for a reason of our own.
    Unknown,
}

impl Attempt {
    /// What looks at several ports of one instance say together.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Failing, _) | (_, Self::Failing) => Self::Failing,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Passing, Self::Passing) => Self::Passing,
        }
    }
}

/// Looks at a target.
pub(super) async fn attempt(target: &ProbeTarget) -> Attempt {
    match timeout(target.timeout.min(TIMEOUT_MAX), look(target)).await {
        Ok(Ok(true)) => Attempt::Passing,
        Ok(Ok(false)) | Err(_) => Attempt::Failing,
        Ok(Err(error)) if is_the_targets(&error) => Attempt::Failing,
        Ok(Err(error)) => {
            tracing::debug!(%error, address = %target.address, "could not look");
            Attempt::Unknown
        }
    }
}

/// Whether an error tells of the target. Every other is a shortage of this process or this machine
/// (no descriptor, port, buffer or route left), and says nothing of a workload: a coordinator that
/// is short of descriptors must not take all of its fleets for failing.
fn is_the_targets(error: &io::Error) -> bool {
    [
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::UnexpectedEof,
        io::ErrorKind::TimedOut,
        io::ErrorKind::HostUnreachable,
    ]
    .contains(&error.kind())
}

async fn look(target: &ProbeTarget) -> io::Result<bool> {
    let mut stream = TcpStream::connect(target.address).await?;
    let Some(path) = &target.http_path else {
        return Ok(true);
    };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: calvin\r\nConnection: close\r\n\r\n",
        target.address
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; STATUS_BYTES];
    stream.read_exact(&mut answer).await?;
    Ok(is_success(&answer))
}

/// Whether a status line is of the 200s (RFC 9112 section 4).
fn is_success(answer: &[u8; STATUS_BYTES]) -> bool {
    answer.starts_with(b"HTTP/1.")
        && answer[8] == b' '
        && answer[9] == b'2'
        && answer[10..].iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_shortage_of_our_own_says_nothing_of_the_target() {
        let ours = [
            Errno::MFILE,
            Errno::NFILE,
            Errno::ADDRNOTAVAIL,
            Errno::NOBUFS,
            Errno::NOMEM,
            Errno::NETUNREACH,
            Errno::PERM,
        ];
        for errno in ours {
            assert!(!is_the_targets(&errno.into()), "{errno}");
        }
        let theirs = [
            Errno::CONNREFUSED,
            Errno::CONNRESET,
            Errno::TIMEDOUT,
            Errno::HOSTUNREACH,
            Errno::PIPE,
        ];
        for errno in theirs {
            assert!(is_the_targets(&errno.into()), "{errno}");
        }
    }

    #[tokio::test]
    async fn a_look_that_cannot_be_made_is_unknown() {
        // A link-local address without its link: no kernel finds a way to it.
        let target = ProbeTarget {
            address: "[fe80::1]:80".parse().unwrap(),
            http_path: None,
            timeout: TIMEOUT_MAX,
        };
        assert_eq!(attempt(&target).await, Attempt::Unknown);
    }
}
