//! As much HTTP/1.1 as an engine needs.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chimera_domain::units::MonoNs;
use chimera_runtime::clock::mono;

/// Read timeout: how often an idle connection looks whether the engine was stopped.
const POLL: Duration = Duration::from_millis(50);
/// Largest request accepted.
const REQUEST_CAP: usize = 64 << 20;

/// A request, whole.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) received: MonoNs,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}

/// One connection of a client.
pub(super) struct Connection {
    stream: Arc<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) fn new(stream: Arc<TcpStream>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(POLL))?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(64 << 10),
        })
    }

    /// The next request; `None` if the client closed or the engine was stopped.
    pub(super) fn next(&mut self, stop: &AtomicBool) -> io::Result<Option<Request>> {
        loop {
            if let Some((head, length)) = parse_head(&self.buffer)? {
                let whole = head.length.saturating_add(length);
                if whole > REQUEST_CAP {
                    return Err(io::Error::other("the request is too large"));
                }
                if self.buffer.len() >= whole {
                    let received = mono();
                    let rest = self.buffer.split_off(whole);
                    let mut message = std::mem::replace(&mut self.buffer, rest);
                    let body = message.split_off(head.length);
                    let Head {
                        method,
                        path,
                        headers,
                        ..
                    } = head;
                    return Ok(Some(Request {
                        method,
                        path,
                        headers,
                        body,
                        received,
                    }));
                }
            }
            if !self.fill(stop)? {
                return Ok(None);
            }
        }
    }

    /// Reads more; false at the end.
    fn fill(&mut self, stop: &AtomicBool) -> io::Result<bool> {
        let mut part = [0_u8; 16 << 10];
        loop {
            match (&*self.stream).read(&mut part) {
                Ok(n) => {
                    self.buffer
                        .extend_from_slice(part.get(..n).unwrap_or_default());
                    return Ok(n > 0);
                }
                Err(e) if waits(&e) => {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(false);
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Waits until the client closes or the engine is stopped.
    pub(super) fn hang(&mut self, stop: &AtomicBool) {
        while matches!(self.fill(stop), Ok(true)) {}
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self.stream).write_all(bytes)
    }

    pub(super) fn json(&mut self, status: u16, body: &str) -> io::Result<()> {
        let reason = match status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            _ => "Status",
        };
        let message = format!(
            "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.write(message.as_bytes())
    }

    /// Closes with a reset, so that the client sees a broken connection.
    pub(super) fn reset(self) -> io::Result<()> {
        rustix::net::sockopt::set_socket_linger(&*self.stream, Some(Duration::ZERO))?;
        Ok(())
    }

    /// Closes in order.
    pub(super) fn finish(self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

/// Appends `body` as one chunk.
pub(super) fn chunk(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
}

/// Ends a chunked body.
pub(super) const END: &[u8] = b"0\r\n\r\n";

fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

struct Head {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    length: usize,
}

/// The head and the length of the body, once the head is whole.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut fields);
    let length = match parsed.parse(bytes).map_err(io::Error::other)? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(length) => length,
    };
    let headers: Vec<(String, String)> = parsed
        .headers
        .iter()
        .map(|h| {
            (
                h.name.to_ascii_lowercase(),
                String::from_utf8_lossy(h.value).into_owned(),
            )
        })
        .collect();
    let body = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(Ok(0), |(_, value)| value.parse::<usize>())
        .map_err(io::Error::other)?;
    let head = Head {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: parsed.path.unwrap_or_default().to_owned(),
        headers,
        length,
    };
    Ok(Some((head, body)))
}
