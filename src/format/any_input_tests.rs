//! Every format, over whatever an application can log: read back by a parser that has nothing in common with the writer.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant, UNIX_EPOCH};

use log::kv::{Source, Value};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleVariant, Serializer,
};

use super::fields::MOST_PAIRS;
use super::nested::TOO_DEEP;
use super::{Buffer, Entry, EventTime, Format, Formatted};
use crate::severity::Severity;

const LIMIT: usize = 1 << 20;

// ---- what is logged -------------------------------------------------------------------------------------------------

/// What ends lines, drives terminals, closes strings and objects, or looks like an escape that is none.
const HOSTILE: [&str; 26] = [
    "\0",
    "\n",
    "\r",
    "\t",
    "\u{8}",
    "\u{1b}[31m",
    "\u{7f}",
    "\u{85}",
    "\u{9b}",
    "\u{2028}",
    "\u{2029}",
    "\u{feff}",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\\",
    "}",
    "]",
    "{\"level\":\"error\"}",
    "\",\"message\":\"forged\"",
    "=",
    " ",
    " level=\"error\"",
    "😀",
    "\u{10ffff}",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        vec(select(&HOSTILE[..]), 0..6).prop_map(|pieces| pieces.concat()),
        "[a-z]{0,6}".prop_map(String::from),
    ]
}

/// Names of the payload's own, and what they become.
fn key() -> impl Strategy<Value = String> {
    const NAMES: [&str; 8] =
        ["timestamp", "level", "logger", "message", "target", "fields.level", "fields.fields.level", "Level"];
    prop_oneof![2 => text(), 1 => select(&NAMES[..]).prop_map(String::from), 1 => "[ab]".prop_map(String::from)]
}

/// Displays its pieces, one by one, and then fails if it is to.
#[derive(Clone, Debug)]
struct Shown {
    pieces: Vec<String>,
    fails: bool,
}

fn shown() -> impl Strategy<Value = Shown> {
    (vec(text(), 0..4), any::<bool>()).prop_map(|(pieces, fails)| Shown { pieces, fails })
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| f.write_str(piece))?;
        if self.fails { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Its `Debug` is the strategy's own; this one is the value's.
struct DebugShown(Shown);

impl fmt::Debug for DebugShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[derive(Debug)]
struct ErrorShown(Shown);

impl fmt::Display for ErrorShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for ErrorShown {}

/// A value of any type that serde knows.
#[derive(Clone, Debug)]
enum Tree {
    Unit,
    None,
    Bool(bool),
    /// Of the width that it has room in, or of more.
    Signed(i128),
    Unsigned(u128),
    Single(f32),
    Double(f64),
    Char(char),
    Text(String),
    Bytes(Vec<u8>),
    Displayed(Shown),
    UnitVariant,
    /// Serializes one element and fails.
    Fails(Box<Tree>),
    Some(Box<Tree>),
    Newtype(Box<Tree>),
    NewtypeVariant(Box<Tree>),
    Seq(Vec<Tree>),
    Tuple(Vec<Tree>),
    TupleVariant(Vec<Tree>),
    Map(Vec<(MapKey, Tree)>),
    Struct(Box<Tree>, Box<Tree>),
    StructVariant(Box<Tree>),
}

#[derive(Clone, Debug)]
enum MapKey {
    Text(String),
    Char(char),
    Bool(bool),
    Number(i128),
    UnitVariant,
    /// Which no JSON object has.
    List,
    Nothing,
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Unit),
        Just(Tree::None),
        any::<bool>().prop_map(Tree::Bool),
        (any::<i128>(), 0..128_u32).prop_map(|(number, shift)| Tree::Signed(number >> shift)),
        (any::<u128>(), 0..128_u32).prop_map(|(number, shift)| Tree::Unsigned(number >> shift)),
        any::<u32>().prop_map(|bits| Tree::Single(f32::from_bits(bits))),
        any::<u64>().prop_map(|bits| Tree::Double(f64::from_bits(bits))),
        select(&[0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 5e-324][..]).prop_map(Tree::Double),
        any::<char>().prop_map(Tree::Char),
        text().prop_map(Tree::Text),
        vec(any::<u8>(), 0..4).prop_map(Tree::Bytes),
        shown().prop_map(Tree::Displayed),
        Just(Tree::UnitVariant),
    ];
    leaf.prop_recursive(5, 24, 4, |inside| {
        let boxed = || inside.clone().prop_map(Box::new);
        let list = || vec(inside.clone(), 0..4);
        prop_oneof![
            1 => boxed().prop_map(Tree::Fails),
            2 => boxed().prop_map(Tree::Some),
            2 => boxed().prop_map(Tree::Newtype),
            2 => boxed().prop_map(Tree::NewtypeVariant),
            4 => list().prop_map(Tree::Seq),
            2 => list().prop_map(Tree::Tuple),
            2 => list().prop_map(Tree::TupleVariant),
            6 => vec((map_key(), inside.clone()), 0..4).prop_map(Tree::map),
            2 => (boxed(), boxed()).prop_map(|(a, b)| Tree::Struct(a, b)),
            2 => boxed().prop_map(Tree::StructVariant),
        ]
    })
}

fn map_key() -> impl Strategy<Value = MapKey> {
    prop_oneof![
        8 => text().prop_map(MapKey::Text),
        2 => any::<char>().prop_map(MapKey::Char),
        2 => any::<bool>().prop_map(MapKey::Bool),
        4 => any::<i128>().prop_map(MapKey::Number),
        2 => Just(MapKey::UnitVariant),
        1 => Just(MapKey::List),
        1 => Just(MapKey::Nothing),
    ]
}

impl MapKey {
    fn name(&self) -> Option<String> {
        Some(match self {
            MapKey::Text(text) => text.clone(),
            MapKey::Char(c) => c.to_string(),
            MapKey::Bool(yes) => yes.to_string(),
            MapKey::Number(number) => number.to_string(),
            MapKey::UnitVariant => "Red \"\n".into(),
            MapKey::List | MapKey::Nothing => return None,
        })
    }
}

impl Serialize for MapKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            MapKey::Text(text) => serializer.serialize_str(text),
            MapKey::Char(c) => serializer.serialize_char(*c),
            MapKey::Bool(yes) => serializer.serialize_bool(*yes),
            MapKey::Number(number) => serializer.serialize_i128(*number),
            MapKey::UnitVariant => serializer.serialize_unit_variant("Color", 0, "Red \"\n"),
            MapKey::List => serializer.serialize_seq(Some(0))?.end(),
            MapKey::Nothing => serializer.serialize_none(),
        }
    }
}

impl Tree {
    /// A map as there are in Rust: its keys are different ones.
    fn map(pairs: Vec<(MapKey, Tree)>) -> Tree {
        let mut seen = HashSet::new();
        Tree::Map(pairs.into_iter().filter(|(key, _)| seen.insert(key.name())).collect())
    }

    /// What is to be read back; nothing where the whole value cannot be serialized.
    fn json(&self) -> Option<Json> {
        let list = |list: &[Tree]| list.iter().map(Tree::json).collect::<Option<Vec<_>>>().map(Json::List);
        let variant = |value: Option<Json>| value.map(|value| Json::Object(vec![("Variant\n".into(), value)]));
        Some(match self {
            Tree::Unit | Tree::None => Json::Null,
            Tree::Bool(yes) => Json::Bool(*yes),
            Tree::Signed(number) => Json::Number(number.to_string()),
            Tree::Unsigned(number) => Json::Number(number.to_string()),
            Tree::Single(number) if number.is_finite() => Json::Single(*number),
            Tree::Double(number) if number.is_finite() => Json::Double(*number),
            Tree::Single(_) | Tree::Double(_) => Json::Null,
            Tree::Char(c) => Json::Text(c.to_string()),
            Tree::Text(text) => Json::Text(text.clone()),
            Tree::Bytes(bytes) => Json::List(bytes.iter().map(|byte| Json::Number(byte.to_string())).collect()),
            Tree::Displayed(shown) => Json::Text(shown.pieces.concat()),
            Tree::UnitVariant => Json::Text("Variant\n".into()),
            Tree::Fails(_) => return None,
            Tree::Some(inside) | Tree::Newtype(inside) => return inside.json(),
            Tree::NewtypeVariant(inside) => return variant(inside.json()),
            Tree::Seq(inside) | Tree::Tuple(inside) => return list(inside),
            Tree::TupleVariant(inside) => return variant(list(inside)),
            Tree::Map(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| Some((key.name()?, value.json()?)));
                Json::Object(pairs.collect::<Option<_>>()?)
            }
            Tree::Struct(a, b) => Json::Object(vec![("a".into(), a.json()?), ("b \"\n".into(), b.json()?)]),
            Tree::StructVariant(a) => return variant(Some(Json::Object(vec![("a".into(), a.json()?)]))),
        })
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        const NAME: &str = "Tree";
        const VARIANT: &str = "Variant\n";
        match self {
            Tree::Unit => s.serialize_unit(),
            Tree::None => s.serialize_none(),
            Tree::Bool(yes) => s.serialize_bool(*yes),
            Tree::Signed(number) => match (i8::try_from(*number), i16::try_from(*number), i32::try_from(*number)) {
                (Ok(number), _, _) => s.serialize_i8(number),
                (_, Ok(number), _) => s.serialize_i16(number),
                (_, _, Ok(number)) => s.serialize_i32(number),
                _ => match i64::try_from(*number) {
                    Ok(number) => s.serialize_i64(number),
                    Err(_) => s.serialize_i128(*number),
                },
            },
            Tree::Unsigned(number) => match (u8::try_from(*number), u16::try_from(*number), u32::try_from(*number)) {
                (Ok(number), _, _) => s.serialize_u8(number),
                (_, Ok(number), _) => s.serialize_u16(number),
                (_, _, Ok(number)) => s.serialize_u32(number),
                _ => match u64::try_from(*number) {
                    Ok(number) => s.serialize_u64(number),
                    Err(_) => s.serialize_u128(*number),
                },
            },
            Tree::Single(number) => s.serialize_f32(*number),
            Tree::Double(number) => s.serialize_f64(*number),
            Tree::Char(c) => s.serialize_char(*c),
            Tree::Text(text) => s.serialize_str(text),
            Tree::Bytes(bytes) => s.serialize_bytes(bytes),
            Tree::Displayed(shown) => s.collect_str(shown),
            Tree::UnitVariant => s.serialize_unit_variant(NAME, 0, VARIANT),
            Tree::Fails(inside) => {
                let mut seq = s.serialize_seq(None)?;
                seq.serialize_element(inside)?;
                Err(serde::ser::Error::custom("on \"purpose\"\n"))
            }
            Tree::Some(inside) => s.serialize_some(inside),
            Tree::Newtype(inside) => s.serialize_newtype_struct(NAME, inside),
            Tree::NewtypeVariant(inside) => s.serialize_newtype_variant(NAME, 0, VARIANT, inside),
            Tree::Seq(inside) => {
                // Not every type knows its length beforehand.
                let mut seq = s.serialize_seq(None)?;
                inside.iter().try_for_each(|value| seq.serialize_element(value))?;
                seq.end()
            }
            Tree::Tuple(inside) => {
                let mut tuple = s.serialize_tuple(inside.len())?;
                inside.iter().try_for_each(|value| tuple.serialize_element(value))?;
                tuple.end()
            }
            Tree::TupleVariant(inside) => {
                let mut tuple = s.serialize_tuple_variant(NAME, 0, VARIANT, inside.len())?;
                inside.iter().try_for_each(|value| tuple.serialize_field(value))?;
                tuple.end()
            }
            Tree::Map(pairs) => {
                let mut map = s.serialize_map(None)?;
                for (key, value) in pairs {
                    map.serialize_key(key)?;
                    map.serialize_value(value)?;
                }
                map.end()
            }
            Tree::Struct(a, b) => {
                let mut structure = s.serialize_struct(NAME, 2)?;
                structure.serialize_field("a", a)?;
                structure.serialize_field("b \"\n", b)?;
                structure.end()
            }
            Tree::StructVariant(a) => {
                let mut structure = s.serialize_struct_variant(NAME, 0, VARIANT, 1)?;
                structure.serialize_field("a", a)?;
                structure.end()
            }
        }
    }
}

/// A value as it is captured.
#[derive(Debug)]
enum Captured {
    Serde(Tree),
    /// By `log`'s own conversions, where it has one.
    Plain(Tree),
    Display(Shown),
    Debug(DebugShown),
    Error(ErrorShown),
}

fn captured() -> impl Strategy<Value = Captured> {
    prop_oneof![
        3 => tree().prop_map(Captured::Serde),
        2 => tree().prop_map(Captured::Plain),
        1 => shown().prop_map(Captured::Display),
        1 => shown().prop_map(|shown| Captured::Debug(DebugShown(shown))),
        1 => shown().prop_map(|shown| Captured::Error(ErrorShown(shown))),
    ]
}

impl Captured {
    fn json(&self) -> Option<Json> {
        match self {
            Captured::Serde(tree) | Captured::Plain(tree) => tree.json(),
            Captured::Display(shown) | Captured::Debug(DebugShown(shown)) | Captured::Error(ErrorShown(shown)) => {
                Some(Json::Text(shown.pieces.concat()))
            }
        }
    }
}

/// The fields of a record.
struct Fields<'a>(&'a [(String, Captured)]);

impl Source for Fields<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn log::kv::VisitSource<'kvs>) -> Result<(), log::kv::Error> {
        for (key, captured) in self.0 {
            let key = log::kv::Key::from_str(key);
            match captured {
                Captured::Serde(tree) => visitor.visit_pair(key, Value::from_serde(tree))?,
                Captured::Plain(tree) => {
                    let value = match tree {
                        Tree::Bool(yes) => Value::from(*yes),
                        Tree::Signed(number) => match i64::try_from(*number) {
                            Ok(number) => Value::from(number),
                            Err(_) => Value::from(*number),
                        },
                        Tree::Unsigned(number) => match u64::try_from(*number) {
                            Ok(number) => Value::from(number),
                            Err(_) => Value::from(*number),
                        },
                        Tree::Double(number) => Value::from(*number),
                        Tree::Char(c) => Value::from(*c),
                        Tree::Text(text) => Value::from(text.as_str()),
                        Tree::None => Value::null(),
                        tree => Value::from_serde(tree),
                    };
                    visitor.visit_pair(key, value)?;
                }
                Captured::Display(shown) => visitor.visit_pair(key, Value::from_display(shown))?,
                Captured::Debug(shown) => visitor.visit_pair(key, Value::from_debug(shown))?,
                Captured::Error(error) => visitor.visit_pair(key, Value::from_dyn_error(error))?,
            }
        }
        Ok(())
    }
}

/// All that there is to say about one record.
#[derive(Debug)]
struct Logged {
    micros: u64,
    severity: Severity,
    logger_name: Option<String>,
    target: Option<String>,
    message: Shown,
    fields: Vec<(String, Captured)>,
}

fn logged() -> impl Strategy<Value = Logged> {
    use Severity::{Critical, Debug, Error, Info, Trace, Warning};
    let severity = select(&[Trace, Debug, Info, Warning, Error, Critical][..]);
    let names = (proptest::option::of(text()), proptest::option::of(text()));
    (any::<u64>(), severity, names, shown(), vec((key(), captured()), 0..8)).prop_map(
        |(micros, severity, (logger_name, target), message, fields)| Logged {
            micros,
            severity,
            logger_name,
            target,
            message,
            fields,
        },
    )
}

impl Logged {
    fn write(&self, format: Format) -> (String, u64) {
        let mut out = Buffer::default();
        let time = UNIX_EPOCH + Duration::from_micros(self.micros);
        let formatted = format.write(
            &Entry {
                time: EventTime::from(time),
                severity: self.severity,
                logger_name: self.logger_name.as_deref(),
                target: self.target.as_deref(),
                message: format_args!("{}", self.message),
                fields: &Fields(&self.fields),
            },
            LIMIT,
            &mut out,
        );
        let Formatted::Whole { fields_left_out } = formatted else { panic!("{formatted:?}") };
        (String::from_utf8(out.to_vec()).expect("the payload is UTF-8"), fields_left_out)
    }

    fn logger(&self) -> &str {
        self.logger_name.as_deref().or(self.target.as_deref()).unwrap_or("kafka_log")
    }

    /// The fields that are to be read back, under their names, and how many are left out.
    fn expected(&self) -> (Vec<(String, Option<Json>)>, u64) {
        const RESERVED: [&str; 5] = ["timestamp", "level", "logger", "message", "target"];
        let (mut seen, mut left_out) = (HashSet::new(), 0);
        let mut expected = Vec::new();
        for (key, value) in &self.fields {
            let name = if RESERVED.contains(&key.as_str()) { format!("fields.{key}") } else { key.clone() };
            if seen.insert(name.clone()) {
                expected.push((name, value.json()));
            } else {
                left_out += 1;
            }
        }
        (expected, left_out)
    }
}

// ---- how it is read back --------------------------------------------------------------------------------------------

/// Numbers are texts, so that none loses a digit.
#[derive(Clone, Debug)]
enum Json {
    Null,
    Bool(bool),
    Number(String),
    /// What a number is compared with where more than one text is right.
    Single(f32),
    Double(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl PartialEq for Json {
    fn eq(&self, other: &Json) -> bool {
        match (self, other) {
            (Json::Null, Json::Null) => true,
            (Json::Bool(a), Json::Bool(b)) => a == b,
            (Json::Number(a), Json::Number(b)) => a == b,
            (Json::Number(text), Json::Single(number)) | (Json::Single(number), Json::Number(text)) => {
                text.parse::<f32>().is_ok_and(|read| read.to_bits() == number.to_bits())
            }
            (Json::Number(text), Json::Double(number)) | (Json::Double(number), Json::Number(text)) => {
                text.parse::<f64>().is_ok_and(|read| read.to_bits() == number.to_bits())
            }
            (Json::Text(a), Json::Text(b)) => a == b,
            (Json::List(a), Json::List(b)) => a == b,
            (Json::Object(a), Json::Object(b)) => a == b,
            _ => false,
        }
    }
}

impl Json {
    fn depth(&self) -> usize {
        match self {
            Json::List(inside) => 1 + inside.iter().map(Json::depth).max().unwrap_or(0),
            Json::Object(inside) => 1 + inside.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// RFC 8259 and no more, with no name twice in an object.
struct Reader<'a> {
    rest: &'a str,
}

type Read<T> = Result<T, String>;

impl<'a> Reader<'a> {
    fn whole(text: &str) -> Read<Json> {
        let mut reader = Reader { rest: text };
        let json = reader.value()?;
        if reader.rest.is_empty() { Ok(json) } else { Err(format!("more follows: {}", reader.rest)) }
    }

    fn value(&mut self) -> Read<Json> {
        match self.rest.as_bytes().first() {
            Some(b'n') => self.word("null").map(|()| Json::Null),
            Some(b't') => self.word("true").map(|()| Json::Bool(true)),
            Some(b'f') => self.word("false").map(|()| Json::Bool(false)),
            Some(b'"') => self.string().map(Json::Text),
            Some(b'[') => {
                let mut list = Vec::new();
                self.between("[", "]", |reader| {
                    list.push(reader.value()?);
                    Ok(())
                })?;
                Ok(Json::List(list))
            }
            Some(b'{') => {
                let mut members: Vec<(String, Json)> = Vec::new();
                self.between("{", "}", |reader| {
                    let name = reader.string()?;
                    if members.iter().any(|(known, _)| *known == name) {
                        return Err(format!("the name {name:?} is there twice"));
                    }
                    reader.word(":")?;
                    members.push((name, reader.value()?));
                    Ok(())
                })?;
                Ok(Json::Object(members))
            }
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str) -> Read<()> {
        self.rest = self.rest.strip_prefix(word).ok_or_else(|| format!("no {word} in {}", self.rest))?;
        Ok(())
    }

    fn between(&mut self, open: &str, close: &str, mut read: impl FnMut(&mut Self) -> Read<()>) -> Read<()> {
        self.word(open)?;
        if self.word(close).is_ok() {
            return Ok(());
        }
        loop {
            read(self)?;
            if self.word(close).is_ok() {
                return Ok(());
            }
            self.word(",")?;
        }
    }

    fn string(&mut self) -> Read<String> {
        self.word("\"")?;
        let mut text = String::new();
        loop {
            let c = self.rest.chars().next().ok_or("a string has no end")?;
            self.rest = &self.rest[c.len_utf8()..];
            match c {
                '"' => return Ok(text),
                '\\' => text.push(self.escaped()?),
                c if c < ' ' => return Err(format!("a control character stands as it is: {c:?}")),
                c => text.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Read<char> {
        let c = self.rest.chars().next().ok_or("an escape has no end")?;
        self.rest = &self.rest[c.len_utf8()..];
        Ok(match c {
            '"' | '\\' | '/' => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let digits = self.rest.get(..4).ok_or("an escape is too short")?;
                self.rest = &self.rest[4..];
                let code = u32::from_str_radix(digits, 16).map_err(|error| format!("{digits}: {error}"))?;
                // What is no character alone is half of one, which Rust's text never has.
                char::from_u32(code).ok_or(format!("half a character: {digits}"))?
            }
            c => return Err(format!("no such escape: {c:?}")),
        })
    }

    fn number(&mut self) -> Read<Json> {
        let end = self.rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'));
        let (number, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (mantissa, exponent) = number.split_once(['e', 'E']).map_or((number, None), |(m, e)| (m, Some(e)));
        let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
        let whole = whole.strip_prefix('-').unwrap_or(whole);
        let exponent = exponent.map(|exponent| exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
        let valid = digits(whole)
            && (whole == "0" || !whole.starts_with('0'))
            && fraction.is_none_or(digits)
            && exponent.is_none_or(digits);
        if valid { Ok(Json::Number(number.into())) } else { Err(format!("this is no value: {number}{}", self.rest)) }
    }
}

/// What a line of text must not have: it would end it, or drive a terminal.
fn breaks_line(c: char) -> bool {
    matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}')
}

/// One that could not be serialized says so.
fn is_as_expected(read: &Json, expected: &Option<Json>) -> bool {
    match (read, expected) {
        (read, Some(expected)) => read == expected,
        (Json::Text(words), None) => words.starts_with("[not serializable: "),
        _ => false,
    }
}

// ---- what holds for all of it ---------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn as_json_a_record_is_one_object_that_says_what_was_logged_and_nothing_else(logged in logged()) {
        let (payload, left_out) = logged.write(Format::Json);
        prop_assert!(!payload.bytes().any(|byte| byte < 0x20), "{payload:?}");
        prop_assert!(serde_json::from_str::<serde_json::Value>(&payload).is_ok_and(|value| value.is_object()), "{payload}");
        let read = Reader::whole(&payload).map_err(|error| TestCaseError::fail(format!("{error}: {payload}")))?;
        let Json::Object(members) = read else { panic!("{payload}") };

        let text = |text: &str| Some(Json::Text(text.to_owned()));
        let time = format!("{}.{:06}", logged.micros / 1_000_000, logged.micros % 1_000_000);
        let mut expected = vec![
            ("timestamp".to_owned(), Some(Json::Number(time))),
            ("level".to_owned(), text(logged.severity.as_str())),
            ("logger".to_owned(), text(logged.logger())),
        ];
        if let (Some(_), Some(target)) = (&logged.logger_name, &logged.target) {
            expected.push(("target".to_owned(), text(target)));
        }
        expected.push(("message".to_owned(), text(&logged.message.pieces.concat())));
        let (fields, expected_left_out) = logged.expected();
        expected.extend(fields);

        prop_assert_eq!(left_out, expected_left_out);
        prop_assert_eq!(members.len(), expected.len(), "{}", payload);
        for ((name, value), (expected_name, expected_value)) in members.iter().zip(&expected) {
            prop_assert_eq!(name, expected_name, "{}", payload);
            prop_assert!(is_as_expected(value, expected_value), "{name}: {value:?} is not {expected_value:?}");
        }
    }

    #[test]
    fn as_text_a_record_is_one_line_and_its_fields_are_what_was_logged(logged in logged()) {
        let (line, left_out) = logged.write(Format::Text);
        prop_assert!(!line.chars().any(breaks_line), "{line:?}");
        let on_one_line = |text: &str| -> String {
            let mut line = String::new();
            for c in text.chars() {
                if breaks_line(c) { line.extend(c.escape_default()) } else { line.push(c) }
            }
            line
        };
        let (_, after_time) = line.split_once(' ').unwrap();
        let name = match (&logged.logger_name, &logged.target) {
            (Some(name), Some(target)) => format!("{name} {target}"),
            _ => logged.logger().to_owned(),
        };
        let message = logged.message.pieces.concat();
        let begin = on_one_line(&format!("{} {name}: {message}", logged.severity.as_str()));
        let fields = after_time.strip_prefix(&begin);
        prop_assert!(fields.is_some(), "{line} does not go on with {begin}");

        let mut reader = Reader { rest: fields.unwrap_or_default() };
        let (expected, expected_left_out) = logged.expected();
        for (expected_name, expected_value) in &expected {
            let (name, value) = text_field(&mut reader)
                .map_err(|error| TestCaseError::fail(format!("{error}: {line}")))?;
            prop_assert_eq!(&name, expected_name, "{}", line);
            prop_assert!(is_as_expected(&value, expected_value), "{name}: {value:?} is not {expected_value:?}");
        }
        prop_assert_eq!((reader.rest, left_out), ("", expected_left_out), "{}", line);
    }

    /// Levels that JSON shows, and levels that leave no trace in it.
    #[test]
    fn whatever_is_nested_how_deep_ends_at_a_bound(levels in vec(prop_oneof![12 => 0..2_u8, 1 => 2..6_u8], 0..400), format in select(&[Format::Json, Format::Text][..])) {
        let mut tree = Tree::Text("bottom".into());
        for level in &levels {
            let inside = Box::new(tree);
            tree = match level {
                0 => Tree::Some(inside),
                1 => Tree::Newtype(inside),
                2 => Tree::Seq(vec![*inside]),
                3 => Tree::Map(vec![(MapKey::Text("k".into()), *inside)]),
                4 => Tree::NewtypeVariant(inside),
                _ => Tree::StructVariant(inside),
            };
        }
        let containers = levels.iter().filter(|level| **level >= 2).count();
        let logged = Logged {
            micros: 0,
            severity: Severity::Info,
            logger_name: None,
            target: None,
            message: Shown { pieces: Vec::new(), fails: false },
            fields: vec![("deep".into(), Captured::Serde(tree)), ("after".into(), Captured::Plain(Tree::Bool(true)))],
        };
        let (payload, _) = logged.write(format);
        let (_, fields) = payload.split_once("deep").unwrap();
        let mut reader = Reader { rest: fields.strip_prefix("\":").or(fields.strip_prefix('=')).unwrap() };
        let read = reader.value().unwrap();
        // A variant with fields is an object in an object.
        prop_assert!(read.depth() <= 64, "{}", read.depth());
        prop_assert_eq!(payload.contains("bottom"), containers <= 32 && levels.len() <= 128, "{}", payload);
        prop_assert!(payload.contains("bottom") || payload.contains(TOO_DEEP));
        prop_assert!(reader.rest.contains("after"), "{}", payload);
    }
}

/// ` key=value`, of a key that is a word or stands in quotes.
fn text_field(reader: &mut Reader<'_>) -> Read<(String, Json)> {
    reader.word(" ")?;
    let name = if reader.rest.starts_with('"') {
        reader.string()?
    } else {
        let end = reader.rest.find('=').ok_or("a field has no value")?;
        let (word, rest) = reader.rest.split_at(end);
        reader.rest = rest;
        if word.contains([' ', '"']) || word.is_empty() {
            return Err(format!("this is no word: {word:?}"));
        }
        word.to_owned()
    };
    reader.word("=")?;
    Ok((name, reader.value()?))
}

#[test]
fn the_reader_of_these_tests_is_strict() {
    for wrong in [
        "",
        "{",
        "{}x",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,}",
        "[1,]",
        "\"\n\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "NaN",
        "nul",
        "{a:1}",
        "\"a",
        "1e",
        " 1",
    ] {
        assert!(Reader::whole(wrong).is_err(), "{wrong}");
    }
    let read = Reader::whole(r#"{"a":[1,-0.5e-3,null],"\u0000\n":{"b":true}}"#).unwrap();
    assert_eq!(read.depth(), 2);
}

/// Lists in one another.
struct Nest(u32);

impl Serialize for Nest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        if self.0 > 0 {
            seq.serialize_element(&Nest(self.0 - 1))?;
        }
        seq.end()
    }
}

/// Of each kind far more than sense: what it takes is bounded by what is kept of it.
#[test]
fn giants_of_each_kind_take_bounded_time_and_memory() {
    /// A debug build takes a tenth of it, since 64 MiB of what is cut off are counted; what is endless never ends.
    const SOON: Duration = Duration::from_secs(60);
    let giant = "x\n".repeat(50 << 20);
    let giant = giant.as_str();
    let many: Vec<(String, usize)> = (0..10_000).map(|n| (format!("k{n}"), n)).collect();
    let equal = vec![("k", 1); 10_000];
    let bytes = giant.as_bytes();
    let list = [giant];
    let deep = Nest(10_000);
    let cases: [(&str, &str, &dyn Source, Option<u64>); 9] = [
        ("a message", giant, &("k", 1), None),
        ("a value", "", &("k", giant), None),
        ("a key", "", &(giant, 1), None),
        ("a display", "", &("k", Value::from_display(&giant)), None),
        ("a nested text", "", &("k", Value::from_serde(&list)), None),
        ("a list", "", &("k", Value::from_serde(&bytes)), None),
        ("many pairs", "", &many.as_slice(), Some(10_000 - MOST_PAIRS as u64)),
        ("many equal pairs", "", &equal.as_slice(), Some(9_999)),
        ("a deep value", "", &("k", Value::from_serde(&deep)), Some(0)),
    ];
    for (what, message, fields, left_out) in cases {
        for format in [Format::Json, Format::Text] {
            let mut out = Buffer::default();
            let begun = Instant::now();
            let entry = Entry {
                time: EventTime::from(UNIX_EPOCH),
                severity: Severity::Info,
                logger_name: None,
                target: None,
                message: format_args!("{message}"),
                fields,
            };
            let formatted = format.write(&entry, LIMIT, &mut out);
            let took = begun.elapsed();
            assert!(took < SOON, "{what} took {took:?} in {format:?}");
            assert!(out.capacity() <= 4 * LIMIT, "{what} took {} bytes in {format:?}", out.capacity());
            match left_out {
                None => {
                    assert!(matches!(formatted, Formatted::Truncated { .. }), "{what} in {format:?}: {formatted:?}");
                    assert!(out.len() <= LIMIT, "{what} in {format:?}");
                }
                Some(fields_left_out) => assert_eq!(formatted, Formatted::Whole { fields_left_out }, "{what}"),
            }
        }
    }
}
