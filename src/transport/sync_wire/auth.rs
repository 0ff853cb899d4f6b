//! The messages of a login, by rsasl; sending them is another's task.
//!
//! rsasl reads the server's messages on the assumption that they are well made, and panics over some that are not. So
//! what a server says is checked here first, and then has the one form that Kafka gives it.

use std::fmt;
use std::sync::Arc;

use rsasl::callback::{Context, Request, SessionCallback, SessionData};
use rsasl::mechname::Mechname;
use rsasl::prelude::{SASLClient, SASLConfig, Session, SessionError};
use rsasl::property::{AuthId, OAuthBearerToken, Password};

use crate::config::{Credentials, Mechanism, OauthToken, Sasl, without_secret};

/// Below this a password could be guessed too soon from what was heard: Kafka's own bound, and that of RFC 7677.
const LEAST_ITERATIONS: u32 = 4_096;

/// Above this a server only wants to keep us busy: it takes about a second. Kafka itself allows 16,384.
const MOST_ITERATIONS: u32 = 1_000_000;

/// What a server says of a failure is shown up to this length.
const WORDS_SHOWN: usize = 500;

/// One login on one connection, by SaslHandshake and SaslAuthenticate.
pub(super) struct Login {
    mechanism: &'static str,
    /// None where the token says it.
    user: Option<String>,
    /// To keep it out of every text.
    secret: String,
    session: Session,
    stage: Stage,
    /// Why the server refused the token, in its words.
    reason: String,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send this to the server, and go on with its answer.
    Send(Vec<u8>),
    /// The login has succeeded, as far as it goes by what the server sent. It may have told of an error beside it.
    Done,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    First,
    /// PLAIN has no more to say.
    PlainSent,
    TokenSent,
    /// The server refused the token, and was sent the one answer that there is to it.
    TokenRefused,
    ScramFirstSent,
    ScramProofSent,
    Over,
}

impl Login {
    /// OAUTHBEARER needs a token; the others take none.
    pub(super) fn new(sasl: &Sasl, token: Option<&OauthToken>) -> Result<Login, AuthError> {
        let mechanism = sasl.mechanism.name();
        let fail = |words: &str| AuthError::new(mechanism, None, words);
        let (user, secret) = match (&sasl.mechanism, token) {
            (Mechanism::OauthBearer(_), Some(token)) => (None, token.token.clone()),
            (Mechanism::OauthBearer(_), None) => return Err(fail("there is no token")),
            (other, _) => match other.credentials() {
                Some(Credentials { user, password }) => (Some(user.clone()), password.clone()),
                None => return Err(fail("there are no credentials")),
            },
        };
        let known = Known { user: user.clone(), secret: secret.clone() };
        let config = SASLConfig::builder().with_default_mechanisms().with_callback(known);
        let session = config.ok().and_then(|config| start(config, mechanism)).ok_or_else(|| fail("cannot be begun"))?;
        Ok(Login { mechanism, user, secret, session, stage: Stage::First, reason: String::new() })
    }

    /// What SaslHandshake names.
    pub(super) fn mechanism(&self) -> &'static str {
        self.mechanism
    }

    /// Goes on: first with nothing, then with what each SaslAuthenticate answers. May compute for a while, with SCRAM:
    /// milliseconds as a rule.
    pub(super) fn step(&mut self, server: Option<&[u8]>) -> Result<Step, AuthError> {
        // Whatever fails is over: rsasl must not be asked again.
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let (step, next) = match (stage, server) {
            (Stage::First, None) => {
                let next = match self.mechanism {
                    "PLAIN" => Stage::PlainSent,
                    "OAUTHBEARER" => Stage::TokenSent,
                    _ => Stage::ScramFirstSent,
                };
                (Step::Send(self.ask(None)?), next)
            }
            (Stage::PlainSent, Some(_)) => (Step::Done, Stage::Over),
            (Stage::TokenSent, Some([])) => (Step::Done, Stage::Over),
            // RFC 7628: the server's reason is answered by this, and then it ends the login.
            (Stage::TokenSent, Some(reason)) => {
                self.reason = String::from_utf8_lossy(reason).into_owned();
                (Step::Send(vec![1]), Stage::TokenRefused)
            }
            (Stage::TokenRefused, _) => return Err(self.refused("it gives no error beside it")),
            (Stage::ScramFirstSent, Some(server)) => {
                check_server_first(server).map_err(|words| self.fail(&words))?;
                (Step::Send(self.ask(Some(server))?), Stage::ScramProofSent)
            }
            (Stage::ScramProofSent, Some(server)) => {
                check_server_final(server).map_err(|words| self.fail(&words))?;
                self.ask(Some(server))?;
                (Step::Done, Stage::Over)
            }
            (Stage::Over, _) => return Err(self.fail("the login is over, and the broker goes on")),
            _ => return Err(self.fail("the broker said nothing where the mechanism needs an answer")),
        };
        self.stage = next;
        Ok(step)
    }

    /// What the broker said beside the mechanism, with its error code: SaslHandshake's or SaslAuthenticate's.
    pub(super) fn refused(&self, words: &str) -> AuthError {
        if self.reason.is_empty() {
            return self.fail(&format!("the broker refused: {words}"));
        }
        // Kafka says its reason again beside the mechanism.
        let more = if words == self.reason { String::new() } else { format!("; {words}") };
        self.fail(&format!("the broker refused the token by {}{more}", self.reason))
    }

    /// A step of rsasl's.
    fn ask(&mut self, server: Option<&[u8]>) -> Result<Vec<u8>, AuthError> {
        let mut message = Vec::new();
        match self.session.step(server, &mut message) {
            Ok(_) => Ok(message),
            Err(SessionError::MutualAuthenticationFailed) => {
                Err(self
                    .fail("the broker did not prove that it knows the password: it may not be the one it should be"))
            }
            Err(error) => Err(self.fail(&error.to_string())),
        }
    }

    fn fail(&self, words: &str) -> AuthError {
        let words = without_secret(words, &self.secret);
        AuthError::new(self.mechanism, self.user.as_deref(), &words)
    }
}

fn start(config: Arc<SASLConfig>, mechanism: &str) -> Option<Session> {
    let name = Mechname::parse(mechanism.as_bytes()).ok()?;
    SASLClient::new(config).start_suggested(&[name]).ok()
}

/// What rsasl asks for.
struct Known {
    user: Option<String>,
    /// The password or the token.
    secret: String,
}

impl SessionCallback for Known {
    fn callback(&self, _: &SessionData, _: &Context<'_>, request: &mut Request<'_>) -> Result<(), SessionError> {
        match &self.user {
            Some(user) => request.satisfy::<AuthId>(user)?.satisfy::<Password>(self.secret.as_bytes())?,
            None => request.satisfy::<OAuthBearerToken>(&self.secret)?,
        };
        Ok(())
    }
}

/// `r=nonce,s=salt,i=iterations`: Kafka sends no more, and more would have to be in the signature.
fn check_server_first(message: &[u8]) -> Result<(), String> {
    let nonsense = || String::from("the broker's first message is no SCRAM");
    let text = std::str::from_utf8(message).map_err(|_| nonsense())?;
    if let Some(words) = text.strip_prefix("e=") {
        return Err(format!("the broker refused: {words}"));
    }
    let mut parts = text.split(',');
    let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name)).filter(|value| !value.is_empty());
    let (Some(nonce), Some(salt), Some(iterations), None) = (part("r="), part("s="), part("i="), parts.next()) else {
        return Err(nonsense());
    };
    let is_base64 = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/' | b'=');
    if !nonce.bytes().all(|c| c.is_ascii_graphic()) || !salt.bytes().all(is_base64) {
        return Err(nonsense());
    }
    match iterations.parse::<u32>() {
        Ok(LEAST_ITERATIONS..=MOST_ITERATIONS) if iterations.bytes().all(|c| c.is_ascii_digit()) => Ok(()),
        Ok(count) => Err(format!(
            "the broker wants {count} iterations: from {LEAST_ITERATIONS} to {MOST_ITERATIONS} are safe and bearable"
        )),
        Err(_) => Err(nonsense()),
    }
}

/// `v=signature`, or `e=error`.
fn check_server_final(message: &[u8]) -> Result<(), String> {
    let nonsense = || String::from("the broker's last message is no SCRAM");
    let text = std::str::from_utf8(message).map_err(|_| nonsense())?;
    match text.strip_prefix("e=") {
        Some(words) => Err(format!("the broker refused: {words}")),
        None if text.starts_with("v=") => Ok(()),
        None => Err(nonsense()),
    }
}

/// Why a login failed, in words that name the mechanism and the user, and hold no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AuthError {
    words: String,
}

impl AuthError {
    fn new(mechanism: &str, user: Option<&str>, words: &str) -> AuthError {
        let user = user.map_or(String::new(), |user| format!(" of the user {user:?}"));
        // A server's words end up in a log: no line of their own, and no end of them.
        let words: String = words.chars().filter(|c| !c.is_control()).take(WORDS_SHOWN).collect();
        AuthError { words: format!("the login{user} by {mechanism} failed: {words}") }
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for AuthError {}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
