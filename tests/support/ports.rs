//! Free loopback ports for servers that are told their port before they start.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that systems give to outgoing connections. From those, a client that
/// tries to reach a stopped broker would now and then take the broker's port for itself,
/// and even connect to itself, before the broker is started again.
const FIRST: u32 = 20_000;
const COUNT: u32 = 10_000;

/// A port nobody listens on now, and no earlier call in this process has returned.
pub fn free() -> Result<u16, String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run at the same time begin far from each other.
    let start = process::id().wrapping_mul(997);
    (0..COUNT)
        .map(|_| NEXT.fetch_add(1, Ordering::Relaxed))
        .map(|number| FIRST + start.wrapping_add(number) % COUNT)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| format!("no free port from {FIRST} on"))
}

/// "127.0.0.1:port" with such a port.
pub fn loopback() -> Result<String, String> {
    Ok(format!("{}:{}", Ipv4Addr::LOCALHOST, free()?))
}
