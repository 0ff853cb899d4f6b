//! The default payload, which is the Python sink's.

use std::io::Write as _;

use super::cut::{Draft, Message};
use super::fields::{Pairs, Style};
use super::output::Output;
use super::{Entry, EventTime, Formatted, escape};
use crate::severity::Severity;

/// Writes the JSON object of `entry`, of `limit` bytes at most.
pub(super) fn write<'b>(entry: &Entry<'_>, limit: usize, out: &mut Output<'b>) -> Formatted {
    timestamp(entry.time, out);
    match entry.severity {
        Severity::Trace => out.push(b",\"level\":\"trace\",\"logger\":\""),
        Severity::Debug => out.push(b",\"level\":\"debug\",\"logger\":\""),
        Severity::Info => out.push(b",\"level\":\"info\",\"logger\":\""),
        Severity::Warning => out.push(b",\"level\":\"warning\",\"logger\":\""),
        Severity::Error => out.push(b",\"level\":\"error\",\"logger\":\""),
        Severity::Critical => out.push(b",\"level\":\"critical\",\"logger\":\""),
    }
    escape::contents(entry.logger(), out);
    if let (Some(_), Some(target)) = (entry.logger_name, entry.target) {
        out.push(b"\",\"target\":\"");
        escape::contents(target, out);
    }
    out.push(b"\",\"message\":\"");
    if out.is_over() {
        return Formatted::Oversize;
    }
    let message = out.len();
    let is_cut = Message::write(entry.message, out, |piece: &str, out: &mut Output<'b>| escape::contents(piece, out));
    let message = message..out.len();
    out.make_room(1 + limit / 2);
    out.push(b"\"");
    let mut pairs = Pairs::new(Style::Members, out);
    pairs.write(entry.fields);
    Draft { style: Style::Members, limit, message, is_cut, pairs: &mut pairs }.finish()
}

/// Seconds, with all six decimals of the microseconds: a double would lose the last of them in this century.
fn timestamp(time: EventTime, out: &mut Output<'_>) {
    out.push(b"{\"timestamp\":");
    let mut digits = itoa::Buffer::new();
    match digits.format(time.micros).as_bytes().split_last_chunk::<6>() {
        Some((seconds, micros)) if !seconds.is_empty() => {
            out.push_short(seconds);
            out.push(b".");
            out.push(micros);
        }
        // In the first second of 1970.
        _ => {
            let _ = write!(out, "0.{:06}", time.micros);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fmt;
    use std::time::{Duration, UNIX_EPOCH};

    use log::kv::{Source, ToValue, Value};
    use proptest::prelude::*;
    use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};

    use super::super::fields::MOST_PAIRS;
    use super::super::nested::{DEEPEST, TOO_DEEP};
    use super::super::{Buffer, Entry, EventTime, Format, Formatted};
    use crate::severity::Severity;

    const NO_FIELDS: [(&str, &str); 0] = [];

    fn entry<'a>(message: fmt::Arguments<'a>, fields: &'a dyn Source) -> Entry<'a> {
        Entry {
            time: EventTime::from(UNIX_EPOCH + Duration::from_micros(1_763_837_085_000_042)),
            severity: Severity::Warning,
            logger_name: None,
            target: Some("app::db"),
            message,
            fields,
        }
    }

    fn write(entry: &Entry<'_>) -> (String, u64) {
        let mut out = Buffer::default();
        match Format::Json.write(entry, 1 << 20, &mut out) {
            Formatted::Whole { fields_left_out } => (String::from_utf8(out.to_vec()).unwrap(), fields_left_out),
            other => panic!("{other:?}"),
        }
    }

    fn parse(entry: &Entry<'_>) -> serde_json::Value {
        let (text, _) = write(entry);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn the_payload_is_the_contracts_to_the_letter() {
        let fields: [(&str, Value<'_>); 3] =
            [("user_id", "u_19".to_value()), ("n", 3.to_value()), ("ok", true.to_value())];
        let (text, left_out) = write(&entry(format_args!("user {}", "authenticated"), &fields));
        assert_eq!(
            text,
            r#"{"timestamp":1763837085.000042,"level":"warning","logger":"app::db","message":"user authenticated","user_id":"u_19","n":3,"ok":true}"#
        );
        assert_eq!(left_out, 0);
    }

    #[test]
    fn with_a_logger_name_the_target_follows() {
        let entry = Entry { logger_name: Some("api"), ..entry(format_args!("m"), &NO_FIELDS) };
        let (text, _) = write(&entry);
        assert!(text.contains(r#""logger":"api","target":"app::db","message":"m""#), "{text}");
    }

    #[test]
    fn a_direct_method_without_a_name_is_the_crates() {
        let entry = Entry { target: None, ..entry(format_args!("m"), &NO_FIELDS) };
        assert!(write(&entry).0.contains(r#""logger":"kafka_log","message""#));
    }

    #[test]
    fn the_timestamp_always_has_six_decimals() {
        for (micros, text) in [(0, "0.000000"), (5, "0.000005"), (1_000_000, "1.000000"), (1_500_000, "1.500000")] {
            let time = EventTime::from(UNIX_EPOCH + Duration::from_micros(micros));
            let (written, _) = write(&Entry { time, ..entry(format_args!("m"), &NO_FIELDS) });
            assert!(written.starts_with(&format!("{{\"timestamp\":{text},")), "{written}");
        }
    }

    #[test]
    fn reserved_names_are_written_flat_and_of_equal_ones_the_first_stays() {
        let fields = [
            ("level", "mine"),
            ("a", "first"),
            ("a", "second"),
            ("fields.level", "late"),
            ("message", "m"),
            ("target", "t"),
            ("timestamp", "0"),
            ("logger", "l"),
        ];
        let entry = entry(format_args!("real"), &fields);
        let (text, left_out) = write(&entry);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["level"], &value["message"]), (&"warning".into(), &"real".into()));
        assert_eq!((&value["fields.level"], &value["a"]), (&"mine".into(), &"first".into()));
        assert_eq!((&value["fields.target"], &value["fields.timestamp"]), (&"t".into(), &"0".into()));
        assert_eq!(left_out, 2);
    }

    #[test]
    fn numbers_keep_their_kind_and_what_json_has_not_is_null() {
        let fields: [(&str, Value<'_>); 8] = [
            ("nan", f64::NAN.to_value()),
            ("inf", f64::NEG_INFINITY.to_value()),
            ("float", 1.0.to_value()),
            ("u128", u128::MAX.to_value()),
            ("i128", i128::MIN.to_value()),
            ("min", i64::MIN.to_value()),
            ("none", None::<i32>.to_value()),
            ("char", '\u{0}'.to_value()),
        ];
        let (text, _) = write(&entry(format_args!("m"), &fields));
        for part in [
            r#""nan":null"#,
            r#""inf":null"#,
            r#""float":1.0"#,
            r#""u128":340282366920938463463374607431768211455"#,
            r#""i128":-170141183460469231731687303715884105728"#,
            r#""min":-9223372036854775808"#,
            r#""none":null"#,
            r#""char":"\u0000""#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    struct Nest(u32);

    impl Serialize for Nest {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(2))?;
            if self.0 > 0 {
                map.serialize_entry("in", &Nest(self.0 - 1))?;
            }
            map.serialize_entry("after", &self.0)?;
            map.end()
        }
    }

    #[test]
    fn nesting_is_cut_at_the_depth_and_goes_on_around_it() {
        let nest = Nest(10_000);
        let fields = [("nest", Value::from_serde(&nest))];
        let parsed = parse(&entry(format_args!("m"), &fields));
        let mut level = &parsed["nest"];
        for depth in 0..DEEPEST {
            assert_eq!(level["after"], 10_000 - u32::from(depth));
            level = &level["in"];
        }
        assert_eq!(level, TOO_DEEP);
    }

    struct Wrapped(u32);

    impl Serialize for Wrapped {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0 {
                0 => serializer.serialize_none(),
                n => serializer.serialize_some(&Wrapped(n - 1)),
            }
        }
    }

    #[test]
    fn nesting_that_leaves_no_trace_in_json_ends_too() {
        let (short, endless) = (Wrapped(100), Wrapped(u32::MAX));
        let fields = [("short", Value::from_serde(&short)), ("endless", Value::from_serde(&endless))];
        let parsed = parse(&entry(format_args!("m"), &fields));
        assert_eq!((&parsed["short"], &parsed["endless"]), (&serde_json::Value::Null, &TOO_DEEP.into()));
    }

    struct Fails;

    impl fmt::Display for Fails {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("half")?;
            Err(fmt::Error)
        }
    }

    impl Serialize for Fails {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry("begun", &1)?;
            Err(S::Error::custom("no \"more\""))
        }
    }

    #[test]
    fn values_that_fail_halfway_leave_valid_json() {
        let fields = [("display", Value::from_display(&Fails)), ("serde", Value::from_serde(&Fails))];
        let parsed = parse(&entry(format_args!("m {Fails} n"), &fields));
        assert_eq!((&parsed["message"], &parsed["display"]), (&"m half".into(), &"half".into()));
        let words = parsed["serde"].as_str().unwrap();
        assert!(words.starts_with("[not serializable: ") && words.contains("no \"more\""), "{words}");
    }

    #[test]
    fn pairs_beyond_the_last_are_counted() {
        let fields: Vec<(String, u32)> = (0..10_000).map(|n| (format!("k{n}"), n)).collect();
        let (text, left_out) = write(&entry(format_args!("m"), &fields.as_slice()));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value.as_object().unwrap().len(), 4 + MOST_PAIRS);
        assert_eq!(left_out, 10_000 - MOST_PAIRS as u64);
    }

    /// The payload within `limit`, the fields left out, and its size had it not been cut.
    fn cut(message: &str, fields: &dyn Source, limit: usize) -> (serde_json::Value, u64, u64) {
        let mut out = Buffer::default();
        let formatted = Format::Json.write(&entry(format_args!("{message}"), fields), limit, &mut out);
        let Formatted::Truncated { fields_left_out, original_bytes } = formatted else { panic!("{formatted:?}") };
        assert!(out.len() <= limit, "{} bytes of {limit}", out.len());
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["original_bytes"], original_bytes);
        (value, fields_left_out, original_bytes)
    }

    fn whole(message: &str, fields: &dyn Source) -> String {
        write(&entry(format_args!("{message}"), fields)).0
    }

    #[test]
    fn what_is_far_over_the_limit_costs_the_limit() {
        const LIMIT: usize = 1 << 20;
        let big = "x".repeat(16 << 20);
        let nested = vec![big.as_str()];
        let (text, nested) = ([("big", Value::from(big.as_str()))], [("big", Value::from_serde(&nested))]);
        for entry in [
            entry(format_args!("{big}"), &NO_FIELDS),
            entry(format_args!("m"), &text),
            entry(format_args!("m"), &nested),
        ] {
            let mut out = Buffer::default();
            let formatted = Format::Json.write(&entry, LIMIT, &mut out);
            assert!(matches!(formatted, Formatted::Truncated { original_bytes, .. } if original_bytes > 16 << 20));
            assert!(out.capacity() < 4 << 20, "{} bytes were reserved", out.capacity());
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_cut_and_its_fields_stay() {
        let message = "\u{1b}é\n\"𝄞".repeat(400);
        let fields = [("user_id", "u_19"), ("order_id", "o_7")];
        let message = format!("a{message}");
        let whole = whole(&message, &fields).len() as u64;
        // Every place of a cut, within characters and escapes too.
        for limit in 600..660 {
            let (value, left_out, original) = cut(&message, &fields, limit);
            let text = value["message"].as_str().unwrap();
            let kept = text.strip_suffix("…[truncated]").unwrap();
            assert!(message.starts_with(kept) && kept.len() > 150, "{text}");
            assert_eq!((&value["user_id"], &value["order_id"], left_out), (&"u_19".into(), &"o_7".into(), 0));
            // What was cut counts without its escapes.
            assert!(original < whole && original > message.len() as u64, "{original} of {whole}");
        }
    }

    #[test]
    fn a_payload_of_the_limit_is_whole_and_one_byte_more_is_cut() {
        let message = "x".repeat(600);
        let fields = [("a", "b")];
        let whole = whole(&message, &fields);
        let mut out = Buffer::default();
        let formatted = Format::Json.write(&entry(format_args!("{message}"), &fields), whole.len(), &mut out);
        assert_eq!((formatted, out.to_vec()), (Formatted::Whole { fields_left_out: 0 }, whole.clone().into_bytes()));
        let (value, left_out, original) = cut(&message, &fields, whole.len() - 1);
        assert_eq!((&value["a"], left_out, original), (&"b".into(), 0, whole.len() as u64));
    }

    #[test]
    fn fields_that_are_too_large_are_left_out_the_largest_first() {
        let [large, larger] = [400, 700].map(|length| "y".repeat(length));
        let fields = [("first", "1"), ("larger", &larger), ("large", &large), ("last", "2")];
        let whole = whole("short", &fields).len() as u64;
        let (value, left_out, original) = cut("short", &fields, 700);
        assert_eq!((&value["message"], left_out, original), (&"short".into(), 1, whole));
        assert_eq!(
            (&value["first"], &value["large"], &value["last"]),
            (&"1".into(), &large.as_str().into(), &"2".into())
        );
        // Here all fields are in, but the payload's own end is not.
        let (value, left_out, original) = cut("short", &fields, whole as usize - 1);
        assert_eq!((&value["larger"], left_out, original), (&serde_json::Value::Null, 1, whole));
        assert_eq!(&value["last"], "2");
    }

    #[test]
    fn a_message_and_fields_that_are_too_large_share_the_limit() {
        let fields: Vec<(String, String)> = (0..50).map(|n| (format!("k{n}"), "z".repeat(40))).collect();
        let (message, fields) = ("x".repeat(3_000), fields.as_slice());
        let whole = whole(&message, &fields).len() as u64;
        let (value, left_out, original) = cut(&message, &fields, 1_000);
        assert_eq!(original, whole);
        let kept = value["message"].as_str().unwrap().len();
        let fields = value.as_object().unwrap().len() - 5;
        assert!(kept >= 250 && (8..12).contains(&fields), "{kept} bytes and {fields} fields");
        assert_eq!(left_out, 50 - fields as u64);
    }

    #[test]
    fn what_cannot_be_cut_is_oversize() {
        let target = "t".repeat(600);
        let mut out = Buffer::default();
        let entry =
            Entry { target: Some(&target), ..entry(format_args!("a message of some length, but no more"), &NO_FIELDS) };
        assert_eq!(Format::Json.write(&entry, 600, &mut out), Formatted::Oversize);
        // Its beginning fits, but not beside the marker and the size.
        assert_eq!(Format::Json.write(&entry, 690, &mut out), Formatted::Oversize);
    }

    #[test]
    fn the_field_with_the_size_is_reserved() {
        let fields = [("original_bytes", "mine")];
        assert!(write(&entry(format_args!("m"), &fields)).0.ends_with(r#","fields.original_bytes":"mine"}"#));
    }

    proptest! {
        #[test]
        fn any_payload_that_is_cut_is_one_object_within_the_limit(
            message in "\\PC{0,400}",
            fields in proptest::collection::hash_map("[a-z\\PC]{1,8}", "\\PC{0,300}", 0..8),
            limit in 512_usize..1_500,
        ) {
            let pairs: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            for format in [Format::Json, Format::Text] {
                let mut out = Buffer::default();
                let formatted = format.write(&entry(format_args!("{message}"), &pairs.as_slice()), limit, &mut out);
                prop_assert!(formatted != Formatted::Oversize && out.len() <= limit, "{format:?} {formatted:?} {} of {limit}: {}", out.len(), String::from_utf8_lossy(&out));
                let text = String::from_utf8(out.to_vec()).unwrap();
                let cut = matches!(formatted, Formatted::Truncated { .. });
                prop_assert_eq!(text.contains("original_bytes"), cut);
                if format == Format::Json {
                    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                    let kept = value["message"].as_str().unwrap().trim_end_matches("…[truncated]");
                    prop_assert!(message.starts_with(kept));
                }
            }
        }

        #[test]
        fn any_message_and_fields_are_one_object_and_come_back(
            message in any::<String>(),
            target in any::<String>(),
            fields in proptest::collection::hash_map("[a-z\\PC]{1,8}", any::<String>(), 0..20),
        ) {
            let pairs: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let (text, left_out) = write(&Entry { target: Some(&target), ..entry(format_args!("{message}"), &pairs.as_slice()) });
            prop_assert!(!text.bytes().any(|byte| byte < 0x20));
            let mut parsed: HashMap<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(left_out, 0);
            prop_assert_eq!(parsed.remove("message"), Some(message.into()));
            prop_assert_eq!(parsed.remove("logger"), Some(target.into()));
            for name in ["timestamp", "level"] { parsed.remove(name); }
            let expected: HashMap<String, serde_json::Value> = fields.into_iter().map(|(k, v)| (k, v.into())).collect();
            prop_assert_eq!(parsed, expected);
        }
    }
}
