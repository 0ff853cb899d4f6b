//! A broker that asks for encryption and credentials.

use std::fs;
use std::net::{Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::certificates::{Authority, Identity};
use super::kafka::{Broker, Version};
use super::ports;
use super::properties::Properties;
use super::proxy::Proxy;

/// The one user, of PLAIN and of both kinds of SCRAM.
pub const USER: &str = "trials";
/// It has what some would escape, and nothing that needs it in the broker's own files.
pub const PASSWORD: &str = "open=Sesame /+%21";

/// What a token must allow.
const SCOPE: &str = "logs";

/// How long a session on [`Way::SaslTlsForSeconds`] lasts.
pub const SESSION: Duration = Duration::from_secs(5);

/// A listener of the broker; each verifies what its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// With a certificate for "localhost" and the loopback addresses.
    Tls,
    /// The same, on the IPv6 loopback address, where this machine has one.
    TlsOverIpv6,
    /// With a certificate for the name of another host.
    TlsWithAnotherName,
    /// With a certificate that was valid once.
    TlsExpired,
    /// With the good certificate, for clients that have one themselves.
    TlsForKnownClients,
    /// With credentials, unencrypted.
    Sasl,
    /// With credentials, encrypted.
    SaslTls,
    /// The same, for sessions of 5 s, and by way of a proxy that counts connections.
    SaslTlsForSeconds,
}

impl Way {
    const ALL: [Way; 8] = [
        Way::Tls,
        Way::TlsOverIpv6,
        Way::TlsWithAnotherName,
        Way::TlsExpired,
        Way::TlsForKnownClients,
        Way::Sasl,
        Way::SaslTls,
        Way::SaslTlsForSeconds,
    ];

    /// The listener's name, and Kafka's name of its protocol.
    fn listener(self) -> (&'static str, &'static str) {
        match self {
            Way::Tls => ("SSL", "SSL"),
            Way::TlsOverIpv6 => ("SSL_IPV6", "SSL"),
            Way::TlsWithAnotherName => ("SSL_ANOTHER", "SSL"),
            Way::TlsExpired => ("SSL_EXPIRED", "SSL"),
            Way::TlsForKnownClients => ("SSL_CLIENT", "SSL"),
            Way::Sasl => ("SASL_PLAINTEXT", "SASL_PLAINTEXT"),
            Way::SaslTls => ("SASL_SSL", "SASL_SSL"),
            Way::SaslTlsForSeconds => ("SASL_SSL_SHORT", "SASL_SSL"),
        }
    }

    /// "host:port" that it is found at.
    fn take_address(self) -> Result<String, String> {
        match self {
            Way::TlsOverIpv6 => Ok(format!("[{}]:{}", Ipv6Addr::LOCALHOST, ports::free()?)),
            _ => ports::loopback(),
        }
    }

    fn can_be(self) -> bool {
        self != Way::TlsOverIpv6 || TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
    }
}

/// The broker, and what clients need to know of it.
pub struct Secure {
    broker: Broker,
    addresses: Vec<(Way, String)>,
    proxy: Proxy,
}

/// The secure broker that the tests of this process share; panics when it cannot be started.
pub fn shared(version: Version) -> &'static Secure {
    static SHARED: [OnceLock<Secure>; Version::ALL.len()] = [const { OnceLock::new() }; Version::ALL.len()];
    SHARED[version as usize].get_or_init(|| {
        Secure::start(version).unwrap_or_else(|error| panic!("no secure Kafka {}: {error}", version.as_str()))
    })
}

impl Secure {
    pub fn start(version: Version) -> Result<Secure, String> {
        let ours = Authority::new("the authority of the trials");
        let foreign = Authority::new("an authority that nobody knows");
        let scram = ["SCRAM-SHA-256", "SCRAM-SHA-512"].map(|kind| format!("{kind}=[name={USER},password={PASSWORD}]"));
        let mut addresses = Vec::new();
        let proxy = Proxy::start(String::new());
        let broker = Broker::start_configured(version, &scram, |properties| {
            addresses.clear();
            for way in Way::ALL.into_iter().filter(|way| way.can_be()) {
                let address = way.take_address()?;
                let (name, protocol) = way.listener();
                let advertised = if way == Way::SaslTlsForSeconds { proxy.address() } else { address.clone() };
                properties.add_listener(name, protocol, &address, &advertised);
                if way == Way::SaslTlsForSeconds {
                    proxy.set_upstream(address);
                }
                addresses.push((way, advertised));
            }
            secure(properties, &ours);
            Ok(())
        })?;
        let secure = Secure { broker, addresses, proxy };
        secure.write_files(&ours, &foreign)?;
        Ok(secure)
    }

    /// Where tests look behind all that.
    pub fn plaintext(&self) -> String {
        self.broker.bootstrap()
    }

    /// "host:port"; `None` where the machine has no such way.
    pub fn address(&self, way: Way) -> Option<String> {
        self.addresses.iter().find(|(known, _)| *known == way).map(|(_, address)| address.clone())
    }

    /// How many connections there were so far by [`Way::SaslTlsForSeconds`].
    pub fn connections(&self) -> usize {
        self.proxy.accepted()
    }

    /// The file of the authority that has signed the broker's certificates.
    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// The file of another authority.
    pub fn foreign_ca(&self) -> PathBuf {
        self.file("foreign-ca.pem")
    }

    /// The files of a client's certificate and of its key.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.file("client.pem"), self.file("client.key"))
    }

    /// The same, signed by the other authority.
    pub fn foreign_client(&self) -> (PathBuf, PathBuf) {
        (self.file("foreign-client.pem"), self.file("foreign-client.key"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.broker.directory().join(name)
    }

    fn write_files(&self, ours: &Authority, foreign: &Authority) -> Result<(), String> {
        write(&self.ca(), ours.certificate())?;
        write(&self.foreign_ca(), foreign.certificate())?;
        for ((certificate, key), authority) in [(self.client(), ours), (self.foreign_client(), foreign)] {
            let identity = authority.client(USER);
            write(&certificate, &identity.certificate)?;
            write(&key, &identity.key)?;
        }
        Ok(())
    }
}

/// A token that the broker accepts: a JSON Web Token without a signature.
pub fn token(lifetime: Duration) -> String {
    token_for(SCOPE, lifetime)
}

/// A token that the broker refuses.
pub fn useless_token(lifetime: Duration) -> String {
    token_for("something-else", lifetime)
}

fn token_for(scope: &str, lifetime: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    // In whole seconds, of which none is missing. The broker allows for no difference between clocks.
    let (issued, expires) = (now.as_secs() - 1, (now + lifetime).as_secs() + 1);
    let claims = format!(r#"{{"sub":"{USER}","scope":"{scope}","iat":{issued},"exp":{expires}}}"#);
    format!("{}.{}.", base64url(br#"{"alg":"none"}"#), base64url(claims.as_bytes()))
}

/// Certificates, mechanisms, users and their rights, for all listeners.
fn secure(properties: &mut Properties, authority: &Authority) {
    const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
    properties.set("ssl.truststore.type", "PEM");
    properties.set("ssl.truststore.certificates", one_line(authority.certificate()));
    properties.set("ssl.keystore.type", "PEM");
    set_identity(properties, "", &authority.server(&LOCAL));
    set_identity(properties, &prefix(Way::TlsWithAnotherName), &authority.server(&["kafka.another.example"]));
    set_identity(properties, &prefix(Way::TlsExpired), &authority.expired_server(&LOCAL));
    properties.set(&format!("{}ssl.client.auth", prefix(Way::TlsForKnownClients)), "required");

    // Everybody may do everything, but for topics that somebody was given rights to: then nobody else has any. Whoever comes
    // without a name is a test, or the broker itself.
    properties.set("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
    properties.set("allow.everyone.if.no.acl.found", "true");
    properties.set("super.users", "User:ANONYMOUS");

    let plain = format!("plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";");
    let oauth = format!(
        "oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\" \
         unsecuredValidatorRequiredScope=\"{SCOPE}\";"
    );
    let mechanisms = [
        ("PLAIN", plain.as_str()),
        ("SCRAM-SHA-256", "scram.ScramLoginModule required;"),
        ("SCRAM-SHA-512", "scram.ScramLoginModule required;"),
        ("OAUTHBEARER", &oauth),
    ];
    properties.set("sasl.enabled.mechanisms", mechanisms.map(|(name, _)| name).join(","));
    for way in [Way::Sasl, Way::SaslTls, Way::SaslTlsForSeconds] {
        for (name, module) in mechanisms {
            let prefix = format!("{}{}.", prefix(way), name.to_lowercase());
            let jaas = format!("org.apache.kafka.common.security.{module}");
            properties.set(&format!("{prefix}sasl.jaas.config"), jaas);
            if way == Way::SaslTlsForSeconds {
                let session = SESSION.as_millis().to_string();
                properties.set(&format!("{prefix}connections.max.reauth.ms"), session);
            }
        }
    }
}

fn prefix(way: Way) -> String {
    format!("listener.name.{}.", way.listener().0.to_lowercase())
}

fn set_identity(properties: &mut Properties, prefix: &str, identity: &Identity) {
    properties.set(&format!("{prefix}ssl.keystore.certificate.chain"), one_line(&identity.certificate));
    properties.set(&format!("{prefix}ssl.keystore.key"), one_line(&identity.key));
}

/// As a property's value is written.
fn one_line(pem: &str) -> String {
    pem.lines().collect::<Vec<_>>().join("\\n")
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Without padding, as tokens have it.
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, place| bits << 8 | u32::from(chunk.get(place).copied().unwrap_or(0)));
        let digits = (0..=chunk.len()).map(|place| DIGITS[(bits >> (18 - 6 * place)) as usize & 63] as char);
        text.extend(digits);
    }
    text
}
