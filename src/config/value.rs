//! Types for the values of the configuration file, which check the values when they are read.

use super::MAX_SHARDS;
use crate::net::ListenAddress;
use crate::origin::ForwardedProto;
use crate::wire::ProxyHeader;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::num::NonZeroUsize;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// An address on which clients are served.
#[derive(Clone, Debug)]
pub(super) struct ListenValue(pub(super) ListenAddress);

impl<'de> Deserialize<'de> for ListenValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

/// A time in seconds, from 0 to one year. It may have a fraction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seconds(pub(super) Duration);

/// A time to wait for something, in seconds, from 0.001 to one year.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitTime(pub(super) Duration);

const YEAR: f64 = 365.0 * 24.0 * 3600.0;

fn seconds<'de, D: Deserializer<'de>>(deserializer: D, least: f64) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if !(least..=YEAR).contains(&seconds) {
        return Err(D::Error::custom(format!("give a time in seconds, from {least} to {YEAR}")));
    }
    Ok(Duration::from_secs_f64(seconds))
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        seconds(deserializer, 0.0).map(Self)
    }
}

impl<'de> Deserialize<'de> for WaitTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        seconds(deserializer, 0.001).map(Self)
    }
}

/// A number of threads; 0 is one per core.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ShardCount(pub(super) usize);

impl<'de> Deserialize<'de> for ShardCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let shards = usize::deserialize(deserializer)?;
        if shards > MAX_SHARDS {
            return Err(D::Error::custom(format!("give a number of threads, from 0 to {MAX_SHARDS}")));
        }
        Ok(Self(shards))
    }
}

/// The setting `set_x_forwarded_protocol`, with Pushpin's values.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProtoMode(pub(super) ForwardedProto);

impl<'de> Deserialize<'de> for ProtoMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "proto-only" => Ok(Self(ForwardedProto::Proto)),
            "true" => Ok(Self(ForwardedProto::Both)),
            "false" => Ok(Self(ForwardedProto::Nothing)),
            _ => Err(D::Error::custom("set_x_forwarded_protocol must be 'proto-only', 'true' or 'false'")),
        }
    }
}

/// The header in which proxies tell the address of the client.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeaderOfProxies(pub(super) ProxyHeader);

impl<'de> Deserialize<'de> for HeaderOfProxies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self(ProxyHeader::Either)),
            "x-forwarded-for" => Ok(Self(ProxyHeader::XForwardedFor)),
            "forwarded" => Ok(Self(ProxyHeader::Forwarded)),
            _ => Err(D::Error::custom("proxy_header must be 'auto', 'X-Forwarded-For' or 'Forwarded'")),
        }
    }
}

/// The least severe level that is logged, by name.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogLevel(pub(super) LevelFilter);

impl<'de> Deserialize<'de> for LogLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let level =
            name.parse().map_err(|_| D::Error::custom("log must be one of error, warn, info, debug, trace, off"));
        level.map(Self)
    }
}

/// The permission bits of a file, in octal digits.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileMode(pub(super) u32);

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let mode = u32::from_str_radix(&digits, 8).ok().filter(|mode| (0o1..=0o777).contains(mode));
        mode.map(Self)
            .ok_or_else(|| D::Error::custom("a mode must consist of octal digits, from 1 to 777, as in \"0660\""))
    }
}

pub(super) const fn limit(limit: usize) -> NonZeroUsize {
    match NonZeroUsize::new(limit) {
        Some(limit) => limit,
        None => NonZeroUsize::MIN,
    }
}
