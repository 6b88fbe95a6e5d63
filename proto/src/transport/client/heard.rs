//! A stream of which the first bytes were read already, to see that there are any.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// Bytes read ahead: a frame header of HTTP/2.
const AHEAD_BYTES: usize = 9;

#[derive(Debug)]
pub(super) struct Heard<S> {
    stream: S,
    ahead: [u8; AHEAD_BYTES],
    /// What of `ahead` was read and not yet taken.
    left: std::ops::Range<usize>,
}

impl<S: AsyncRead + Unpin> Heard<S> {
    /// Waits for the other side's first bytes. The caller bounds the time.
    pub(super) async fn wait(mut stream: S) -> io::Result<Self> {
        let mut ahead = [0; AHEAD_BYTES];
        let length = stream.read(&mut ahead).await?;
        if length == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the other side closed the connection without a word",
            ));
        }
        Ok(Self {
            stream,
            ahead,
            left: 0..length,
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let end = self.left.end.min(self.left.start + buf.remaining());
        buf.put_slice(&self.ahead[self.left.start..end]);
        self.left.start = end;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
