use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac as _};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256, Sha512};
use std::time::{Duration, Instant};

use super::*;

const SECRET: &str = "hunter2, =pencil";

/// A server's side of SCRAM, after RFC 5802.
#[derive(Clone)]
struct Server {
    sha512: bool,
    password: String,
    nonce: String,
    salt: Vec<u8>,
    iterations: u32,
    /// The messages so far: the client's first without its header, ours.
    said: String,
}

impl Server {
    fn new(sasl: &Sasl) -> Server {
        Server {
            sha512: sasl.mechanism.name() == "SCRAM-SHA-512",
            password: SECRET.into(),
            nonce: "server+nonce".into(),
            salt: b"some salt".to_vec(),
            iterations: 4_096,
            said: String::new(),
        }
    }

    fn hash(&self, bytes: &[u8]) -> Vec<u8> {
        if self.sha512 { Sha512::digest(bytes).to_vec() } else { Sha256::digest(bytes).to_vec() }
    }

    fn hmac(&self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        if self.sha512 {
            Hmac::<Sha512>::new_from_slice(key).unwrap().chain_update(bytes).finalize().into_bytes().to_vec()
        } else {
            Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(bytes).finalize().into_bytes().to_vec()
        }
    }

    /// Hi(), the salted password.
    fn salted(&self) -> Vec<u8> {
        let mut last = self.hmac(self.password.as_bytes(), &[&self.salt[..], &1_u32.to_be_bytes()].concat());
        let mut sum = last.clone();
        for _ in 1..self.iterations {
            last = self.hmac(self.password.as_bytes(), &last);
            sum.iter_mut().zip(&last).for_each(|(sum, last)| *sum ^= last);
        }
        sum
    }

    fn first(&mut self, client: &[u8]) -> Vec<u8> {
        let client = std::str::from_utf8(client).unwrap();
        // Kafka takes this header alone: no channel binding, no other identity.
        let bare = client.strip_prefix("n,,").expect("the header that Kafka takes");
        let (_, nonce) = bare.split_once(",r=").unwrap();
        assert!(nonce.len() >= 16, "a nonce that nobody guesses: {nonce}");
        let said = format!("r={nonce}{},s={},i={}", self.nonce, BASE64.encode(&self.salt), self.iterations);
        self.said = format!("{bare},{said}");
        said.into_bytes()
    }

    /// Verifies the client's proof, and gives ours.
    fn last(&self, client: &[u8]) -> Option<Vec<u8>> {
        let client = std::str::from_utf8(client).unwrap();
        let (without_proof, proof) = client.split_once(",p=").unwrap();
        let salted = self.salted();
        let said = format!("{},{without_proof}", self.said);
        let stored = self.hash(&self.hmac(&salted, b"Client Key"));
        let signature = self.hmac(&stored, said.as_bytes());
        let proof = BASE64.decode(proof).unwrap();
        let key: Vec<u8> = proof.iter().zip(&signature).map(|(proof, signature)| proof ^ signature).collect();
        let ours = self.hmac(&self.hmac(&salted, b"Server Key"), said.as_bytes());
        (self.hash(&key) == stored).then(|| format!("v={}", BASE64.encode(ours)).into_bytes())
    }
}

fn scrams() -> [Sasl; 2] {
    [Sasl::scram_sha256("carla", SECRET), Sasl::scram_sha512("carla", SECRET)]
}

fn login(sasl: &Sasl) -> Login {
    Login::new(sasl, None).unwrap()
}

fn sent(login: &mut Login, server: Option<&[u8]>) -> Vec<u8> {
    match login.step(server).unwrap() {
        Step::Send(message) => message,
        Step::Done => panic!("over already"),
    }
}

/// A failed step's words: who, by what, and no secret.
fn refused(login: &mut Login, server: &[u8]) -> String {
    let text = login.step(Some(server)).unwrap_err().to_string();
    assert!(text.contains(login.mechanism()) && text.contains("carla"), "{text}");
    assert!(!text.contains(SECRET) && !text.chars().any(char::is_control), "{text}");
    // It stays so, whatever comes.
    login.step(Some(server)).unwrap_err();
    login.step(None).unwrap_err();
    text
}

#[test]
fn the_server_of_these_tests_is_that_of_rfc_7677() {
    let mut server = Server {
        password: "pencil".into(),
        nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into(),
        salt: BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(),
        ..Server::new(&scrams()[0])
    };
    let first = server.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    assert_eq!(first, b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    let client = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    assert_eq!(server.last(client).unwrap(), b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn scram_proves_the_password_and_has_the_server_prove_it_too() {
    for sasl in scrams() {
        let (mut server, mut login) = (Server::new(&sasl), login(&sasl));
        assert_eq!(login.mechanism(), sasl.mechanism.name());
        let first = server.first(&sent(&mut login, None));
        let last = server.last(&sent(&mut login, Some(&first))).expect("the proof is right");
        assert_eq!(login.step(Some(&last)), Ok(Step::Done));
    }
    let sasl = Sasl::scram_sha256("a=b,c", SECRET);
    let first = sent(&mut login(&sasl), None);
    assert!(first.starts_with(b"n,,n=a=3Db=2Cc,r="), "{}", String::from_utf8_lossy(&first));
}

#[test]
fn a_server_that_does_not_know_the_password_is_refused() {
    for sasl in scrams() {
        for (password, spoilt) in [("another", false), (SECRET, true)] {
            let (mut server, mut login) = (Server::new(&sasl), login(&sasl));
            let first = server.first(&sent(&mut login, None));
            let proof = sent(&mut login, Some(&first));
            let mut last = if spoilt {
                server.last(&proof).unwrap()
            } else {
                server.password = password.into();
                assert!(server.last(&proof).is_none(), "nor does the proof fit");
                // Whatever it knows, it can say something.
                b"v=dGhpcyBpcyBubyBwcm9vZiBvZiBhbnl0aGluZyBhdCBhbGw=".to_vec()
            };
            if spoilt {
                last[5] = if last[5] == b'A' { b'B' } else { b'A' };
            }
            assert!(refused(&mut login, &last).contains("did not prove"));
        }
        // Nor is one that says no word of its own.
        for nothing in [&b""[..], b"v=", b"v", b"=", b"v=!", b"x=1", b"\xff", b",,"] {
            let (mut server, mut login) = (Server::new(&sasl), login(&sasl));
            let first = server.first(&sent(&mut login, None));
            sent(&mut login, Some(&first));
            refused(&mut login, nothing);
        }
        let (mut server, mut login) = (Server::new(&sasl), login(&sasl));
        let first = server.first(&sent(&mut login, None));
        sent(&mut login, Some(&first));
        assert!(refused(&mut login, format!("e=not-{SECRET}\n").as_bytes()).contains("not-[hidden]"));
    }
}

#[test]
fn a_server_does_not_choose_what_the_proof_costs() {
    for (iterations, taken) in [("4096", true), ("4095", false), ("1", false), ("0", false), ("4294967295", false)]
        .into_iter()
        .chain([("99999999999", false), ("+4096", false), ("-1", false), ("1000001", false), ("4096.0", false)])
    {
        let mut login = login(&scrams()[0]);
        let first = String::from_utf8(sent(&mut login, None)).unwrap();
        let (_, nonce) = first.split_once(",r=").unwrap();
        let server = format!("r={nonce}xyz,s=c2FsdA==,i={iterations}");
        let begun = Instant::now();
        if taken {
            sent(&mut login, Some(server.as_bytes()));
        } else {
            refused(&mut login, server.as_bytes());
            assert!(begun.elapsed() < Duration::from_secs(1), "it was computed all the same");
        }
    }
}

#[test]
fn what_is_no_first_message_of_a_server_is_refused() {
    for sasl in scrams() {
        for (server, words) in [
            ("", "no SCRAM"),
            ("r", "no SCRAM"),
            ("r=NONCEx,s,i=4096", "no SCRAM"),
            ("r=NONCEx,s=c2FsdA==,i", "no SCRAM"),
            ("r=NONCEx,s=c2FsdA==", "no SCRAM"),
            ("r=NONCEx,s=,i=4096", "no SCRAM"),
            ("r=NONCEx,s=c2FsdA==,i=4096,m=ext", "no SCRAM"),
            ("m=ext,r=NONCEx,s=c2FsdA==,i=4096", "no SCRAM"),
            ("r=NONCEx,s=\u{e9},i=4096", "no SCRAM"),
            ("r=another,s=c2FsdA==,i=4096", "nonce"),
            ("r=NONCE,s=c2FsdA==,i=4096", "nonce"),
            ("r=NONCEx,s=c2FsdA,i=4096", "base64"),
            ("e=unknown-user", "unknown-user"),
        ] {
            let mut login = login(&sasl);
            let first = String::from_utf8(sent(&mut login, None)).unwrap();
            let (_, nonce) = first.split_once(",r=").unwrap();
            let text = refused(&mut login, server.replace("NONCE", nonce).as_bytes());
            assert!(text.contains(words), "{server}: {text}");
        }
        refused(
            &mut {
                let mut login = login(&sasl);
                sent(&mut login, None);
                login
            },
            b"\xff\xfe",
        );
    }
}

#[test]
fn a_step_without_an_answer_is_an_error() {
    for sasl in scrams().into_iter().chain([Sasl::plain("carla", SECRET)]) {
        let mut login = login(&sasl);
        sent(&mut login, None);
        assert!(login.step(None).unwrap_err().to_string().contains("said nothing"));
    }
}

proptest! {
    /// The pieces of good messages in any order, and bytes of any kind.
    #[test]
    fn no_message_of_a_server_is_a_panic(
        first in proptest::collection::vec(prop_oneof![
            Just("r=".to_owned()), Just("NONCE".to_owned()), Just(",".to_owned()), Just("s=".to_owned()),
            Just("c2FsdA==".to_owned()), Just("i=".to_owned()), Just("4096".to_owned()), Just("v=".to_owned()),
            Just("e=".to_owned()), "\\PC{0,3}",
        ], 0..9),
        last in proptest::collection::vec(any::<u8>(), 0..40),
        // Which costs a proof.
        well_begun in proptest::bool::weighted(0.05),
    ) {
        let mut login = login(&scrams()[0]);
        let mine = String::from_utf8(sent(&mut login, None)).unwrap();
        let (_, nonce) = mine.split_once(",r=").unwrap();
        let first = if well_begun { "r=NONCEx,s=c2FsdA==,i=4096".into() } else { first.concat() };
        if login.step(Some(first.replace("NONCE", nonce).as_bytes())).is_ok() {
            prop_assert!(login.step(Some(&last)).is_err());
            prop_assert!(login.step(Some(&last)).is_err());
        }
    }
}

#[test]
fn plain_says_user_and_password_and_no_more() {
    let mut login = login(&Sasl::plain("carla", SECRET));
    assert_eq!(login.mechanism(), "PLAIN");
    assert_eq!(sent(&mut login, None), format!("\0carla\0{SECRET}").as_bytes());
    assert_eq!(login.step(Some(b"")), Ok(Step::Done));
    let text = login.refused(&format!("Invalid username or password: carla/{SECRET}\r\nnext line")).to_string();
    assert!(text.contains("PLAIN") && text.contains("\"carla\"") && text.contains("carla/[hidden]"), "{text}");
    assert!(!text.contains(SECRET) && !text.contains('\n'), "{text}");
    assert!(login.refused(&"x".repeat(10_000)).to_string().len() < 1_000);
}

#[test]
fn oauthbearer_sends_the_token_and_answers_a_refusal() {
    let sasl = Sasl::oauthbearer(|| Err("not called here".into()));
    assert!(Login::new(&sasl, None).is_err());
    let token = OauthToken::new("abc.DEF-1", Duration::from_secs(60));
    let mut login = Login::new(&sasl, Some(&token)).unwrap();
    assert_eq!(login.mechanism(), "OAUTHBEARER");
    assert_eq!(sent(&mut login, None), b"n,,\x01auth=Bearer abc.DEF-1\x01\x01");
    assert_eq!(login.step(Some(b"")), Ok(Step::Done));

    for reason in [&br#"{"status":"invalid_token","scope":"abc.DEF-1"}"#[..], b"\xffno JSON at all"] {
        let mut login = Login::new(&sasl, Some(&token)).unwrap();
        sent(&mut login, None);
        assert_eq!(sent(&mut login, Some(reason)), [1]);
        // Kafka ends it by an error code.
        for text in [login.refused("no abc.DEF-1 here").to_string(), login.step(Some(b"")).unwrap_err().to_string()] {
            let shown = String::from_utf8_lossy(reason).replace("abc.DEF-1", "[hidden]");
            assert!(text.contains("OAUTHBEARER") && text.contains(&format!("refused the token by {shown}")), "{text}");
            assert!(!text.contains("abc.DEF-1"), "{text}");
        }
    }
}
