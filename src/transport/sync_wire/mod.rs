//! `sync`: a producer of our own on Kafka's wire protocol.

mod auth;
mod tls;
