//! The scriptable client of the unit tests.
