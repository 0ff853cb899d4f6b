//! The idempotent producer's session: the id and epoch under which batches are numbered.

use super::records::Producer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Session {
    /// Batches are not numbered.
    Off,
    /// An id is to be asked for.
    Wanted,
    Asked {
        connection: usize,
    },
    Open {
        id: i64,
        epoch: i16,
    },
}

impl Session {
    /// Under which new batches go out; none while there is no id yet.
    pub(super) fn producer(&self) -> Option<Producer> {
        match *self {
            Session::Off => Some(Producer::NONE),
            Session::Open { id, epoch } => Some(Producer { id, epoch, base_sequence: 0 }),
            Session::Wanted | Session::Asked { .. } => None,
        }
    }

    /// Some partition has to begin anew. The id is ours alone, so the epoch can be raised without a word to the brokers
    /// (KIP-360); what is still on its way under the old one is refused from then on.
    pub(super) fn raise_epoch(&mut self) {
        if let Session::Open { id, epoch } = *self {
            *self = match epoch.checked_add(1) {
                Some(epoch) => Session::Open { id, epoch },
                None => Session::Wanted,
            };
        }
    }

    /// The connection that was asked is no more.
    pub(super) fn lose(&mut self, lost: usize) {
        if *self == (Session::Asked { connection: lost }) {
            *self = Session::Wanted;
        }
    }
}
