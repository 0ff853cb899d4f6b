//! Bearer tokens, which the application gives and which it may take its time for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::Call;
use crate::config::{OauthToken, TokenCallback, without_secret};
use crate::recursion;

/// Asks for tokens on a thread of its own, one call at a time.
#[derive(Clone)]
pub(super) struct Tokens {
    callback: TokenCallback,
    /// Called when an answer has come.
    call: Call,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    answered: Condvar,
}

#[derive(Default)]
struct State {
    token: Option<OauthToken>,
    /// Why the last call gave none; told once.
    failed: Option<String>,
    under_way: bool,
}

/// What there is for a connection.
#[derive(Debug)]
pub(super) enum Token {
    Ready(OauthToken),
    /// The callback has been called: `call` says when it has answered.
    Awaited,
    /// In words that hold no token. The next request tries again.
    Failed(String),
}

impl Tokens {
    pub(super) fn new(callback: &TokenCallback, call: &Call) -> Tokens {
        let shared = Shared { state: Mutex::default(), answered: Condvar::new() };
        Tokens { callback: callback.clone(), call: Arc::clone(call), shared: Arc::new(shared) }
    }

    /// Has the first token on its way.
    pub(super) fn begin(&self) {
        self.start(&mut self.shared.state.lock());
    }

    /// A token with some life in it: one that has little left is renewed first, and used while the next cannot be had.
    pub(super) fn request(&self) -> Token {
        self.look(false)
    }

    /// A token as it is, if there is one; one that has little life left is renewed behind it, and one that could not be
    /// had is asked for again at once.
    pub(super) fn at_hand(&self) -> Token {
        self.look(true)
    }

    /// Waits for the answer of a call that is under way.
    pub(super) fn wait_until(&self, deadline: Instant) {
        let mut state = self.shared.state.lock();
        while state.under_way && !self.shared.answered.wait_until(&mut state, deadline).timed_out() {}
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.shared.state.lock().under_way
    }

    /// Whether a call is under way and there is no token meanwhile.
    pub(super) fn is_awaited(&self) -> bool {
        let state = self.shared.state.lock();
        state.under_way && state.token.as_ref().is_none_or(is_over)
    }

    /// A text of others, in which they may have repeated the token.
    pub(super) fn without_token(&self, text: &str) -> String {
        match &self.shared.state.lock().token {
            Some(token) => without_secret(text, &token.token),
            None => text.to_owned(),
        }
    }

    /// Forgets a token that a broker refused.
    pub(super) fn forget(&self, refused: &str) {
        self.shared.state.lock().token.take_if(|token| token.token == refused);
    }

    fn look(&self, as_it_is: bool) -> Token {
        let mut state = self.shared.state.lock();
        state.token.take_if(|token| is_over(token));
        let failed = state.failed.take();
        match state.token.clone() {
            Some(token) if !is_old(&token) => return Token::Ready(token),
            // No better one could be had.
            Some(token) if failed.is_some() => return Token::Ready(token),
            Some(token) if as_it_is => {
                self.start(&mut state);
                return Token::Ready(token);
            }
            _ => {}
        }
        match failed {
            Some(failed) => {
                if as_it_is {
                    // For the next time.
                    self.start(&mut state);
                }
                Token::Failed(failed)
            }
            None => {
                self.start(&mut state);
                // Without a thread it has failed already.
                state.failed.take().map_or(Token::Awaited, Token::Failed)
            }
        }
    }

    fn start(&self, state: &mut State) {
        if state.under_way {
            return;
        }
        let (callback, shared, call) = (self.callback.clone(), Arc::clone(&self.shared), Arc::clone(&self.call));
        let run = move || {
            let _ours = recursion::enter();
            let answer = ask(&callback);
            let mut state = shared.state.lock();
            state.under_way = false;
            match answer {
                Ok(token) => state.token = Some(token),
                Err(words) => state.failed = Some(words),
            }
            drop(state);
            shared.answered.notify_all();
            call();
        };
        match thread::Builder::new().name("kafka_log-token".into()).spawn(run) {
            Ok(_) => state.under_way = true,
            Err(error) => state.failed = Some(format!("no thread could be started for the token callback: {error}")),
        }
    }
}

fn ask(callback: &TokenCallback) -> Result<OauthToken, String> {
    let answer = catch_unwind(AssertUnwindSafe(|| match (callback.0)() {
        Ok(token) => Ok(token),
        // Its words are the application's too, and may panic.
        Err(error) => Err(format!("the token callback failed: {error}")),
    }));
    let token = answer.unwrap_or_else(|_| Err("the token callback panicked".into()))?;
    // What has a control character would end the message early, and go on as another.
    if token.token.is_empty() || !token.token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the token callback gave no token of visible ASCII characters".into());
    }
    if is_over(&token) {
        return Err("the token callback gave a token whose lifetime is over".into());
    }
    Ok(token)
}

fn is_over(token: &OauthToken) -> bool {
    token.made.elapsed() >= token.lifetime
}

fn is_old(token: &OauthToken) -> bool {
    token.made.elapsed() >= token.lifetime / 5 * 4
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);
    const HOUR: Duration = Duration::from_secs(3_600);

    type Answer = Result<OauthToken, Box<dyn std::error::Error + Send + Sync>>;
    type Script = Box<dyn FnOnce() -> Answer + Send>;

    /// Tokens from these answers, and what hears of each.
    fn tokens(answers: mpsc::Receiver<Script>) -> (Tokens, mpsc::Receiver<()>) {
        let answers = Mutex::new(answers);
        let at_once = AtomicU32::new(0);
        let callback = TokenCallback(Arc::new(move || {
            assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0, "two calls at once");
            let answer = answers.lock().recv_timeout(SOON);
            at_once.fetch_sub(1, Ordering::SeqCst);
            answer?()
        }));
        let (called, calls) = mpsc::channel();
        let called = Mutex::new(called);
        (Tokens::new(&callback, &(Arc::new(move || called.lock().send(()).unwrap()) as Call)), calls)
    }

    fn text(token: Token) -> String {
        match token {
            Token::Ready(token) => token.token,
            Token::Awaited => "awaited".into(),
            Token::Failed(words) => words,
        }
    }

    #[test]
    fn a_token_is_asked_for_once_on_another_thread_and_kept() {
        let (answer, answers) = mpsc::channel::<Script>();
        let (tokens, calls) = tokens(answers);
        assert_eq!(text(tokens.request()), "awaited");
        assert_eq!(text(tokens.at_hand()), "awaited");
        assert!(tokens.is_awaited());
        // A second call would have failed by the time that the first has ended, and be heard of first.
        let on_ours = Box::new(|| {
            assert!(recursion::on_our_thread());
            assert_eq!(thread::current().name(), Some("kafka_log-token"));
            Ok(OauthToken::new("one", HOUR))
        });
        answer.send(on_ours).unwrap();
        tokens.wait_until(Instant::now() + SOON);
        calls.recv_timeout(SOON).unwrap();
        assert!(!tokens.is_awaited());
        assert_eq!([text(tokens.request()), text(tokens.at_hand())], ["one", "one"]);
        tokens.forget("another");
        assert_eq!(text(tokens.request()), "one");
        tokens.forget("one");
        assert_eq!(text(tokens.request()), "awaited");
        answer.send(Box::new(|| Ok(OauthToken::new("two", HOUR)))).unwrap();
        tokens.wait_until(Instant::now() + SOON);
        assert_eq!(text(tokens.request()), "two");
    }

    #[test]
    fn an_old_token_is_renewed_and_used_where_that_fails() {
        let old = |name: &str| OauthToken { made: Instant::now() - HOUR / 10 * 9, ..OauthToken::new(name, HOUR) };
        let (answer, answers) = mpsc::channel::<Script>();
        let (tokens, calls) = tokens(answers);
        tokens.shared.state.lock().token = Some(old("old"));
        assert_eq!(text(tokens.request()), "awaited");
        assert_eq!(text(tokens.at_hand()), "old", "it can be used meanwhile");
        assert!(!tokens.is_awaited());
        answer.send(Box::new(|| Err("no".into()))).unwrap();
        calls.recv_timeout(SOON).unwrap();
        assert_eq!(text(tokens.request()), "old");
        assert_eq!(text(tokens.request()), "awaited", "and asked for again");
        answer.send(Box::new(|| Ok(OauthToken::new("new", HOUR)))).unwrap();
        calls.recv_timeout(SOON).unwrap();
        assert_eq!(text(tokens.request()), "new");
    }

    #[test]
    fn what_is_no_token_is_told_once_and_asked_for_again() {
        let over = || OauthToken { made: Instant::now() - HOUR, ..OauthToken::new("hunter2", HOUR) };
        let (answer, answers) = mpsc::channel::<Script>();
        let (tokens, calls) = tokens(answers);
        let wrong: [(Script, &str); 5] = [
            (Box::new(|| Err("the provider is down".into())), "the token callback failed: the provider is down"),
            (Box::new(|| panic!("on purpose")), "the token callback panicked"),
            (Box::new(|| Ok(OauthToken::new("", HOUR))), "no token of visible"),
            (Box::new(|| Ok(OauthToken::new("hunter2\u{1}host=evil", HOUR))), "no token of visible"),
            (Box::new(move || Ok(over())), "lifetime is over"),
        ];
        for (wrong, words) in wrong {
            assert_eq!(text(tokens.request()), "awaited");
            answer.send(wrong).unwrap();
            calls.recv_timeout(SOON).unwrap();
            let said = text(tokens.request());
            assert!(said.contains(words) && !said.contains("hunter2"), "{said}");
        }
    }
}
