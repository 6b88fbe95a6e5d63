//! One look at one port: connect, or `GET` a path.

use std::time::Duration;

use calvin_engine::ports::ProbeTarget;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Time for one look, all in all. Below the interval, so that looks do not pile up.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(900);
/// Bytes read of an answer: `HTTP/1.1 200` takes 12.
const STATUS_BYTES: usize = 12;

/// Whether the target answers as it should.
pub(super) async fn passes(target: &ProbeTarget) -> bool {
    match timeout(ATTEMPT_TIMEOUT, look(target)).await {
        Ok(Ok(passes)) => passes,
        Ok(Err(_)) | Err(_) => false,
    }
}

async fn look(target: &ProbeTarget) -> std::io::Result<bool> {
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
