//! Each version against the codec.
