use std::net::{TcpListener, TcpStream as StdTcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::*;

/// What only a test asks of a stream: elsewhere reading and writing begin the handshake.
impl Stream {
    /// To register it, and for its options. What goes through it must go through the stream.
    fn tcp(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }

    /// Goes on with the handshake; whether it is over. Call it for each readiness until then.
    fn handshake(&mut self) -> io::Result<bool> {
        match &mut self.session {
            None => Ok(true),
            Some(session) => session.handshake(&mut self.tcp),
        }
    }

    fn is_ready(&self) -> bool {
        self.session.as_ref().is_none_or(|session| !session.is_handshaking())
    }

    /// Whether something waits here for the connection to be writable: [`flush`](Write::flush) it then.
    fn wants_write(&self) -> bool {
        self.session.as_ref().is_some_and(Session::wants_write)
    }
}

const LONG: Duration = Duration::from_secs(30);

/// A CA of a test's own.
struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
struct Identity {
    certificate: String,
    key: String,
}

impl Ca {
    fn new() -> Ca {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Ca::named(&format!("CA {}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    fn named(name: &str) -> Ca {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Ca { pem, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Identity { certificate: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    fn tls(&self) -> Tls {
        Tls::default().ca_pem(&*self.pem)
    }
}

/// A server that sends back what it gets, for one connection.
struct Echo {
    port: u16,
    thread: JoinHandle<io::Result<()>>,
}

impl Echo {
    fn config(identity: &Identity, clients: Option<&Ca>) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = match clients {
            None => builder.unwrap().with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.unwrap().with_client_cert_verifier(verifier)
            }
        };
        let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        Arc::new(builder.with_single_cert(chain, key).unwrap())
    }

    fn start(identity: &Identity, clients: Option<&Ca>) -> Echo {
        let config = Echo::config(identity, clients);
        Echo::serve(move |tcp| {
            let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
            let mut buffer = [0; 10_000];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    n => {
                        stream.write_all(&buffer[..n])?;
                        stream.flush()?;
                    }
                }
            }
        })
    }

    fn serve(serve: impl FnOnce(StdTcpStream) -> io::Result<()> + Send + 'static) -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = thread::spawn(move || {
            let (tcp, _) = listener.accept()?;
            tcp.set_read_timeout(Some(LONG))?;
            tcp.set_write_timeout(Some(LONG))?;
            serve(tcp)
        });
        Echo { port, thread }
    }
}

/// A client that waits for readiness, as the producer does.
struct Client {
    stream: Stream,
    poll: Poll,
    deadline: Instant,
}

impl Client {
    fn connect(tls: Option<&Tls>, host: &str, port: u16) -> Client {
        let tcp = StdTcpStream::connect(("127.0.0.1", port)).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let mut stream = Connector::new(tls).unwrap().stream(TcpStream::from_std(tcp), host).unwrap();
        let poll = Poll::new().unwrap();
        poll.registry().register(stream.tcp(), Token(0), Interest::READABLE | Interest::WRITABLE).unwrap();
        Client { stream, poll, deadline: Instant::now() + LONG }
    }

    /// Tries until it is neither too early nor over.
    fn until<T>(&mut self, mut attempt: impl FnMut(&mut Stream) -> io::Result<T>) -> io::Result<T> {
        loop {
            match attempt(&mut self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            let left = self.deadline.checked_duration_since(Instant::now()).expect("no end in time");
            self.poll.poll(&mut Events::with_capacity(4), Some(left)).unwrap();
        }
    }

    fn handshake(&mut self) -> io::Result<()> {
        self.until(|stream| match stream.handshake() {
            Ok(false) => Err(io::ErrorKind::WouldBlock.into()),
            other => other.map(drop),
        })
    }

    /// Sends and reads all of it back.
    fn echo(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut sent, mut back) = (0, Vec::new());
        let mut buffer = [0; 7_000];
        while back.len() < bytes.len() {
            self.until(|stream| {
                let mut moved = false;
                if sent < bytes.len() {
                    let rest = &bytes[sent..];
                    let (one, other) = rest.split_at(rest.len() / 2);
                    match stream.write_vectored(&[IoSlice::new(one), IoSlice::new(other)]) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        written => {
                            sent += written?;
                            moved = true;
                        }
                    }
                }
                if stream.wants_write() {
                    match stream.flush() {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        flushed => flushed?,
                    }
                }
                match stream.read(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => {
                        let read = read?;
                        if read == 0 {
                            return Err(io::ErrorKind::UnexpectedEof.into());
                        }
                        back.extend_from_slice(&buffer[..read]);
                        moved = true;
                    }
                }
                if moved { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
            })?;
        }
        assert!(back == bytes, "what comes back is what was sent");
        Ok(())
    }
}

/// How a connection to this certificate under this name is refused.
fn refusal(tls: &Tls, host: &str, identity: &Identity) -> TlsError {
    let server = Echo::start(identity, None);
    let error = Client::connect(Some(tls), host, server.port).handshake().unwrap_err();
    let heard = server.thread.join().unwrap().unwrap_err();
    assert!(heard.to_string().contains("alert") || heard.to_string().contains("Alert"), "it hears why: {heard}");
    TlsError::of(&error).unwrap_or_else(|| panic!("of TLS: {error}")).clone()
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("kafka_log-session-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_trusted_broker_by_its_name_gets_all_bytes_in_order() {
    let ca = Ca::new();
    let folder = Folder::new();
    let file = folder.file("ca.pem", &format!("{}{}", Ca::new().pem, ca.pem));
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 / 3) as u8).collect();
    for tls in [ca.tls(), Tls::default().ca_file(file), ca.tls().ca_pem(&*ca.pem)] {
        let server = Echo::start(&ca.issue("localhost", |_| {}), None);
        let mut client = Client::connect(Some(&tls), "localhost", server.port);
        assert!(!client.stream.is_ready());
        client.handshake().unwrap();
        assert!(client.stream.is_ready());
        client.echo(&bytes).unwrap();
        drop(client);
        let _ = server.thread.join().unwrap();
    }
}

#[test]
fn without_tls_bytes_go_as_they_are() {
    let server = Echo::serve(|mut tcp| io::copy(&mut tcp.try_clone()?, &mut tcp).map(drop));
    let mut client = Client::connect(None, "localhost", server.port);
    assert!(client.stream.is_ready() && !client.stream.wants_write());
    client.handshake().unwrap();
    client.echo(&vec![b'x'; 1_000_000]).unwrap();
    drop(client);
    server.thread.join().unwrap().unwrap();
}

#[test]
fn writing_and_reading_begin_with_the_handshake() {
    let ca = Ca::new();
    let server = Echo::start(&ca.issue("localhost", |_| {}), None);
    let mut client = Client::connect(Some(&ca.tls()), "localhost", server.port);
    client.echo(b"no handshake was asked for").unwrap();
}

#[test]
fn reading_alone_goes_through_the_handshake_too() {
    let ca = Ca::new();
    let config = Echo::config(&ca.issue("localhost", |_| {}), None);
    let server = Echo::serve(|tcp| {
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
        stream.write_all(b"hello")?;
        stream.flush()
    });
    let mut client = Client::connect(Some(&ca.tls()), "localhost", server.port);
    let mut buffer = [0; 10];
    let read = client.until(|stream| stream.read(&mut buffer)).unwrap();
    assert_eq!(&buffer[..read], b"hello");
    server.thread.join().unwrap().unwrap();
}

#[test]
fn addresses_are_names_of_certificates_too() {
    let ca = Ca::new();
    for (host, name) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("[::1]", "::1")] {
        let server = Echo::start(&ca.issue(name, |_| {}), None);
        Client::connect(Some(&ca.tls()), host, server.port).handshake().unwrap();
        let _ = server.thread.join().unwrap();
    }
    let error = refusal(&ca.tls(), "127.0.0.1", &ca.issue("localhost", |_| {}));
    assert!(error.is_lasting() && error.to_string().contains("127.0.0.1"), "{error}");
}

#[test]
fn a_broker_that_cannot_be_trusted_is_refused_with_the_reason() {
    let ca = Ca::named("the same");
    let good = ca.issue("localhost", |_| {});
    let expired = ca.issue("localhost", |params| params.not_after = date_time_ymd(2001, 1, 1));
    let early = ca.issue("localhost", |params| params.not_before = date_time_ymd(2999, 1, 1));
    for (error, words) in [
        (refusal(&Ca::new().tls(), "localhost", &good), vec!["no CA that is trusted", "`tls`"]),
        (refusal(&Ca::named("the same").tls(), "localhost", &good), vec!["no CA that is trusted", "`tls`"]),
        (refusal(&ca.tls(), "kafka-1", &good), vec!["\"kafka-1\"", "localhost"]),
        (refusal(&ca.tls(), "localhost", &expired), vec!["expired"]),
        (refusal(&ca.tls(), "localhost", &early), vec!["not valid yet"]),
    ] {
        let text = error.to_string();
        assert!(error.is_lasting() && words.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn the_systems_roots_do_not_trust_a_ca_of_a_tests_own() {
    // Where the system has none, the option says so.
    match Connector::new(Some(&Tls::default())) {
        Err(error) => assert!(error.option() == "tls" && error.to_string().contains("ca_file"), "{error}"),
        Ok(_) => {
            let error = refusal(&Tls::default(), "localhost", &Ca::new().issue("localhost", |_| {}));
            assert!(error.to_string().contains("no CA that is trusted"), "{error}");
        }
    }
}

#[test]
fn a_client_certificate_is_shown_to_who_asks_for_it() {
    let (ca, folder) = (Ca::named("the same"), Folder::new());
    let server = |clients: &Ca| Echo::start(&ca.issue("localhost", |_| {}), Some(clients));
    let app = ca.issue("app", |_| {});
    let (certificate, key) = (folder.file("app.pem", &app.certificate), folder.file("app.key", &app.key));
    let shown = ca.tls().client_certificate(certificate, key);

    let echo = server(&ca);
    Client::connect(Some(&shown), "localhost", echo.port).echo(b"let in").unwrap();

    // With TLS 1.3 the refusal comes with what is read first.
    let refused = [(ca.tls(), &ca), (shown.clone(), &Ca::new()), (shown.clone(), &Ca::named("the same"))];
    for (tls, clients) in refused {
        let echo = server(clients);
        let error = Client::connect(Some(&tls), "localhost", echo.port).echo(b"not let in").unwrap_err();
        let error = TlsError::of(&error).unwrap_or_else(|| panic!("of TLS: {error}"));
        assert!(error.is_lasting() && error.to_string().contains("client certificate"), "{error}");
        echo.thread.join().unwrap().unwrap_err();
    }
}

#[test]
fn a_peer_without_encryption_is_told_from_one_that_refuses() {
    let tls = Ca::new().tls();
    let server = Echo::serve(|mut tcp| {
        tcp.read_exact(&mut [0; 4])?;
        tcp.write_all(b"\0\0\0\x04what is this")
    });
    let error = Client::connect(Some(&tls), "localhost", server.port).handshake().unwrap_err();
    let error = TlsError::of(&error).expect("an answer that is not TLS");
    assert!(error.is_lasting() && error.to_string().contains("may not be encrypted"), "{error}");

    let server = Echo::serve(|mut tcp| {
        // All of it, or the end would be a reset.
        tcp.set_read_timeout(Some(Duration::from_millis(200)))?;
        let _ = io::copy(&mut tcp, &mut io::sink());
        Ok(())
    });
    let error = Client::connect(Some(&tls), "localhost", server.port).handshake().unwrap_err();
    assert!(TlsError::of(&error).is_none() && error.kind() == io::ErrorKind::UnexpectedEof, "{error}");
    assert!(error.to_string().contains("not encrypted"), "{error}");
}

#[test]
fn the_end_of_a_connection_is_an_end() {
    let ca = Ca::new();
    let identity = ca.issue("localhost", |_| {});
    let server = Echo::start(&identity, None);
    let mut client = Client::connect(Some(&ca.tls()), "localhost", server.port);
    client.echo(b"hello").unwrap();
    // The server's thread ends at our end, and says no more.
    client.stream.tcp().shutdown(std::net::Shutdown::Write).unwrap();
    let _ = server.thread.join().unwrap();
    for _ in 0..2 {
        assert_eq!(client.until(|stream| stream.read(&mut [0; 10])).unwrap(), 0);
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (ca, folder) = (Ca::new(), Folder::new());
    let app = ca.issue("app", |_| {});
    let other = ca.issue("other", |_| {});
    let certificate = folder.file("app.pem", &app.certificate);
    let key = folder.file("app.key", &app.key);
    let missing = folder.0.join("missing.pem");
    let nothing = folder.file("nothing.pem", "hunter2");
    let torn = folder.file("torn.pem", "-----BEGIN CERTIFICATE-----\nhunter2!\n-----END CERTIFICATE-----\n");
    let locked =
        folder.file("locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\naGk=\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let others = folder.file("other.key", &other.key);
    for (tls, words) in [
        (Tls::default().ca_file(&missing), "missing.pem\" cannot be read"),
        (Tls::default().ca_file(&nothing), "nothing.pem\" holds no certificate"),
        (Tls::default().ca_file(&torn), "proper PEM"),
        (Tls::default().ca_pem("hunter2"), "ca_pem holds no certificate"),
        (ca.tls().client_certificate(&missing, &key), "missing.pem\" cannot be read"),
        (ca.tls().client_certificate(&certificate, &missing), "missing.pem\" cannot be read"),
        (ca.tls().client_certificate(&certificate, &nothing), "nothing.pem\" holds no private key"),
        (ca.tls().client_certificate(&certificate, &locked), "without a password"),
        (ca.tls().client_certificate(&certificate, &others), "not that of the client certificate"),
    ] {
        let Err(error) = Connector::new(Some(&tls)) else { panic!("{words}: it was taken") };
        let text = error.to_string();
        assert!(error.option() == "tls" && text.contains(words) && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_host_that_no_certificate_can_name_is_refused() {
    let connector = Connector::new(Some(&Ca::new().tls())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = StdTcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let Err(error) = connector.stream(TcpStream::from_std(tcp), "not a host") else { panic!("it was taken") };
    assert!(error.is_lasting() && error.to_string().contains("not a host"), "{error}");
}
