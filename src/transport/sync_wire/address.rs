//! Hosts and ports, and the look-up of names.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::recursion;

/// Where a server listens, as it was given or as a broker advertises it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// A name or an IP address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// `host:port`, validated before.
    pub(super) fn parse(server: &str) -> Option<Address> {
        let (host, port) = server.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some(Address { host: host.into(), port: port.parse().ok()? })
    }

    /// The addresses of the name, at once for what is none; else they come later, from a thread of their own.
    pub(super) fn look_up(
        &self,
        later: impl FnOnce(io::Result<Vec<SocketAddr>>) + Send + 'static,
    ) -> Option<SocketAddr> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Some(SocketAddr::new(ip, self.port));
        }
        let address = self.clone();
        // A look-up has no timeout: it can outlive the connection that it was for, and then tells nobody.
        let look_up = move || {
            let _ours = recursion::enter();
            later((address.host.as_str(), address.port).to_socket_addrs().map(Iterator::collect));
        };
        // Without a thread the connection's set-up runs into its timeout and is tried again.
        let _ = std::thread::Builder::new().name("kafka_log-names".into()).spawn(look_up);
        None
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_taken_apart_and_shown_as_given() {
        for (server, host, port) in
            [("kafka:9092", "kafka", 9092), ("10.0.0.1:1", "10.0.0.1", 1), ("[::1]:65535", "::1", 65535)]
        {
            let address = Address::parse(server).unwrap();
            assert_eq!((address.host.as_str(), address.port, address.to_string().as_str()), (host, port, server));
        }
    }

    #[test]
    fn an_ip_address_needs_no_look_up_and_a_name_is_looked_up_elsewhere() {
        let unused = |_: io::Result<Vec<SocketAddr>>| panic!("looked up");
        let found = Address::parse("[::1]:9").unwrap().look_up(unused);
        assert_eq!(found, Some("[::1]:9".parse().unwrap()));

        let (sender, receiver) = std::sync::mpsc::channel();
        let caller = std::thread::current().id();
        let address = Address::parse("localhost:9").unwrap();
        let found = address.look_up(move |found| sender.send((found, std::thread::current().id())).unwrap());
        assert_eq!(found, None);
        let (addresses, thread) = receiver.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
        assert!(addresses.unwrap().iter().all(|address| address.port() == 9 && address.ip().is_loopback()));
        assert_ne!(thread, caller);
    }
}
