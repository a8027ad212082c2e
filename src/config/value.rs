//! Types for the values of the configuration file, which check the values when they are read.

use super::MAX_SHARDS;
use super::units::{parse_duration, parse_size};
use crate::net::{ListenAddress, parse_address};
use crate::origin::ForwardedProto;
use crate::wire::ProxyHeader;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;
use toml::Value;
use tracing::level_filters::LevelFilter;

/// An address on which clients are served.
#[derive(Clone, Debug)]
pub(super) struct ListenValue(pub(super) ListenAddress);

impl<'de> Deserialize<'de> for ListenValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_number(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

/// A time from 0 to one year: a number of seconds, which may have a fraction, or a text such as `5s`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seconds(pub(super) Duration);

/// A time to wait for something, from one millisecond to one year, written in the same ways.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitTime(pub(super) Duration);

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const MILLISECOND: Duration = Duration::from_millis(1);

fn duration<'de, D: Deserializer<'de>>(deserializer: D, least: Duration) -> Result<Duration, D::Error> {
    let range = if least.is_zero() { "from 0 to a year" } else { "from a millisecond to a year" };
    let text = match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        _ => return Err(D::Error::custom(format!("give a time {range}, such as 5, 0.5, \"5s\" or \"2m\""))),
    };
    let time = parse_duration(&text).map_err(D::Error::custom)?;
    if !(least..=YEAR).contains(&time) {
        return Err(D::Error::custom(format!("give a time {range}, in seconds or with a unit")));
    }
    Ok(time)
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        duration(deserializer, Duration::ZERO).map(Self)
    }
}

impl<'de> Deserialize<'de> for WaitTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        duration(deserializer, MILLISECOND).map(Self)
    }
}

/// A number of bytes, at least `LEAST` and at most `MOST`, written as a number or as a text such as `64KiB`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size<const LEAST: u64 = 0, const MOST: u64 = { u32::MAX as u64 }>(pub(super) usize);

impl<'de, const LEAST: u64, const MOST: u64> Deserialize<'de> for Size<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong =
            || D::Error::custom(format!("give a size from {LEAST} to {MOST} bytes, such as 65536 or \"64KiB\""));
        let size = match Value::deserialize(deserializer)? {
            Value::String(text) => parse_size(&text).map_err(D::Error::custom)?,
            Value::Integer(size) => u64::try_from(size).map_err(|_| wrong())?,
            _ => return Err(wrong()),
        };
        let size = Some(size).filter(|size| (LEAST..=MOST).contains(size)).ok_or_else(wrong)?;
        usize::try_from(size).map(Self).map_err(|_| wrong())
    }
}

/// An address with a port for publishers or probes. A port alone means the loopback address.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortAddress(pub(super) SocketAddr);

impl<'de> Deserialize<'de> for PortAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = text_or_number(deserializer)?;
        parse_address(&text, Ipv4Addr::LOCALHOST).map(Self).map_err(D::Error::custom)
    }
}

/// Reads a text, which may be written without quotes if it is a whole number.
fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        _ => Err(D::Error::custom("give an address and a port in quotes, such as \"127.0.0.1:5561\", or a port")),
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
            _ => Err(D::Error::custom("give 'proto-only', 'true' or 'false'")),
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
            _ => Err(D::Error::custom("give 'auto', 'X-Forwarded-For' or 'Forwarded'")),
        }
    }
}

/// The least severe level that is logged, by name.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogLevel(pub(super) LevelFilter);

impl<'de> Deserialize<'de> for LogLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let level = name.parse().map_err(|_| D::Error::custom("give one of error, warn, info, debug, trace and off"));
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
        mode.map(Self).ok_or_else(|| D::Error::custom("give a mode of octal digits, from 1 to 777, as in \"0660\""))
    }
}

pub(super) const fn limit(limit: usize) -> NonZeroUsize {
    match NonZeroUsize::new(limit) {
        Some(limit) => limit,
        None => NonZeroUsize::MIN,
    }
}
