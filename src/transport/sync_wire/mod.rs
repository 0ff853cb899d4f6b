//! `sync`: a Kafka producer of our own.
// Nothing uses the bottom of it yet.
#![allow(dead_code)]

mod compression;
mod murmur2;
mod protocol;
mod records;
