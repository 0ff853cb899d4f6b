//! The readable line: `2026-11-22T18:44:45.123456Z info api: user authenticated user_id="u_19"`.

use std::fmt::{self, Write as _};
use std::time::{Duration, UNIX_EPOCH};

use super::cut::{Draft, Message};
use super::escape::breaks_line;
use super::fields::{Pairs, Style};
use super::output::Output;
use super::{Entry, EventTime, Formatted};

/// Writes the line of `entry`, of `limit` bytes at most.
pub(super) fn write<'b>(entry: &Entry<'_>, limit: usize, out: &mut Output<'b>) -> Formatted {
    let mut line = Line(out);
    let severity = entry.severity.as_str();
    let _ = match (entry.logger_name, entry.target) {
        (Some(name), Some(target)) => write!(line, "{} {severity} {name} {target}: ", Rfc3339(entry.time)),
        _ => write!(line, "{} {severity} {}: ", Rfc3339(entry.time), entry.logger()),
    };
    if out.is_over() {
        return Formatted::Oversize;
    }
    let message = out.len();
    let is_cut = Message::write(entry.message, out, |piece: &str, out: &mut Output<'b>| contents(piece, out));
    let message = message..out.len();
    out.make_room(limit / 2);
    let mut pairs = Pairs::new(Style::Words, out);
    pairs.write(entry.fields);
    Draft { style: Style::Words, limit, message, is_cut, pairs: &mut pairs }.finish()
}

struct Rfc3339(EventTime);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNIX_EPOCH.checked_add(Duration::from_micros(self.0.micros)) {
            // Years after 9999 have no RFC 3339 form.
            Some(time) if self.0.seconds() < 253_402_300_800 => humantime::format_rfc3339_micros(time).fmt(f),
            _ => write!(f, "{}.{:06}", self.0.seconds(), self.0.subsec_micros()),
        }
    }
}

struct Line<'a, 'b>(&'a mut Output<'b>);

impl fmt::Write for Line<'_, '_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        contents(piece, self.0);
        Ok(())
    }
}

/// Escapes what would end the line or drive a terminal, so that a message cannot forge a second line.
fn contents(piece: &str, out: &mut Output<'_>) {
    if !out.fits(piece.len()) {
        return out.lose(piece.len());
    }
    let mut rest = piece;
    while let Some((at, c)) = rest.char_indices().find(|&(_, c)| breaks_line(c)) {
        out.push(&rest.as_bytes()[..at]);
        // `escape_default` yields ASCII.
        c.escape_default().for_each(|escaped| out.push(&[escaped as u8]));
        rest = &rest[at + c.len_utf8()..];
    }
    out.push(rest.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::format::{Buffer, Format};
    use crate::severity::Severity;

    fn line(time: SystemTime, logger_name: Option<&str>, message: &str) -> String {
        let mut out = Buffer::default();
        let entry = Entry {
            time: EventTime::from(time),
            severity: Severity::Critical,
            logger_name,
            target: Some("app"),
            message: format_args!("{message}"),
            fields: &[("user_id", "u\n19"), ("n", "3")],
        };
        Format::Text.write(&entry, 1 << 20, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn a_record_is_one_readable_line() {
        let time = UNIX_EPOCH + Duration::from_micros(1_763_837_085_000_042);
        let expected = r#"2025-11-22T18:44:45.000042Z critical app: down user_id="u\n19" n="3""#;
        assert_eq!(line(time, None, "down"), expected);
        assert_eq!(line(time, Some("api"), "down"), expected.replace("app:", "api app:"));
    }

    #[test]
    fn a_message_cannot_forge_a_second_line() {
        let text = line(UNIX_EPOCH, None, "a\nb\r\u{1b}[31m\u{2028}c\0d");
        assert!(!text.chars().any(breaks_line), "{text:?}");
        assert!(text.contains(r"a\nb\r\u{1b}[31m\u{2028}c\u{0}d"), "{text}");
    }

    #[test]
    fn a_field_cannot_forge_another_or_a_second_line() {
        let mut out = Buffer::default();
        let strange = "a=1 b\u{85}\u{9b}31m\u{2028}";
        let nested = vec![strange];
        let entry = Entry {
            time: EventTime::from(UNIX_EPOCH),
            severity: Severity::Info,
            logger_name: None,
            target: Some("app"),
            message: format_args!("m"),
            fields: &[(strange, log::kv::Value::from(strange)), ("nested", log::kv::Value::from_serde(&nested))],
        };
        Format::Text.write(&entry, 1 << 20, &mut out);
        let line = String::from_utf8(out.to_vec()).unwrap();
        assert!(!line.chars().any(breaks_line), "{line:?}");
        let escaped = r#""a=1 b\u0085\u009b31m\u2028""#;
        assert!(line.ends_with(&format!(r#"m {escaped}={escaped} nested=[{escaped}]"#)), "{line}");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_between_characters_and_escapes() {
        let message = "\u{1b}\né".repeat(200);
        for limit in 512..540 {
            let mut out = Buffer::default();
            let entry = Entry {
                time: EventTime::from(UNIX_EPOCH),
                severity: Severity::Info,
                logger_name: None,
                target: Some("app"),
                message: format_args!("{message}"),
                fields: &[("n", 3)],
            };
            let formatted = Format::Text.write(&entry, limit, &mut out);
            let Formatted::Truncated { fields_left_out: 0, original_bytes } = formatted else {
                panic!("{formatted:?}")
            };
            let line = String::from_utf8(out.to_vec()).unwrap();
            assert!(line.len() <= limit && line.len() > limit - 10, "{} of {limit}", line.len());
            let rest = line.strip_suffix(&format!("…[truncated] original_bytes={original_bytes} n=3")).unwrap();
            assert!([r"\u{1b}", r"\n", "é"].iter().any(|unit| rest.ends_with(unit)), "{rest}");
        }
    }

    #[test]
    fn a_clock_in_the_far_future_has_a_line_too() {
        let time = UNIX_EPOCH + Duration::from_secs(300_000_000_000);
        assert!(line(time, None, "m").starts_with("300000000000.000000 critical app: m"));
    }
}
