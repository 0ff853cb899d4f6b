//! A loopback TCP proxy whose behaviour tests change at run time.
//!
//! A Kafka client uses its bootstrap address only to learn the advertised ones, so a broker
//! has to advertise the proxy for it to stay in between: see `Broker::start_behind_proxy`.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwards.
    Pass,
    /// Accepts and holds connections, new and current, and forwards nothing. What was sent
    /// meanwhile is forwarded once the proxy passes again, like after a network outage.
    Blackhole,
    /// Closes new connections at once, and the current ones when it is set.
    Refuse,
    /// Cuts the current connections when it is set, and passes new ones.
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
        let shared = Arc::new(Shared {
            state: Mutex::new(State { mode: Mode::Pass, upstream, stopping: false, accepted: 0, open: Vec::new() }),
            changed: Condvar::new(),
            observer,
        });
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
        if matches!(mode, Mode::Refuse | Mode::Reset) {
            state.cut();
        }
        self.shared.changed.notify_all();
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
    upstream: String,
    stopping: bool,
    accepted: usize,
    /// Both ends of each open connection, by the number it was accepted as.
    open: Vec<(usize, Vec<TcpStream>)>,
}

impl State {
    fn cut(&self) {
        for stream in self.open.iter().flat_map(|(_, ends)| ends) {
            // An error means that the peer has closed it already.
            stream.shutdown(Shutdown::Both).ok();
        }
    }
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
            state.open.push((number, vec![held]));
            let shared = shared.clone();
            thread::spawn(move || {
                serve(number, &client, &shared).ok();
                shared.state.lock().open.retain(|(open, _)| *open != number);
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
        scope.spawn(|| pump(client, &upstream, shared, |bytes| (shared.observer)(number, bytes)));
        pump(&upstream, client, shared, |_| {});
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
    if let Some((_, ends)) = state.open.iter_mut().find(|(open, _)| *open == number) {
        ends.push(held);
    }
    Ok(true)
}

/// Forwards one direction until either side ends, then ends both.
fn pump(mut from: &TcpStream, mut to: &TcpStream, shared: &Shared, observe: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(length) if length > 0 => {
                if !shared.may_forward() {
                    break;
                }
                observe(&buffer[..length]);
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            _ => break,
        }
    }
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}
