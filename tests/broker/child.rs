//! This program once more, as an application with a logger of its own: for trials that need another process.

use std::env;
use std::process::Command;

use kafka_log::Config;

use crate::target::{Client, Target};

const CLIENT: &str = "KAFKA_LOG_CHILD_CLIENT";
const SERVERS: &str = "KAFKA_LOG_CHILD_SERVERS";
const TOPIC: &str = "KAFKA_LOG_CHILD_TOPIC";

/// To be started with a variable of the trial's own, by which `main` knows whose child it is.
pub(crate) fn command(target: &Target, servers: &str, topic: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(CLIENT, format!("{:?}", target.client)).env(SERVERS, servers).env(TOPIC, topic);
    command
}

// ---- the child's side -----------------------------------------------------------------------------------------------

/// With the client, the servers and the topic that the parent gave.
pub(crate) fn config() -> Config {
    config_at(&variable(SERVERS))
}

/// The same with other servers.
pub(crate) fn config_at(servers: &str) -> Config {
    client().chosen(Config::new(servers, variable(TOPIC)))
}

pub(crate) fn client() -> Client {
    Client::named(&variable(CLIENT))
}

pub(crate) fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("the parent did not give {name}"))
}
