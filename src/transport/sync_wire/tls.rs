//! A connection to a broker, plain or encrypted: the one place of this producer that asks for the feature `tls`.

// Without the feature nothing is ever encrypted: `transport::choose` has said so by then.
#[cfg_attr(feature = "tls", path = "tls/session.rs")]
#[cfg_attr(not(feature = "tls"), path = "tls/absent.rs")]
mod session;

use std::fmt;
use std::io::{self, IoSlice, Read, Write};

use mio::net::TcpStream;

use self::session::{Session, Setup};
use crate::config::Tls;
use crate::error::LoggerConfigError;

/// Makes streams; certificates and keys are read once, here.
pub(super) struct Connector {
    setup: Option<Setup>,
}

impl Connector {
    /// # Errors
    ///
    /// Names the option `tls`, and the file that cannot be used.
    pub(super) fn new(tls: Option<&Tls>) -> Result<Connector, LoggerConfigError> {
        Ok(Connector { setup: tls.map(Setup::new).transpose()? })
    }

    /// A stream over a connection that is up. `host` is what the broker was addressed by: a name or
    /// an IP address, in brackets or not, which its certificate must have.
    pub(super) fn stream(&self, tcp: TcpStream, host: &str) -> Result<Stream, TlsError> {
        let session = self.setup.as_ref().map(|setup| setup.session(host)).transpose()?;
        Ok(Stream { tcp, session })
    }
}

/// A non-blocking connection. Where nothing can be done now, each method says `WouldBlock`.
pub(super) struct Stream {
    tcp: TcpStream,
    session: Option<Session>,
}

/// An end without the peer's word is an end all the same, as on a plain connection: every answer has its length.
impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.session {
            None => self.tcp.read(buffer),
            Some(session) => session.read(&mut self.tcp, buffer),
        }
    }
}

/// What was taken is encrypted, and may wait here: [`flush`](Write::flush) sends it on.
impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.session {
            None => self.tcp.write_vectored(pieces),
            Some(session) => session.write_vectored(&mut self.tcp, pieces),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.session {
            None => Ok(()),
            Some(session) => session.flush(&mut self.tcp),
        }
    }
}

/// Why a connection could not be encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TlsError {
    words: String,
    lasting: bool,
}

impl TlsError {
    /// The one that an error of a [`Stream`] is about.
    pub(super) fn of(error: &io::Error) -> Option<&TlsError> {
        error.get_ref()?.downcast_ref()
    }

    /// Whether another attempt will say the same, until a certificate or an option is another: a certificate that is
    /// not trusted, has another name or is over, or a peer that speaks something else.
    pub(super) fn is_lasting(&self) -> bool {
        self.lasting
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for TlsError {}

#[cfg(all(test, feature = "tls"))]
#[path = "tls/tests.rs"]
mod tests;
