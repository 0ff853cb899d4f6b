//! What is in a broker's `server.properties`.

use std::fmt::{self, Display, Formatter};
use std::path::Path;

use super::ports;
use super::server;

/// The listener that other brokers and the tests themselves use.
pub const PLAINTEXT: &str = "PLAINTEXT";
const CONTROLLER: &str = "CONTROLLER";

/// A broker that is a controller too, as one node of a cluster of such.
#[derive(Debug)]
pub struct Node {
    pub id: usize,
    /// "127.0.0.1:port" of the two listeners that each node has.
    pub plaintext: String,
    pub controller: String,
}

impl Node {
    pub fn new(id: usize) -> Result<Node, String> {
        Ok(Node { id, plaintext: ports::loopback()?, controller: ports::loopback()? })
    }
}

/// Properties by name, and listeners, which are several properties each.
pub struct Properties {
    listeners: Vec<Listener>,
    settings: Vec<(String, String)>,
}

struct Listener {
    name: String,
    protocol: String,
    address: String,
    /// Clients never ask for a controller.
    advertised: Option<String>,
}

impl Properties {
    /// Those of one of these nodes, which keeps its files in this directory.
    pub fn of(node: &Node, nodes: &[Node], directory: &Path) -> Properties {
        let mut properties = Properties { listeners: Vec::new(), settings: Vec::new() };
        properties.add_listener(PLAINTEXT, PLAINTEXT, &node.plaintext, &node.plaintext);
        properties.listeners.push(Listener {
            name: CONTROLLER.into(),
            protocol: PLAINTEXT.into(),
            address: node.controller.clone(),
            advertised: None,
        });

        let voters: Vec<String> = nodes.iter().map(|node| format!("{}@{}", node.id, node.controller)).collect();
        // A record is acknowledged only when a majority has it, so that no single kill can lose it.
        let replicas = nodes.len().to_string();
        let in_sync = nodes.len().div_ceil(2).to_string();
        for (name, value) in [
            ("process.roles", "broker,controller"),
            ("node.id", &node.id.to_string()),
            ("controller.quorum.voters", &voters.join(",")),
            ("controller.listener.names", CONTROLLER),
            ("inter.broker.listener.name", PLAINTEXT),
            ("log.dirs", &server::data(directory).display().to_string()),
            ("auto.create.topics.enable", "false"),
            ("group.initial.rebalance.delay.ms", "0"),
            // A killed broker is let in again only after the session of its earlier life.
            ("broker.session.timeout.ms", "3000"),
            ("broker.heartbeat.interval.ms", "500"),
            ("default.replication.factor", &replicas),
            ("min.insync.replicas", &in_sync),
            // Few partitions are quicker to make.
            ("offsets.topic.replication.factor", &replicas),
            ("offsets.topic.num.partitions", "1"),
            ("transaction.state.log.replication.factor", &replicas),
            ("transaction.state.log.min.isr", &in_sync),
            ("transaction.state.log.num.partitions", "1"),
        ] {
            properties.set(name, value);
        }
        properties
    }

    /// Sets a property, instead of an earlier value if there is one.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match self.settings.iter_mut().find(|(known, _)| known == name) {
            Some((_, earlier)) => *earlier = value,
            None => self.settings.push((name.into(), value)),
        }
    }

    pub fn add_listener(&mut self, name: &str, protocol: &str, address: &str, advertised: &str) {
        self.listeners.push(Listener {
            name: name.into(),
            protocol: protocol.into(),
            address: address.into(),
            advertised: Some(advertised.into()),
        });
    }

    fn listeners(&self, shown: impl Fn(&Listener) -> Option<String>) -> String {
        self.listeners.iter().filter_map(shown).collect::<Vec<_>>().join(",")
    }
}

impl Display for Properties {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let listeners = self.listeners(|listener| Some(format!("{}://{}", listener.name, listener.address)));
        let advertised =
            self.listeners(|listener| Some(format!("{}://{}", listener.name, listener.advertised.as_ref()?)));
        let protocols = self.listeners(|listener| Some(format!("{}:{}", listener.name, listener.protocol)));
        writeln!(formatter, "listeners={listeners}")?;
        writeln!(formatter, "advertised.listeners={advertised}")?;
        writeln!(formatter, "listener.security.protocol.map={protocols}")?;
        for (name, value) in &self.settings {
            writeln!(formatter, "{name}={value}")?;
        }
        Ok(())
    }
}
