//! In a build without the feature `spool` there is no store.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::{Budget, Chunk, Damage, Refusal};
use crate::config::Spool;
use crate::error::{SpoolError, SpoolErrorKind};
use crate::severity::Severity;

#[derive(Debug)]
pub(crate) enum Store {}

impl Store {
    pub(crate) fn open(spool: &Spool, _: &Arc<Budget>) -> Result<Store, SpoolError> {
        Err(SpoolError::new(SpoolErrorKind::Io, &spool.directory, "needs the feature `spool`"))
    }

    pub(crate) fn append<'a>(
        &self,
        _: impl IntoIterator<Item = (&'a [u8], Severity, i64)>,
        _: impl FnOnce(Range<u64>),
    ) -> Result<Range<u64>, Refusal> {
        match *self {}
    }

    pub(crate) fn read(&self, _: u64, _: usize) -> Result<Chunk, String> {
        match *self {}
    }

    pub(crate) fn remove_up_to(&self, _: u64) {
        match *self {}
    }

    pub(crate) fn sync_due(&self) -> Option<Duration> {
        match *self {}
    }

    pub(crate) fn sync_if_due(&self) -> Result<(), String> {
        match *self {}
    }

    pub(crate) fn sync_now(&self) -> Result<(), String> {
        match *self {}
    }

    pub(crate) fn settled(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn records(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn numbers(&self) -> Vec<Range<u64>> {
        match *self {}
    }

    #[cfg(test)]
    pub(crate) fn fail_next_sync(&self) {
        match *self {}
    }

    #[cfg(test)]
    pub(crate) fn hold_next_sync(&self) -> super::HeldSync {
        match *self {}
    }

    pub(crate) fn newest(&self) -> Chunk {
        match *self {}
    }

    pub(crate) fn bytes(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn recovered(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn damaged_at_open(&self) -> Damage {
        match *self {}
    }
}
