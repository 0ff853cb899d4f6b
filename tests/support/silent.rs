//! A peer that accepts connections and never answers.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

/// Holds its connections open, unread, until it is dropped.
pub struct SilentPeer {
    address: SocketAddr,
    held: Arc<Mutex<Vec<TcpStream>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

pub fn silent_peer() -> SilentPeer {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap_or_else(|error| panic!("cannot listen for the silent peer: {error}"));
    let address = listener.local_addr().unwrap_or_else(|error| panic!("the silent peer has no address: {error}"));
    let held = Arc::new(Mutex::new(Vec::new()));
    let stopping = Arc::new(AtomicBool::new(false));
    let thread = thread::spawn({
        let (held, stopping) = (held.clone(), stopping.clone());
        move || hold(&listener, &held, &stopping)
    });
    SilentPeer { address, held, stopping, thread: Some(thread) }
}

impl SilentPeer {
    /// "127.0.0.1:port".
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.held.lock().len()
    }
}

impl Drop for SilentPeer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread from `accept`; if that fails, joining could last forever.
        if TcpStream::connect(self.address).is_ok() {
            self.thread.take().map(JoinHandle::join);
        }
    }
}

fn hold(listener: &TcpListener, held: &Mutex<Vec<TcpStream>>, stopping: &AtomicBool) {
    for stream in listener.incoming() {
        if stopping.load(Ordering::SeqCst) {
            return;
        }
        if let Ok(stream) = stream {
            held.lock().push(stream);
        }
    }
}
