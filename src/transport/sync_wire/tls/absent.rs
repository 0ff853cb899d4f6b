//! In a build without the feature `tls` there is no session.

use std::io::{self, IoSlice};

use mio::net::TcpStream;

use super::TlsError;
use crate::config::Tls;
use crate::error::LoggerConfigError;

pub(super) enum Setup {}

impl Setup {
    pub(super) fn new(_: &Tls) -> Result<Setup, LoggerConfigError> {
        Err(LoggerConfigError::new("tls", "needs the feature `tls`"))
    }

    pub(super) fn session(&self, _: &str) -> Result<Session, TlsError> {
        match *self {}
    }
}

pub(super) enum Session {}

impl Session {
    pub(super) fn read(&mut self, _: &mut TcpStream, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn write_vectored(&mut self, _: &mut TcpStream, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn flush(&mut self, _: &mut TcpStream) -> io::Result<()> {
        match *self {}
    }
}
