//! How `tls`, `sasl` and `spool` are written in files and in the environment.
//!
//! No error here repeats a value: it could be a secret.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::words::{FromWord, Word};
use super::{Fsync, Sasl, Spool, SpoolMode, Tls};

/// `true`, `false`, or a table.
pub(super) struct TlsKey(pub(super) Option<Tls>);

impl<'de> Deserialize<'de> for TlsKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TlsKey, D::Error> {
        deserializer.deserialize_any(TlsVisitor)
    }
}

struct TlsVisitor;

impl<'de> Visitor<'de> for TlsVisitor {
    type Value = TlsKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, or a table of `ca_file`, `ca_pem` and `client_certificate`")
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<TlsKey, E> {
        Ok(TlsKey(on.then(Tls::default)))
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<TlsKey, E> {
        match truth(word) {
            Some(on) => self.visit_bool(on),
            None => Err(E::custom(format_args!("expected {}", &self as &dyn serde::de::Expected))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TlsKey, A::Error> {
        let keys = TlsKeys::deserialize(MapAccessDeserializer::new(map))?;
        let mut tls = Tls::default();
        if let Some(Text(path)) = keys.ca_file {
            tls = tls.ca_file(path);
        }
        if let Some(Text(pem)) = keys.ca_pem {
            tls = tls.ca_pem(pem);
        }
        if let Some((Text(certificate), Text(key))) = keys.client_certificate {
            tls = tls.client_certificate(certificate.trim(), key.trim());
        }
        Ok(TlsKey(Some(tls)))
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TlsKeys {
    ca_file: Option<Text>,
    ca_pem: Option<Text>,
    client_certificate: Option<(Text, Text)>,
}

/// A table with a mechanism, a user and a password.
pub(super) struct SaslKey(pub(super) Sasl);

impl<'de> Deserialize<'de> for SaslKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SaslKey, D::Error> {
        deserializer.deserialize_any(SaslVisitor)
    }
}

struct SaslVisitor;

impl<'de> Visitor<'de> for SaslVisitor {
    type Value = SaslKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of `mechanism`, `user`, `password` or `password_file`, and `allow_unencrypted`")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<SaslKey, E> {
        Err(E::custom(format_args!("expected {}", &self as &dyn serde::de::Expected)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SaslKey, A::Error> {
        let keys = SaslKeys::deserialize(MapAccessDeserializer::new(map))?;
        let (Some(Word(Named(make))), Some(Text(user))) = (keys.mechanism, keys.user) else {
            return Err(A::Error::custom(NEEDED));
        };
        let sasl = match (keys.password, keys.password_file) {
            (Some(Text(password)), None) => make(user, password),
            (None, Some(Text(path))) => make(user, String::new()).password_file(path),
            (None, None) => return Err(A::Error::custom(NEEDED)),
            (Some(_), Some(_)) => {
                return Err(A::Error::custom("`sasl` has a `password` and a `password_file`: give one of them"));
            }
        };
        Ok(SaslKey(sasl.allow_unencrypted(keys.allow_unencrypted.unwrap_or(false))))
    }
}

const NEEDED: &str = "`sasl` needs a mechanism, a user and a password, or a file that holds it";

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SaslKeys {
    mechanism: Option<Word<Named>>,
    user: Option<Text>,
    password: Option<Text>,
    password_file: Option<Text>,
    allow_unencrypted: Option<bool>,
}

/// A table with a directory.
pub(super) struct SpoolKey(pub(super) Spool);

impl<'de> Deserialize<'de> for SpoolKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SpoolKey, D::Error> {
        deserializer.deserialize_any(SpoolVisitor)
    }
}

struct SpoolVisitor;

impl<'de> Visitor<'de> for SpoolVisitor {
    type Value = SpoolKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of `dir`, `max_bytes`, `fsync` and `mode`")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<SpoolKey, E> {
        Err(E::custom(format_args!("expected {}", &self as &dyn serde::de::Expected)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SpoolKey, A::Error> {
        let keys = SpoolKeys::deserialize(MapAccessDeserializer::new(map))?;
        let Some(Text(directory)) = keys.dir else {
            return Err(A::Error::custom("`spool` needs a directory, as `dir`"));
        };
        let mut spool = Spool::new(directory);
        if let Some(bytes) = keys.max_bytes {
            spool = spool.max_bytes(bytes);
        }
        if let Some(Word(fsync)) = keys.fsync {
            spool = spool.fsync(fsync);
        }
        if let Some(Word(mode)) = keys.mode {
            spool = spool.mode(mode);
        }
        Ok(SpoolKey(spool))
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SpoolKeys {
    dir: Option<Text>,
    max_bytes: Option<u64>,
    fsync: Option<Word<Fsync>>,
    mode: Option<Word<SpoolMode>>,
}

/// A mechanism by Kafka's name of it.
struct Named(fn(String, String) -> Sasl);

impl FromWord for Named {
    const EXPECTED: &'static str =
        "\"PLAIN\", \"SCRAM-SHA-256\" or \"SCRAM-SHA-512\" (OAUTHBEARER needs a callback, which only code can give)";

    fn from_word(word: &str) -> Option<Named> {
        Some(Named(match word {
            "plain" => Sasl::plain,
            "scram-sha-256" => Sasl::scram_sha256,
            "scram-sha-512" => Sasl::scram_sha512,
            _ => return None,
        }))
    }
}

/// A text, and nothing else: no error shows what is there instead.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Text, E> {
                Err(E::custom("expected a text, in quotes"))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Text, E> {
                self.visit_bool(false)
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Text, E> {
                self.visit_bool(false)
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Text, E> {
                self.visit_bool(false)
            }
        }

        deserializer.deserialize_any(TextVisitor)
    }
}

/// A truth value in the environment.
pub(super) fn truth(word: &str) -> Option<bool> {
    match word.trim().to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(json: &str) -> Result<Option<Tls>, String> {
        serde_json::from_str(json).map(|TlsKey(tls)| tls).map_err(|error| error.to_string())
    }

    fn sasl(json: &str) -> Result<Sasl, String> {
        serde_json::from_str(json).map(|SaslKey(sasl)| sasl).map_err(|error| error.to_string())
    }

    #[test]
    fn tls_is_a_truth_value_or_a_table() {
        for (json, expected) in [
            ("true", Some(Tls::default())),
            ("false", None),
            ("\"True\"", Some(Tls::default())),
            ("\"0\"", None),
            ("{}", Some(Tls::default())),
            (r#"{"ca_file": "a b"}"#, Some(Tls::default().ca_file("a b"))),
            (r#"{"client_certificate": ["c", "k"]}"#, Some(Tls::default().client_certificate("c", "k"))),
        ] {
            assert_eq!(format!("{:?}", tls(json).unwrap()), format!("{expected:?}"), "{json}");
        }
        assert_eq!(tls(r#"{"ca_pem": "PEM"}"#).unwrap().unwrap().ca_pem.as_deref(), Some("PEM"));
    }

    #[test]
    fn sasl_is_a_table_of_three_or_four() {
        let read = sasl(r#"{"mechanism": "plain", "user": "u", "password_file": "/p q"}"#).unwrap();
        assert_eq!(read.password_file.as_deref(), Some(std::path::Path::new("/p q")));
        assert_eq!(read.mechanism.credentials().unwrap().password, "");
        let read = sasl(r#"{"mechanism": "plain", "user": "u", "password": "p", "allow_unencrypted": true}"#).unwrap();
        assert_eq!((read.mechanism.name(), read.allow_unencrypted), ("PLAIN", true));
        let read = sasl(r#"{"mechanism": "SCRAM-SHA-512", "user": "u", "password": " p,q "}"#).unwrap();
        let credentials = read.mechanism.credentials().unwrap();
        assert_eq!((credentials.user.as_str(), credentials.password.as_str()), ("u", " p,q "));
        assert_eq!((read.mechanism.name(), read.allow_unencrypted), ("SCRAM-SHA-512", false));
    }

    #[test]
    fn spool_is_a_table_with_a_directory() {
        let read = |json: &str| serde_json::from_str(json).map(|SpoolKey(spool)| spool).map_err(|e| e.to_string());
        assert_eq!(read(r#"{"dir": "a b"}"#).unwrap(), Spool::new("a b"));
        let all = r#"{"dir": "d", "max_bytes": 5, "fsync": {"interval_ms": 6}, "mode": "Write_Ahead"}"#;
        let interval = Fsync::Interval(std::time::Duration::from_millis(6));
        let expected = Spool::new("d").max_bytes(5).fsync(interval).mode(SpoolMode::WriteAhead);
        assert_eq!(read(all).unwrap(), expected);
        for (word, fsync) in [("never", Fsync::Never), ("every_batch", Fsync::EveryBatch), ("interval_ms=6", interval)]
        {
            let json = format!(r#"{{"dir": "d", "fsync": "{word}", "mode": "overflow"}}"#);
            assert_eq!(read(&json).unwrap(), Spool::new("d").fsync(fsync));
        }
        for (json, words) in [
            ("{}", "needs a directory"),
            ("\"d\"", "a table of `dir`"),
            (r#"{"dir": 5}"#, "in quotes"),
            (r#"{"dir": "d", "fsync": "always"}"#, "\"every_batch\""),
            (r#"{"dir": "d", "mode": "always"}"#, "\"write_ahead\""),
            (r#"{"dir": "d", "max": 5}"#, "`max_bytes`"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(words) && !error.contains("always"), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_its_value() {
        for (json, words) in [
            ("\"hunter2\"", "true, false, or a table"),
            (r#"{"ca_pem": 4711}"#, "in quotes"),
            (r#"{"ca": "hunter2"}"#, "`ca_file`"),
            (r#"{"client_certificate": ["hunter2"]}"#, "2"),
            (r#"{"client_certificate": "hunter2"}"#, ""),
        ] {
            let error = tls(json).unwrap_err();
            assert!(error.contains(words) && !error.contains("4711"), "{error}");
        }
        for (json, words) in [
            ("\"hunter2\"", "a table of `mechanism`"),
            ("{}", "needs a mechanism, a user and a password"),
            (r#"{"mechanism": "PLAIN", "user": "u"}"#, "needs a mechanism, a user and a password"),
            (r#"{"mechanism": "hunter2", "user": "u", "password": "hunter2"}"#, "\"SCRAM-SHA-256\""),
            (r#"{"mechanism": "OAUTHBEARER", "user": "u", "password": "hunter2"}"#, "callback"),
            (r#"{"mechanism": "PLAIN", "user": "u", "password": 4711}"#, "in quotes"),
            (
                r#"{"mechanism": "PLAIN", "user": "u", "password": "hunter2", "password_file": "/p"}"#,
                "`password` and a `password_file`",
            ),
            (r#"{"mechanism": "PLAIN", "user": "u", "password_file": 4711}"#, "in quotes"),
            (r#"{"mechanism": "PLAIN", "user": "u", "pasword": "hunter2"}"#, "`password`"),
        ] {
            let error = sasl(json).unwrap_err();
            assert!(error.contains(words) && !error.contains("hunter2") && !error.contains("4711"), "{error}");
        }
    }
}
