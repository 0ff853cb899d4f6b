//! Encryption by rustls, with ring.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, RootCertStore};

use super::TlsError;
use crate::config::Tls;
use crate::error::LoggerConfigError;

/// How many sessions with brokers are kept to be resumed.
const RESUMED: usize = 64;

/// What all connections have in common.
pub(super) struct Setup {
    config: Arc<ClientConfig>,
}

impl Setup {
    pub(super) fn new(tls: &Tls) -> Result<Setup, LoggerConfigError> {
        let refuse = |problem: String| LoggerConfigError::new("tls", problem);
        // Not the process's default provider: that is the application's to choose.
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| refuse(format!("cannot be set up: {error}")))?
            .with_root_certificates(roots(tls)?);
        let mut config = match tls.read_client_certificate()? {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = certificates("the client certificate's file", &chain)?;
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| {
                    refuse("the client key's file holds no private key that can be used: it must be PEM, without a password".into())
                })?;
                builder.with_client_auth_cert(chain, key).map_err(|error| match error {
                    Error::InconsistentKeys(_) => refuse("the client key is not that of the client certificate".into()),
                    error => refuse(format!("the client certificate or its key cannot be used: {error}")),
                })?
            }
        };
        config.resumption = Resumption::in_memory_sessions(RESUMED);
        Ok(Setup { config: Arc::new(config) })
    }

    pub(super) fn session(&self, host: &str) -> Result<Session, TlsError> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| lasting(format!("{host:?} is no name that a certificate can have")))?;
        let connection = ClientConnection::new(Arc::clone(&self.config), name).map_err(|error| explain(&error))?;
        Ok(Session { connection })
    }
}

fn roots(tls: &Tls) -> Result<RootCertStore, LoggerConfigError> {
    let refuse = |problem: String| LoggerConfigError::new("tls", problem);
    let mut roots = RootCertStore::empty();
    if tls.trusts_the_system() {
        let found = rustls_native_certs::load_native_certs();
        // Among the system's there may be some that are too old to be read.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map_or(String::new(), |error| format!(" ({error})"));
            return Err(refuse(format!(
                "finds no certificates that this system trusts{why}: install them (ca-certificates), or give ca_file"
            )));
        }
        return Ok(roots);
    }
    for (role, pem) in [("the CA file", tls.read_ca_file()?), ("ca_pem", tls.ca_pem.clone())] {
        for certificate in pem.map_or(Ok(Vec::new()), |pem| certificates(role, &pem))? {
            roots.add(certificate).map_err(|_| refuse(format!("{role} holds a certificate that cannot be used")))?;
        }
    }
    Ok(roots)
}

/// All certificates of a text: at least one.
fn certificates(role: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, LoggerConfigError> {
    let refuse = |problem: &str| LoggerConfigError::new("tls", format!("{role} {problem}"));
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match all {
        Ok(all) if all.is_empty() => Err(refuse("holds no certificate in PEM")),
        Ok(all) => Ok(all),
        Err(_) => Err(refuse("is no proper PEM")),
    }
}

/// One encrypted connection.
pub(super) struct Session {
    connection: ClientConnection,
}

impl Session {
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    #[cfg(test)]
    pub(super) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    pub(super) fn handshake(&mut self, tcp: &mut TcpStream) -> io::Result<bool> {
        loop {
            // What is said last in the handshake must be on its way too.
            let sent = self.flush(tcp);
            if !self.is_handshaking() {
                return if would_block(&sent) { Ok(true) } else { sent.map(|()| true) };
            }
            // A peer that refuses us may have hung up already: why, is to be read.
            let gone = sent.err().filter(|error| error.kind() != io::ErrorKind::WouldBlock);
            match (self.receive(tcp), gone) {
                (Ok(0), _) => return Err(hung_up()),
                (Ok(_), None) => {}
                (Err(error), _) if TlsError::of(&error).is_some() => return Err(error),
                (_, Some(gone)) => return Err(gone),
                (Err(error), None) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                (Err(error), None) => return Err(error),
            }
        }
    }

    pub(super) fn read(&mut self, tcp: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_handshaking() && !self.handshake(tcp)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            if self.receive(tcp)? == 0 {
                return Ok(0);
            }
        }
    }

    pub(super) fn write_vectored(&mut self, tcp: &mut TcpStream, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_handshaking() && !self.handshake(tcp)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // What is encrypted already goes first; it bounds what can be taken.
        match self.flush(tcp) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        let taken = self.connection.writer().write_vectored(pieces)?;
        match self.flush(tcp) {
            // It has been taken all the same: the next call will hear of what is wrong.
            _ if taken > 0 => Ok(taken),
            Ok(()) if pieces.iter().all(|piece| piece.is_empty()) => Ok(0),
            Ok(()) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn flush(&mut self, tcp: &mut TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(tcp) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes what has come; how much that was. Nothing is the end of the connection.
    fn receive(&mut self, tcp: &mut TcpStream) -> io::Result<usize> {
        let received = loop {
            match self.connection.read_tls(tcp) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => break received?,
            }
        };
        if let Err(error) = self.connection.process_new_packets() {
            // The peer hears why, if it still listens.
            let _ = self.flush(tcp);
            return Err(io::Error::new(io::ErrorKind::InvalidData, explain(&error)));
        }
        Ok(received)
    }
}

fn would_block(result: &io::Result<()>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

fn hung_up() -> io::Error {
    let words = "the broker hung up during the TLS handshake: this happens where its listener is not encrypted";
    io::Error::new(io::ErrorKind::UnexpectedEof, words)
}

fn lasting(words: impl Into<String>) -> TlsError {
    TlsError { words: words.into(), lasting: true }
}

/// An error in words that say what to look at.
fn explain(error: &Error) -> TlsError {
    match error {
        Error::InvalidCertificate(problem) => {
            lasting(format!("the broker's certificate is refused: {}", refusal(problem)))
        }
        Error::NoCertificatesPresented => lasting("the broker has no certificate"),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::InvalidMessage(_) => lasting("the broker does not speak TLS: its listener may not be encrypted"),
        Error::PeerIncompatible(_) => lasting(format!("the broker speaks TLS in no way that we do: {error}")),
        error => TlsError { words: format!("TLS failed: {error}"), lasting: false },
    }
}

fn refusal(problem: &CertificateError) -> String {
    match problem {
        // A signature that is wrong is that of another CA of the same name, as a rule.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it comes from no CA that is trusted: option `tls`, ca_file, says which are".into()
        }
        CertificateError::NotValidForName => "it has not the broker's name".into(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names = if presented.is_empty() { "no name".into() } else { presented.join(", ") };
            format!("it has not the name {:?}, by which the broker is addressed, but {names}", expected.to_str())
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet".into(),
        problem => format!("{problem}"),
    }
}

fn of_alert(alert: AlertDescription) -> TlsError {
    let words = match alert {
        AlertDescription::CertificateRequired => "the broker wants a client certificate: option `tls` takes one",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::DecryptError
        | AlertDescription::AccessDenied => "the broker refuses the client certificate, or misses one",
        AlertDescription::HandshakeFailure => {
            "the broker ended the TLS handshake: it may want a client certificate, or other ciphers"
        }
        AlertDescription::ProtocolVersion => "the broker speaks neither TLS 1.2 nor 1.3",
        alert => return TlsError { words: format!("the broker ended TLS: {alert:?}"), lasting: false },
    };
    lasting(format!("{words} ({alert:?})"))
}
