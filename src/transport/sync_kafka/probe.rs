//! Whether a broker is there and speaks the `kafka` crate's protocol, found out within a timeout of ours.
//!
//! That crate connects without a timeout, and on Kafka 4 its every send fails in an end of file: Kafka 4.0 removed
//! the versions it speaks (KIP-896). Produce version 0 is listed still (KAFKA-18659); what tells is that Fetch
//! begins at version 4 there, and at 0 before.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::problem::Problem;
use crate::error::StartupErrorKind;

const FETCH: i16 = 1;
const API_VERSIONS: i16 = 18;

/// An answer lists some ninety APIs in six bytes each; a frame beyond this is not one.
const LARGEST_ANSWER: usize = 64 * 1024;

/// Connects, asks for the API versions, and hangs up.
pub(super) fn probe(server: &str, client_id: &str, timeout: Duration) -> Result<(), Problem> {
    let stream = connect(server, timeout).map_err(|error| Problem::new(format!("{server}: {error}")))?;
    match fetch_begins_at(stream, client_id, Instant::now() + timeout) {
        Ok(Some(0) | None) => Ok(()),
        Ok(Some(version)) => Err(Problem::of_kind(
            StartupErrorKind::UnsupportedBroker,
            format!(
                "{server} is Kafka 4.0 or newer (Fetch begins at version {version}), which no longer speaks the \
                 protocol of the kafka crate (KIP-896): use SyncProducer::Auto or Wire, or the feature `async`"
            ),
        )),
        Err(error) => {
            Err(Problem::new(format!("{server} accepted the connection and did not answer as Kafka does: {error}")))
        }
    }
}

fn connect(server: &str, timeout: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + timeout;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in server.to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The first version of Fetch that the broker offers; none where it does not list Fetch, or hangs up on the
/// question as brokers before 0.10 do.
fn fetch_begins_at(mut stream: TcpStream, client_id: &str, deadline: Instant) -> io::Result<Option<i16>> {
    // Length, API key, API version, correlation id, client id.
    let client_id = client_id.as_bytes();
    let mut request = Vec::new();
    request.extend_from_slice(&(2 + 2 + 4 + 2 + client_id.len() as i32).to_be_bytes());
    request.extend_from_slice(&API_VERSIONS.to_be_bytes());
    request.extend_from_slice(&0i16.to_be_bytes());
    request.extend_from_slice(&1i32.to_be_bytes());
    request.extend_from_slice(&(client_id.len() as i16).to_be_bytes());
    request.extend_from_slice(client_id);
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(&request)?;

    let mut length = [0; 4];
    match read_by(&mut stream, &mut length, deadline) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > LARGEST_ANSWER {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer's length is none of Kafka's"));
    }
    let mut answer = vec![0; length];
    read_by(&mut stream, &mut answer, deadline)?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is cut short"))
}

/// Reads `ApiVersionsResponse` version 0: correlation id, error code, and (key, first, last) for each API.
fn parse(answer: &[u8]) -> Option<Option<i16>> {
    let (_correlation_id_and_error, rest) = answer.split_at_checked(6)?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    for _ in 0..i32::from_be_bytes(*count) {
        let ([k0, k1, f0, f1, _, _], tail) = rest.split_first_chunk::<6>()?;
        if i16::from_be_bytes([*k0, *k1]) == FETCH {
            return Some(Some(i16::from_be_bytes([*f0, *f1])));
        }
        rest = tail;
    }
    Some(None)
}

/// Reads all of `buffer`, however slowly it comes, until the deadline.
fn read_by(stream: &mut TcpStream, buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A timeout of the socket has this name on Unix.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn answer(apis: &[(i16, i16, i16)]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 1, 0, 0];
        bytes.extend((apis.len() as i32).to_be_bytes());
        for (key, first, last) in apis {
            bytes.extend([key.to_be_bytes(), first.to_be_bytes(), last.to_be_bytes()].concat());
        }
        bytes
    }

    /// A broker that reads the question and sends `frame`.
    fn broker(frame: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 23];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(&frame).unwrap();
            // Holds the connection until the peer hangs up.
            let _ = stream.read(&mut [0]);
        });
        address
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        [&(body.len() as i32).to_be_bytes()[..], body].concat()
    }

    const SHORT: Duration = Duration::from_millis(300);

    #[test]
    fn a_broker_before_4_passes_and_one_from_4_on_is_named_with_the_reason() {
        probe(&broker(framed(&answer(&[(0, 0, 11), (1, 0, 17)]))), "kafka_log", SHORT).unwrap();
        let problem = probe(&broker(framed(&answer(&[(0, 0, 13), (1, 4, 18)]))), "kafka_log", SHORT).unwrap_err();
        assert_eq!(problem.kind, Some(StartupErrorKind::UnsupportedBroker));
        assert!(problem.words.contains("KIP-896") && problem.words.contains("async"), "{}", problem.words);
    }

    #[test]
    fn a_silent_peer_and_a_hostile_one_are_errors_in_time() {
        let begun = Instant::now();
        let hostile = [
            vec![],
            vec![0, 0],
            i32::MAX.to_be_bytes().to_vec(),
            (-1i32).to_be_bytes().to_vec(),
            framed(&answer(&[(0, 0, 1)])[..8]),
            framed(&[0, 0, 0, 1, 0, 0, 127, 255, 255, 255]),
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        ];
        let count = hostile.len() as u32;
        for frame in hostile {
            let problem = probe(&broker(frame.clone()), "kafka_log", SHORT).expect_err(&format!("{frame:?}"));
            assert_eq!(problem.kind, None, "{frame:?}");
        }
        assert!(begun.elapsed() < 10 * count * SHORT);
    }

    #[test]
    fn no_listener_and_no_name_are_errors_that_name_the_server() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        assert!(probe(&free, "kafka_log", SHORT).unwrap_err().words.contains(&free));
        assert!(probe("no-such-host.invalid:9092", "kafka_log", SHORT).unwrap_err().words.contains("no-such-host"));
    }
}
