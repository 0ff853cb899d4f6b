//! The records that are logged: each another, the same ones for every logger.

use log::Log;

/// Every record's target.
pub const TARGET: &str = "api";

const IDS: u64 = 1 << 12;

/// What records are made of. It is made beforehand, since it is no part of a log call.
pub struct Records {
    ids: Vec<String>,
    /// Where messages of a certain length are cut from, and that length.
    text: Option<(String, usize)>,
}

/// What one call logs.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub n: u64,
    pub user_id: &'a str,
    pub took_us: u64,
    /// The message, where it is to have a certain length.
    pub text: Option<&'a str>,
}

impl Records {
    /// Records of some 125 bytes of payload; or those whose message has so many bytes.
    pub fn new(message: Option<usize>) -> Records {
        let ids = (0..IDS).map(|id| format!("u_{}", mixed(id) % 100_000)).collect();
        let text = message.map(|length| {
            let words = ["order", "user", "request", "answered", "retried", "in", "cache", "by", "shard", "0x1f"];
            let mut text = String::new();
            for n in 0.. {
                if text.len() >= length + IDS as usize {
                    break;
                }
                text.push_str(words[(mixed(n) % words.len() as u64) as usize]);
                text.push(' ');
            }
            (text, length)
        });
        Records { ids, text }
    }

    #[inline]
    pub fn get(&self, n: u64) -> Record<'_> {
        let chance = mixed(n);
        let text = self.text.as_ref().map(|(text, length)| {
            let from = (chance >> 32 & (IDS - 1)) as usize;
            &text[from..from + length]
        });
        Record { n, user_id: &self.ids[(chance & (IDS - 1)) as usize], took_us: chance % 10_000, text }
    }
}

impl Record<'_> {
    /// The call that is measured.
    #[inline]
    pub fn log(self) {
        let Record { n, user_id, took_us, text } = self;
        match text {
            None => log::info!(target: TARGET, user_id = user_id, took_us = took_us; "request {n} answered"),
            Some(text) => log::info!(target: TARGET, user_id = user_id, took_us = took_us; "{text}"),
        }
    }

    /// The same by this logger, whatever the process's is.
    #[inline]
    pub fn log_by(self, logger: &dyn Log) {
        let Record { n, user_id, took_us, text } = self;
        match text {
            None => {
                log::info!(logger: logger, target: TARGET, user_id = user_id, took_us = took_us; "request {n} answered");
            }
            Some(text) => log::info!(logger: logger, target: TARGET, user_id = user_id, took_us = took_us; "{text}"),
        }
    }

    /// The same below the level that is logged.
    #[inline]
    pub fn log_debug(self) {
        let Record { n, user_id, took_us, .. } = self;
        log::debug!(target: TARGET, user_id = user_id, took_us = took_us; "request {n} answered");
    }
}

/// SplitMix64's finish: numbers without a pattern, each always the same.
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
