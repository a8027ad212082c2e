//! The addresses to listen on that may be Unix sockets. Their paths are relative to the folder of the configuration
//! file.

use super::control_api::ControlTable;
use super::error::ConfigError;
use super::file::ConfigFile;
use super::file_path::folder;
use super::places::SettingPlaces;
use crate::net::{ListenAddress, UnixAddress};
use std::path::Path;

/// The permission bits of the control API's Unix socket, unless `unix_mode` sets others. Only the user that gripd
/// runs as may connect.
const MODE: u32 = 0o600;

/// Returns the Unix socket of the control API, if one is configured. `path` is the path of the configuration file.
/// Errors are added to `error`.
pub(super) fn unix(
    path: Option<&Path>,
    control: &ControlTable,
    places: &SettingPlaces,
    error: &mut ConfigError,
) -> Option<UnixAddress> {
    if control.unix_mode.is_some() && control.unix.is_none() {
        error.push(
            places.of_setting("control.unix_mode"),
            "control.unix_mode is set, but control.unix is not; set control.unix or remove control.unix_mode",
        );
    }
    let name = control.unix.as_ref()?;
    if name.is_empty() {
        error.push(places.of_setting("control.unix"), "control.unix: must not be empty");
    }
    let mode = control.unix_mode.map_or(MODE, |mode| mode.0);
    Some(UnixAddress { path: folder(path).join(name), mode })
}

/// Returns the address on which clients are served, if one is configured. `over` is the address on the command line,
/// which takes precedence over the one in the file. `path` is the path of the configuration file. Errors are added to
/// `error`.
pub(super) fn listen(
    path: Option<&Path>,
    file: &ConfigFile,
    over: Option<&ListenAddress>,
    places: &SettingPlaces,
    error: &mut ConfigError,
) -> Option<ListenAddress> {
    let written = file.listen.as_ref().map(|listen| listen.0.clone().within(folder(path)));
    let address = over.cloned().or(written);
    match (address, file.listen_mode) {
        (Some(ListenAddress::Unix(address)), Some(mode)) => {
            Some(ListenAddress::Unix(UnixAddress { mode: mode.0, ..address }))
        }
        (address, Some(_)) if over.is_none() => {
            error.push(
                places.of_setting("listen_mode"),
                "listen_mode requires listen = \"unix:FILE\", because a TCP address has no file mode",
            );
            address
        }
        (address, _) => address,
    }
}
