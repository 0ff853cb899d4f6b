//! A `Serializer` around another that bounds depth and survives a `Display` that fails.
//!
//! The values are the application's own types: one can be ten thousand levels deep, or endless. Recursion is
//! cut here, before it goes on, so neither the stack nor the payload grows with it.

use std::fmt::{self, Display, Write as _};

use serde::ser::{self, Serialize, Serializer};

/// Objects and arrays inside one another; what lies deeper becomes [`TOO_DEEP`].
pub(super) const DEEPEST: u16 = 32;

/// Calls inside one another, where a type nests without a trace in JSON (options, newtypes). Erased values take some
/// kilobytes of stack a call in a debug build, and a thread may have no more than two megabytes.
const MOST_CALLS: u16 = 128;

/// Stands in the payload for what lies deeper than [`DEEPEST`].
pub(super) const TOO_DEEP: &str = "[nested deeper than 32 levels]";

/// How deep a value lies, and how much text it may be.
#[derive(Clone, Copy)]
pub(super) struct Depth {
    containers: u16,
    calls: u16,
    /// Text that is longer need not be collected to its end: it does not fit anyway.
    longest_text: usize,
}

impl Depth {
    pub(super) fn top(longest_text: usize) -> Depth {
        Depth { containers: 0, calls: 0, longest_text }
    }

    fn inside_container(self) -> Depth {
        Depth { containers: self.containers + 1, ..self.inside_wrapper() }
    }

    fn inside_wrapper(self) -> Depth {
        Depth { calls: self.calls + 1, ..self }
    }
}

/// A value that serializes itself through a [`Bounded`] serializer.
pub(super) struct Limited<'a, T: ?Sized>(pub(super) &'a T, pub(super) Depth);

impl<T: ?Sized + Serialize> Serialize for Limited<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Limited(value, depth) = *self;
        if depth.calls > MOST_CALLS {
            return serializer.serialize_str(TOO_DEEP);
        }
        value.serialize(Bounded { inner: serializer, depth })
    }
}

pub(super) struct Bounded<S> {
    inner: S,
    depth: Depth,
}

/// The open object or array of a [`Bounded`] serializer, or the text that stands for one too deep.
pub(super) enum Open<C, Ok> {
    Within(C, Depth),
    TooDeep(Ok),
}

impl<S: Serializer> Bounded<S> {
    fn open<C>(self, open: impl FnOnce(S) -> Result<C, S::Error>) -> Result<Open<C, S::Ok>, S::Error> {
        if self.depth.containers >= DEEPEST {
            return self.inner.serialize_str(TOO_DEEP).map(Open::TooDeep);
        }
        let inside = self.depth.inside_container();
        open(self.inner).map(|container| Open::Within(container, inside))
    }
}

impl<C, Ok> Open<C, Ok> {
    fn with<E>(&mut self, write: impl FnOnce(&mut C, Depth) -> Result<(), E>) -> Result<(), E> {
        match self {
            Open::Within(container, depth) => write(container, *depth),
            Open::TooDeep(_) => Ok(()),
        }
    }

    fn close<E>(self, close: impl FnOnce(C) -> Result<Ok, E>) -> Result<Ok, E> {
        match self {
            Open::Within(container, _) => close(container),
            Open::TooDeep(written) => Ok(written),
        }
    }
}

macro_rules! pass {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        }
    )*};
}

impl<S: Serializer> Serializer for Bounded<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Open<S::SerializeSeq, S::Ok>;
    type SerializeTuple = Open<S::SerializeTuple, S::Ok>;
    type SerializeTupleStruct = Open<S::SerializeTupleStruct, S::Ok>;
    type SerializeTupleVariant = Open<S::SerializeTupleVariant, S::Ok>;
    type SerializeMap = Open<S::SerializeMap, S::Ok>;
    type SerializeStruct = Open<S::SerializeStruct, S::Ok>;
    type SerializeStructVariant = Open<S::SerializeStructVariant, S::Ok>;

    pass! {
        serialize_bool(bool);
        serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64); serialize_i128(i128);
        serialize_u8(u8); serialize_u16(u16); serialize_u32(u32); serialize_u64(u64); serialize_u128(u128);
        serialize_f32(f32); serialize_f64(f64);
        serialize_char(char); serialize_str(&str); serialize_bytes(&[u8]);
        serialize_unit_struct(&'static str);
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&Limited(value, self.depth.inside_wrapper()))
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &Limited(value, self.depth.inside_wrapper()))
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        // `{"variant": value}`: an object of its own.
        if self.depth.containers >= DEEPEST {
            return self.inner.serialize_str(TOO_DEEP);
        }
        self.inner.serialize_newtype_variant(name, index, variant, &Limited(value, self.depth.inside_container()))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.open(|inner| inner.serialize_seq(len))
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.open(|inner| inner.serialize_tuple(len))
    }

    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.open(|inner| inner.serialize_tuple_struct(name, len))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.open(|inner| inner.serialize_tuple_variant(name, index, variant, len))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.open(|inner| inner.serialize_map(len))
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        self.open(|inner| inner.serialize_struct(name, len))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.open(|inner| inner.serialize_struct_variant(name, index, variant, len))
    }

    /// serde's own goes through `to_string`, which panics where a `Display` returns an error.
    fn collect_str<T: ?Sized + Display>(self, value: &T) -> Result<S::Ok, S::Error> {
        let mut text = Capped { text: String::new(), longest: self.depth.longest_text };
        let _: fmt::Result = write!(text, "{value}");
        self.inner.serialize_str(&text.text)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Text that is cut off where it has become too long to fit anywhere.
struct Capped {
    text: String,
    longest: usize,
}

impl fmt::Write for Capped {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.text.len() > self.longest {
            return Err(fmt::Error);
        }
        self.text.push_str(piece);
        Ok(())
    }
}

macro_rules! elements {
    ($($trait:ident, $method:ident;)*) => {$(
        impl<C: ser::$trait> ser::$trait for Open<C, C::Ok> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $method<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), C::Error> {
                self.with(|container, depth| container.$method(&Limited(value, depth)))
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.close(C::end)
            }
        }
    )*};
}

elements! {
    SerializeSeq, serialize_element;
    SerializeTuple, serialize_element;
    SerializeTupleStruct, serialize_field;
    SerializeTupleVariant, serialize_field;
}

macro_rules! members {
    ($($trait:ident;)*) => {$(
        impl<C: ser::$trait> ser::$trait for Open<C, C::Ok> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn serialize_field<T: ?Sized + Serialize>(&mut self, key: &'static str, value: &T) -> Result<(), C::Error> {
                self.with(|container, depth| container.serialize_field(key, &Limited(value, depth)))
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.close(C::end)
            }
        }
    )*};
}

members! {
    SerializeStruct;
    SerializeStructVariant;
}

impl<C: ser::SerializeMap> ser::SerializeMap for Open<C, C::Ok> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), C::Error> {
        self.with(|container, depth| container.serialize_key(&Limited(key, depth)))
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), C::Error> {
        self.with(|container, depth| container.serialize_value(&Limited(value, depth)))
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.close(C::end)
    }
}
