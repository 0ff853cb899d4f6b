//! A loopback TCP proxy whose behaviour tests change at run time.
//!
//! A Kafka client uses its bootstrap address only to learn the advertised ones, so a broker
//! has to advertise the proxy for it to stay in between: see `Broker::start_behind_proxy`.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use socket2::SockRef;

/// What is read at once. With a bandwidth it is less, so that a change takes effect soon.
const MOST_AT_ONCE: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwards.
    Pass,
    /// Accepts and holds connections, new and current, and forwards nothing. What was sent
    /// meanwhile is forwarded once the proxy passes again, like after a network outage.
    Blackhole,
    /// Accepts, reads, and throws it all away, in both directions. A connection that has lost something stays
    /// silent for as long as it lives, as behind a router that has forgotten it.
    Swallow,
    /// Closes new connections at once, and the current ones when it is set.
    Refuse,
    /// Ends the current connections in good order when it is set, and passes new ones.
    Cut,
    /// Resets the clients' current connections when it is set, as a machine does that has started anew, and passes
    /// new ones.
    Reset,
}

/// Is given what clients send, before it is forwarded, with the number of the connection: 1 for the first.
pub type Observer = Box<dyn Fn(usize, &[u8]) + Send + Sync>;

pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free loopback port and forwards to `upstream`, "host:port".
    pub fn start(upstream: String) -> Proxy {
        Proxy::start_observed(upstream, Box::new(|_, _| {}))
    }

    /// The same, with an observer.
    pub fn start_observed(upstream: String, observer: Observer) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap_or_else(|error| panic!("cannot listen for the proxy: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("the proxy has no address: {error}"));
        let shared = Arc::new(Shared { state: Mutex::new(State::new(upstream)), changed: Condvar::new(), observer });
        let thread = thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, &shared)
        });
        Proxy { address, shared, thread: Some(thread) }
    }

    /// "127.0.0.1:port".
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Takes effect at once, for current connections as well.
    pub fn set(&self, mode: Mode) {
        let mut state = self.shared.state.lock();
        state.mode = mode;
        match mode {
            Mode::Refuse | Mode::Cut => state.cut(),
            Mode::Reset => state.reset(),
            Mode::Pass | Mode::Blackhole | Mode::Swallow => {}
        }
        self.shared.changed.notify_all();
    }

    pub fn mode(&self) -> Mode {
        self.shared.state.lock().mode
    }

    /// Forwards whatever comes so much later from now on, in each direction. It adds to what a bandwidth takes.
    pub fn delay(&self, delay: Duration) {
        self.shared.state.lock().delay = delay;
        self.shared.changed.notify_all();
    }

    /// Forwards so many bytes a second of each connection and direction from now on, or all that come.
    pub fn limit(&self, bytes_a_second: Option<usize>) {
        self.shared.state.lock().bandwidth = bytes_a_second;
        self.shared.changed.notify_all();
    }

    /// Ends a connection in the middle of a request, once: after so many bytes of the next thing that is longer.
    pub fn halve(&self, after: usize) {
        self.shared.state.lock().halve = Some(after);
    }

    /// How many requests were halved so far.
    pub fn halved(&self) -> usize {
        self.shared.state.lock().halved
    }

    /// Undoes all of this: passes at full speed from now on.
    pub fn heal(&self) {
        {
            let mut state = self.shared.state.lock();
            (state.delay, state.bandwidth, state.halve) = (Duration::ZERO, None, None);
        }
        self.set(Mode::Pass);
    }

    /// Where connections accepted from now on are forwarded to.
    pub fn set_upstream(&self, upstream: String) {
        self.shared.state.lock().upstream = upstream;
    }

    /// How many connections are open now.
    pub fn connections(&self) -> usize {
        self.shared.state.lock().open.len()
    }

    /// How many connections were accepted so far, refused ones included.
    pub fn accepted(&self) -> usize {
        self.shared.state.lock().accepted
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state.lock();
            state.stopping = true;
            state.cut();
            self.shared.changed.notify_all();
        }
        // Wakes the thread from `accept`; if that fails, joining could last forever.
        if TcpStream::connect(self.address).is_ok() {
            self.thread.take().map(JoinHandle::join);
        }
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    observer: Observer,
}

struct State {
    mode: Mode,
    delay: Duration,
    bandwidth: Option<usize>,
    halve: Option<usize>,
    halved: usize,
    upstream: String,
    stopping: bool,
    accepted: usize,
    open: Vec<Open>,
}

struct Open {
    number: usize,
    client: TcpStream,
    upstream: Option<TcpStream>,
    /// Something that was sent on it was thrown away, so the rest must not arrive either.
    spoiled: bool,
    /// The client is to see no end in good order.
    reset: bool,
}

impl Open {
    fn end(&self) {
        // An error means that the peer has closed it already.
        if self.reset {
            // No more than that: the closing makes it a reset.
            self.client.shutdown(Shutdown::Read).ok();
        } else {
            self.client.shutdown(Shutdown::Both).ok();
        }
        if let Some(upstream) = &self.upstream {
            upstream.shutdown(Shutdown::Both).ok();
        }
    }
}

impl State {
    fn new(upstream: String) -> State {
        State {
            mode: Mode::Pass,
            delay: Duration::ZERO,
            bandwidth: None,
            halve: None,
            halved: 0,
            upstream,
            stopping: false,
            accepted: 0,
            open: Vec::new(),
        }
    }

    fn cut(&self) {
        self.open.iter().for_each(Open::end);
    }

    fn reset(&mut self) {
        for open in &mut self.open {
            // With no time to linger, closing discards what is unsent and sends a reset.
            open.reset = SockRef::from(&open.client).set_linger(Some(Duration::ZERO)).is_ok();
            open.end();
        }
    }

    fn open(&mut self, number: usize) -> Option<&mut Open> {
        self.open.iter_mut().find(|open| open.number == number)
    }
}

/// What is to become of bytes that were read.
enum Fate {
    Forwarded,
    /// As many of them, and then the connection ends.
    Halved(usize),
    Swallowed,
    End,
}

impl Shared {
    /// Waits for the end of a black hole; false when nothing is to be forwarded after it.
    fn may_forward(&self) -> bool {
        let mut state = self.state.lock();
        while state.mode == Mode::Blackhole && !state.stopping {
            self.changed.wait(&mut state);
        }
        !state.stopping && state.mode != Mode::Refuse
    }

    fn decide(&self, number: usize, bytes: usize, by_client: bool) -> Fate {
        if !self.may_forward() {
            return Fate::End;
        }
        let mut state = self.state.lock();
        let swallows = state.mode == Mode::Swallow;
        let Some(open) = state.open(number) else { return Fate::End };
        open.spoiled |= swallows;
        if open.spoiled {
            return Fate::Swallowed;
        }
        match state.halve.filter(|after| by_client && bytes > *after) {
            Some(after) => {
                state.halve = None;
                state.halved += 1;
                Fate::Halved(after)
            }
            None => Fate::Forwarded,
        }
    }

    /// How many bytes to read at once.
    fn at_once(&self) -> usize {
        const A_SECOND: usize = 20;
        self.state.lock().bandwidth.map_or(MOST_AT_ONCE, |bandwidth| (bandwidth / A_SECOND).clamp(1, MOST_AT_ONCE))
    }

    /// Takes the time that so many bytes take.
    fn pace(&self, bytes: usize) {
        let begun = Instant::now();
        let mut state = self.state.lock();
        // Asked again after each change, so that the end of a delay is the end of it.
        loop {
            let transfer = state
                .bandwidth
                .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64));
            let until = begun + state.delay + transfer;
            if state.stopping || Instant::now() >= until {
                return;
            }
            self.changed.wait_until(&mut state, until);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let mut state = shared.state.lock();
        if state.stopping {
            return;
        }
        let Ok(client) = client else { continue };
        state.accepted += 1;
        let number = state.accepted;
        if state.mode == Mode::Refuse {
            // Dropping `client` closes it.
            continue;
        }
        if let Ok(held) = client.try_clone() {
            state.open.push(Open { number, client: held, upstream: None, spoiled: false, reset: false });
            let shared = shared.clone();
            thread::spawn(move || {
                serve(number, &client, &shared).ok();
                shared.state.lock().open.retain(|open| open.number != number);
            });
        }
    }
}

fn serve(number: usize, client: &TcpStream, shared: &Shared) -> io::Result<()> {
    if !shared.may_forward() {
        return Ok(());
    }
    let address = shared.state.lock().upstream.clone();
    let upstream = TcpStream::connect(address)?;
    if !register(number, &upstream, shared)? {
        return Ok(());
    }
    // Latency is the broker's and the client's affair, not to be added to here.
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| pump(number, client, &upstream, shared, Some(&shared.observer)));
        pump(number, &upstream, client, shared, None);
    });
    Ok(())
}

/// False when there is nothing to be forwarded any more.
fn register(number: usize, upstream: &TcpStream, shared: &Shared) -> io::Result<bool> {
    let held = upstream.try_clone()?;
    let mut state = shared.state.lock();
    if state.stopping || state.mode == Mode::Refuse {
        return Ok(false);
    }
    let Some(open) = state.open(number).filter(|open| !open.reset) else { return Ok(false) };
    open.upstream = Some(held);
    Ok(true)
}

/// Forwards one direction until either side ends, then ends both. What clients send is observed.
fn pump(number: usize, mut from: &TcpStream, mut to: &TcpStream, shared: &Shared, observer: Option<&Observer>) {
    let mut buffer = vec![0; MOST_AT_ONCE];
    loop {
        let at_once = shared.at_once();
        let length = match from.read(&mut buffer[..at_once]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(length) if length > 0 => length,
            _ => break,
        };
        shared.pace(length);
        let fate = shared.decide(number, length, observer.is_some());
        let forwarded = match fate {
            Fate::Forwarded => length,
            Fate::Halved(after) => after,
            Fate::Swallowed => continue,
            Fate::End => break,
        };
        if let Some(observe) = observer {
            observe(number, &buffer[..forwarded]);
        }
        if to.write_all(&buffer[..forwarded]).is_err() || forwarded < length {
            break;
        }
    }
    if let Some(open) = shared.state.lock().open(number) {
        open.end();
    }
}
