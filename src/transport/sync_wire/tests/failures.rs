//! What goes wrong, and what becomes of the records.

use kafka_protocol::messages::ApiKey;

use super::broker::{Act, code};
use super::*;
