//! How the way to the brokers is secured: encryption, and who we are to them.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Config;
use crate::error::LoggerConfigError;

impl Config {
    /// Encrypts every connection, and verifies the certificate and the name of each broker; see [`Tls`]. Default: no
    /// encryption.
    ///
    /// Both transports honour it, `sync` with its own producer and not with the `kafka` crate. It needs the feature
    /// `tls`; without it [`build`](Config::build) and [`init`](crate::init) return
    /// [`LoggerError::Dependency`](crate::LoggerError::Dependency). A file that cannot be read, or that holds no
    /// certificate or key, is a [`LoggerError::Config`](crate::LoggerError::Config) of this option.
    ///
    /// ```
    /// use kafka_log::{Config, Tls};
    ///
    /// let config = Config::new("kafka-1:9093", "app.logs").tls(Tls::default().ca_file("/etc/ssl/kafka-ca.pem"));
    /// ```
    pub fn tls(mut self, tls: Tls) -> Config {
        self.delivery.tls = Some(tls);
        self.set("tls")
    }

    /// Authenticates each connection; see [`Sasl`]. Default: not at all.
    ///
    /// Both transports honour it, `sync` with its own producer and not with the `kafka` crate. With `async`, SCRAM and
    /// OAUTHBEARER need the feature `tls`, because librdkafka has them from OpenSSL.
    ///
    /// ```
    /// use kafka_log::{Config, Sasl, Tls};
    ///
    /// # fn password() -> String { String::from("secret") }
    /// let config = Config::new("kafka-1:9093", "app.logs")
    ///     .tls(Tls::default())
    ///     .sasl(Sasl::scram_sha512("app", password()));
    /// ```
    pub fn sasl(mut self, sasl: Sasl) -> Config {
        self.delivery.sasl = Some(sasl);
        self.set("sasl")
    }
}

/// How connections are encrypted, and which certificates are trusted.
///
/// The certificate of a broker is always verified, with the name by which the broker is addressed: a host name, or an
/// IP address that the certificate must then have as such. There is no switch for that.
///
/// All files are PEM, and read once, when the logger is built. TLS 1.2 and 1.3 are spoken.
///
/// ```
/// use kafka_log::Tls;
///
/// let system_roots = Tls::default();
/// let own_ca = Tls::default()
///     .ca_file("/etc/kafka/ca.pem")
///     .client_certificate("/etc/kafka/app.pem", "/etc/kafka/app.key");
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Tls {
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) ca_pem: Option<String>,
    /// The file of the chain, and the file of its key.
    pub(crate) client_certificate: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Trusts the certificates of this file, one or more, and no other. Default: the system's.
    ///
    /// With [`ca_pem`](Tls::ca_pem) too, both are trusted. A second file replaces the first.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Tls {
        self.ca_file = Some(path.into());
        self
    }

    /// Trusts the certificates of this text, one or more in PEM, and no other. Default: the system's.
    ///
    /// With [`ca_file`](Tls::ca_file) too, both are trusted. A second text replaces the first.
    pub fn ca_pem(mut self, certificates: impl Into<String>) -> Tls {
        self.ca_pem = Some(certificates.into());
        self
    }

    /// Shows brokers that ask for it this certificate. Default: none.
    ///
    /// The first file has the certificate, and those that lead from it to the brokers' CA; the second its private key,
    /// without a password.
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Tls {
        self.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// What [`ca_file`](Tls::ca_file) holds.
    pub(crate) fn read_ca_file(&self) -> Result<Option<String>, LoggerConfigError> {
        self.ca_file.as_deref().map(|path| read(path, "the CA file", "CERTIFICATE", "certificate")).transpose()
    }

    /// What the files of [`client_certificate`](Tls::client_certificate) hold.
    pub(crate) fn read_client_certificate(&self) -> Result<Option<(String, String)>, LoggerConfigError> {
        let Some((chain, key)) = &self.client_certificate else { return Ok(None) };
        let chain = read(chain, "the client certificate's file", "CERTIFICATE", "certificate")?;
        let key = read(key, "the client key's file", "PRIVATE KEY", "private key")?;
        Ok(Some((chain, key)))
    }

    /// Whether the system's roots are the trusted ones.
    pub(crate) fn trusts_the_system(&self) -> bool {
        self.ca_file.is_none() && self.ca_pem.is_none()
    }
}

/// Shows where files are, and nothing of what certificates and keys contain.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("ca_file", &self.ca_file)
            .field("ca_pem", &self.ca_pem.as_ref().map(|_| Hidden))
            .field("client_certificate", &self.client_certificate)
            .finish()
    }
}

/// Who we are to the brokers, and how that is shown.
///
/// A mechanism that sends a secret as it is, PLAIN and OAUTHBEARER, is refused without [`Tls`] unless
/// [`allow_unencrypted`](Sasl::allow_unencrypted) says otherwise. SCRAM sends none: it proves the knowledge of the
/// password, and has the broker do the same. `Debug` shows the mechanism and the user, never a secret; no error does.
#[derive(Clone)]
#[non_exhaustive]
pub struct Sasl {
    pub(crate) mechanism: Mechanism,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) allow_unencrypted: bool,
}

impl Sasl {
    /// PLAIN: sends the password as it is.
    pub fn plain(user: impl Into<String>, password: impl Into<String>) -> Sasl {
        Sasl::new(Mechanism::Plain(Credentials::new(user, password)))
    }

    /// SCRAM-SHA-256: proves the knowledge of the password, and verifies that the broker knows it.
    pub fn scram_sha256(user: impl Into<String>, password: impl Into<String>) -> Sasl {
        Sasl::new(Mechanism::ScramSha256(Credentials::new(user, password)))
    }

    /// SCRAM-SHA-512: proves the knowledge of the password, and verifies that the broker knows it.
    pub fn scram_sha512(user: impl Into<String>, password: impl Into<String>) -> Sasl {
        Sasl::new(Mechanism::ScramSha512(Credentials::new(user, password)))
    }

    /// OAUTHBEARER: sends a token that the callback gives.
    ///
    /// The callback is called for the first connection, and again before a token expires. It runs on a thread of the
    /// logger's own, one call at a time, and may block: meanwhile records wait in the queue. An error or a panic in it
    /// is shown in [`Status`](crate::Status) and tried again; keep secrets out of the error's text. What it logs
    /// through this logger is dropped as recursive.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use kafka_log::{OauthToken, Sasl};
    ///
    /// # fn ask_the_identity_provider() -> Result<(String, u64), std::io::Error> { Ok((String::new(), 0)) }
    /// let sasl = Sasl::oauthbearer(|| {
    ///     let (access_token, expires_in) = ask_the_identity_provider()?;
    ///     Ok(OauthToken::new(access_token, Duration::from_secs(expires_in)))
    /// });
    /// ```
    pub fn oauthbearer(
        callback: impl Fn() -> Result<OauthToken, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
    ) -> Sasl {
        Sasl::new(Mechanism::OauthBearer(TokenCallback(Arc::new(callback))))
    }

    /// Takes the password from this file, for a mechanism that was given none: an empty one. Default: no file.
    ///
    /// It is read once, when the logger is built, as UTF-8; a line's end behind the password is no part of it. A file
    /// that cannot be used is a [`LoggerError::Config`](crate::LoggerError::Config), which names it and shows nothing of
    /// what it holds.
    ///
    /// ```
    /// use kafka_log::Sasl;
    ///
    /// let sasl = Sasl::scram_sha512("app", "").password_file("/run/secrets/kafka-password");
    /// ```
    pub fn password_file(mut self, path: impl Into<PathBuf>) -> Sasl {
        self.password_file = Some(path.into());
        self
    }

    /// Whether a secret may be sent over a connection that is not encrypted. Default: `false`.
    pub fn allow_unencrypted(mut self, allow: bool) -> Sasl {
        self.allow_unencrypted = allow;
        self
    }

    fn new(mechanism: Mechanism) -> Sasl {
        Sasl { mechanism, password_file: None, allow_unencrypted: false }
    }

    /// Reads what [`password_file`](Sasl::password_file) names, once.
    pub(crate) fn read_password(&mut self) -> Result<(), LoggerConfigError> {
        let Some(path) = &self.password_file else { return Ok(()) };
        let refuse = |problem: &str| {
            let problem = format!("has the password file \"{}\", {problem}", path.display());
            Err(LoggerConfigError::new("sasl", problem))
        };
        let name = self.mechanism.name();
        let Some(credentials) = self.mechanism.credentials_mut() else {
            return refuse(&format!("and {name} takes no password"));
        };
        if !credentials.password.is_empty() {
            return refuse("and a password besides: give one of them");
        }
        match read_password(path) {
            Ok(password) => credentials.password = password,
            Err(problem) => return refuse(&problem),
        }
        self.password_file = None;
        Ok(())
    }
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Sasl");
        shown.field("mechanism", &self.mechanism.name());
        if let Some(Credentials { user, .. }) = self.mechanism.credentials() {
            shown.field("user", user).field("password", &Hidden);
        }
        if let Some(path) = &self.password_file {
            shown.field("password_file", path);
        }
        shown.field("allow_unencrypted", &self.allow_unencrypted).finish()
    }
}

/// One of Kafka's mechanisms, with what it needs.
#[derive(Clone)]
pub(crate) enum Mechanism {
    Plain(Credentials),
    ScramSha256(Credentials),
    ScramSha512(Credentials),
    OauthBearer(TokenCallback),
}

impl Mechanism {
    /// Kafka's name of it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Mechanism::Plain(_) => "PLAIN",
            Mechanism::ScramSha256(_) => "SCRAM-SHA-256",
            Mechanism::ScramSha512(_) => "SCRAM-SHA-512",
            Mechanism::OauthBearer(_) => "OAUTHBEARER",
        }
    }

    /// Where the login is by tokens.
    pub(crate) fn token_callback(&self) -> Option<&TokenCallback> {
        match self {
            Mechanism::OauthBearer(callback) => Some(callback),
            _ => None,
        }
    }

    fn credentials_mut(&mut self) -> Option<&mut Credentials> {
        match self {
            Mechanism::Plain(credentials)
            | Mechanism::ScramSha256(credentials)
            | Mechanism::ScramSha512(credentials) => Some(credentials),
            Mechanism::OauthBearer(_) => None,
        }
    }

    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        match self {
            Mechanism::Plain(credentials)
            | Mechanism::ScramSha256(credentials)
            | Mechanism::ScramSha512(credentials) => Some(credentials),
            Mechanism::OauthBearer(_) => None,
        }
    }

    /// Whether whoever reads along can use what is sent.
    pub(crate) fn sends_a_secret(&self) -> bool {
        matches!(self, Mechanism::Plain(_) | Mechanism::OauthBearer(_))
    }
}

/// A user and a password. No `Debug`: the password must not get anywhere by accident.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Credentials {
    fn new(user: impl Into<String>, password: impl Into<String>) -> Credentials {
        Credentials { user: user.into(), password: password.into() }
    }
}

/// What gives tokens.
#[derive(Clone)]
pub(crate) struct TokenCallback(
    pub(crate) Arc<dyn Fn() -> Result<OauthToken, Box<dyn Error + Send + Sync>> + Send + Sync>,
);

/// A bearer token, for [`Sasl::oauthbearer`].
///
/// Its `Debug` does not show it.
#[derive(Clone)]
#[non_exhaustive]
pub struct OauthToken {
    pub(crate) token: String,
    pub(crate) made: Instant,
    pub(crate) lifetime: Duration,
}

impl OauthToken {
    /// A token that brokers accept for this time from now on: what an identity provider calls `expires_in`.
    ///
    /// The next one is asked for when four fifths of that time are over. With `async`, a time below half a minute is too
    /// short for librdkafka to have the next one before it needs it.
    pub fn new(token: impl Into<String>, lifetime: Duration) -> OauthToken {
        OauthToken { token: token.into(), made: Instant::now(), lifetime }
    }
}

impl fmt::Debug for OauthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OauthToken").field("token", &Hidden).field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// A file's text, which has at least one section of the label.
fn read(path: &Path, role: &str, label: &str, what: &str) -> Result<String, LoggerConfigError> {
    let refuse = |problem: &str| LoggerConfigError::new("tls", format!("{role} \"{}\" {problem}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| refuse(&format!("cannot be read: {error}")))?;
    let text = String::from_utf8_lossy(&bytes);
    let begins = |line: &str| line.trim().strip_prefix("-----BEGIN ").is_some_and(|rest| rest.contains(label));
    if text.lines().any(begins) { Ok(text.into_owned()) } else { Err(refuse(&format!("holds no {what} in PEM"))) }
}

/// A file's one line, or why it is none; nothing of it is shown.
fn read_password(path: &Path) -> Result<String, String> {
    /// Far above any password, and little for a file that is none.
    const LARGEST: u64 = 64 * 1024;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("which cannot be read: {error}"))?;
    if bytes.len() as u64 > LARGEST {
        return Err("which is larger than 64 KiB: that is no password".into());
    }
    let mut password = String::from_utf8(bytes).map_err(|_| "which is not UTF-8")?;
    if password.ends_with('\n') {
        password.pop();
        if password.ends_with('\r') {
            password.pop();
        }
    }
    if password.is_empty() {
        return Err("which is empty: it has to hold the password".into());
    }
    Ok(password)
}

/// A text of others, in which they may have repeated a secret.
pub(crate) fn without_secret(text: &str, secret: &str) -> String {
    if secret.is_empty() { text.to_owned() } else { text.replace(secret, "[hidden]") }
}

/// What stands for a secret.
struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::in_file;
    use super::*;

    #[test]
    fn debug_shows_mechanism_and_user_and_no_secret() {
        let tls = Tls::default().ca_file("ca.pem").ca_pem("hunter2").client_certificate("app.pem", "app.key");
        let token = OauthToken::new("hunter2", Duration::from_secs(60));
        for (sasl, shown) in [
            (Sasl::plain("carla", "hunter2"), ["PLAIN", "carla"]),
            (Sasl::scram_sha256("carla", "hunter2"), ["SCRAM-SHA-256", "carla"]),
            (Sasl::scram_sha512("carla", "hunter2"), ["SCRAM-SHA-512", "carla"]),
            (
                Sasl::oauthbearer(|| Ok(OauthToken::new("hunter2", Duration::from_secs(60)))),
                ["OAUTHBEARER", "allow_unencrypted: false"],
            ),
        ] {
            let config = Config::default().tls(tls.clone()).sasl(sasl);
            let text = format!("{config:?} {token:?}");
            assert!(shown.iter().all(|word| text.contains(word)), "{text}");
            assert!(["ca.pem", "app.pem", "app.key"].iter().all(|path| text.contains(path)), "{text}");
            assert!(!text.contains("hunter2") && !format!("{config:#?}").contains("hunter2"), "{text}");
        }
    }

    fn with_file(content: &[u8], sasl: Sasl) -> Result<Sasl, String> {
        in_file("password", content, |path| {
            let mut sasl = sasl.password_file(path);
            sasl.read_password().map(|()| sasl).map_err(|error| {
                let text = format!("{error} {error:?}");
                assert!(error.option() == "sasl" && text.contains(&format!("{:?}", path.display().to_string())));
                assert!(!text.contains("hunter2"), "{text}");
                text
            })
        })
    }

    #[test]
    fn a_password_file_holds_the_password_and_perhaps_a_lines_end() {
        let read = |content: &str| {
            let sasl = with_file(content.as_bytes(), Sasl::scram_sha256("u", "")).unwrap();
            assert!(!format!("{sasl:?}").contains("hunter2"), "{sasl:?}");
            sasl.mechanism.credentials().unwrap().password.clone()
        };
        for (content, password) in [
            ("hunter2", "hunter2"),
            ("hunter2\n", "hunter2"),
            ("hunter2\r\n", "hunter2"),
            (" hunter2 \n", " hunter2 "),
            ("hunter2\r", "hunter2\r"),
            ("hunter2\n\n", "hunter2\n"),
        ] {
            assert_eq!(read(content), password);
        }
    }

    #[test]
    fn a_password_file_that_cannot_be_used_is_named_and_not_shown() {
        let scram = || Sasl::scram_sha256("u", "");
        let large = "hunter2".repeat(10_000);
        for (content, sasl, words) in [
            (&b""[..], scram(), "is empty"),
            (b"\n", scram(), "is empty"),
            (b"hunter2\xff", scram(), "not UTF-8"),
            (large.as_bytes(), scram(), "larger than 64 KiB"),
            (b"hunter2", Sasl::plain("u", "hunter2"), "a password besides"),
            (b"hunter2", Sasl::oauthbearer(|| Err("none".into())), "OAUTHBEARER takes no password"),
        ] {
            let error = with_file(content, sasl).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        // Said when the logger is built, before anything else is done about it.
        let missing = scram().password_file("/nowhere/at all");
        assert!(format!("{missing:?}").contains("/nowhere/at all"));
        let error = Config::default().sasl(missing).build().unwrap_err().to_string();
        let begin = "option `sasl`: has the password file \"/nowhere/at all\", which cannot be read: ";
        assert!(error.starts_with(begin), "{error}");
    }
}
