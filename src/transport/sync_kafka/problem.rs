//! Why a call of the `kafka` crate failed, in our words: no error of that crate goes further.

use kafka::error::{Error as KafkaError, KafkaCode};

use crate::error::StartupErrorKind;

/// Why a call failed.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) words: String,
    /// The class it has for a start-up check, where it is more than an unreachable broker.
    pub(super) kind: Option<StartupErrorKind>,
    /// Sending again cannot help.
    pub(super) permanent: bool,
    /// Sending less at once can.
    pub(super) too_large: bool,
}

impl Problem {
    pub(super) fn new(words: impl Into<String>) -> Problem {
        Problem { words: words.into(), kind: None, permanent: false, too_large: false }
    }

    pub(super) fn of_kind(kind: StartupErrorKind, words: impl Into<String>) -> Problem {
        Problem { kind: Some(kind), ..Problem::new(words) }
    }

    pub(super) fn unknown_topic(topic: &str) -> Problem {
        Problem::of_kind(
            StartupErrorKind::UnknownTopic,
            format!("the topic {topic} does not exist, may not be seen, or has no partition with a leader"),
        )
    }

    /// The connection failed, or the answer could not be read.
    pub(super) fn of_client(error: &KafkaError) -> Problem {
        Problem::new(match error {
            KafkaError::NoHostReachable => "no broker could be reached".into(),
            KafkaError::Kafka(code) => format!("the broker answered {code:?}"),
            error => format!("the connection failed: {error}"),
        })
    }

    /// The broker answered with an error for the load.
    pub(super) fn refusal(code: KafkaCode, partition: i32) -> Problem {
        let problem = Problem::new(format!("the broker answered {code:?} for partition {partition}"));
        match code {
            // Code 18, RECORD_LIST_TOO_LARGE, is what a batch over the segment size gets.
            KafkaCode::MessageSizeTooLarge | KafkaCode::RecordListTooLarge => {
                Problem { too_large: true, permanent: true, ..problem }
            }
            KafkaCode::TopicAuthorizationFailed | KafkaCode::ClusterAuthorizationFailed | KafkaCode::InvalidTopic => {
                Problem { kind: Some(StartupErrorKind::Refused), permanent: true, ..problem }
            }
            _ => problem,
        }
    }
}
