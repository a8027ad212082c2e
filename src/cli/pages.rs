//! A test that makes the manual pages and the shell completions in `packaging` from the arguments of the command line,
//! so that they cannot differ.

use super::args::Args;
use clap::{Command, CommandFactory};
use clap_complete::{Generator, Shell};
use clap_mangen::Man;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The environment variable with which this test writes the files instead of comparing them.
const WRITE: &str = "GRIPD_WRITE_PAGES";

/// The end of the page gripd(1), which the arguments do not tell.
const END: &str = r#".SH SIGNALS
.TP
\fBSIGTERM\fR, \fBSIGINT\fR
Begins a drain, which ends all connections. A second signal ends gripd at once.
.TP
\fBSIGHUP\fR
Reads the configuration again. If it is wrong, the current one remains in effect. Settings that need a restart are logged.
.SH EXIT STATUS
.TP
\fB0\fR
Success. gripd was drained completely.
.TP
\fB1\fR
A failure, or a drain that a second signal has interrupted.
.TP
\fB2\fR
Wrong arguments.
.TP
\fB78\fR
An invalid configuration.
.SH ENVIRONMENT
.TP
\fBGRIP_URL\fR
The control API to which \fBgripd publish\fR and \fBgripd close\fR send requests.
.TP
\fBGRIPD_CONFIG\fR
The configuration file, as for \fB\-\-config\fR.
.TP
\fBGRIPD_ROUTE\fR
The lines of routes, as for \fB\-\-route\fR.
.TP
\fBGRIPD_\fR\fINAME\fR
The setting of this name, such as \fBGRIPD_CLIENT_IDLE_TIMEOUT\fR for \fBidle_timeout\fR in \fB[client]\fR.
.TP
\fBNOTIFY_SOCKET\fR
The socket of the service manager that gripd tells when it serves, reloads and stops.
.SH FILES
.TP
\fI/etc/gripd/gripd.toml\fR
The configuration of the service in the Debian package.
.SH SEE ALSO
\fBgripd.toml\fR(5)
"#;

/// Returns the manual page of a command.
fn page(command: &Command) -> String {
    let mut page = Vec::new();
    let version = concat!("gripd ", env!("CARGO_PKG_VERSION"));
    // An empty date would be left out, and the version would take its place.
    let man = Man::new(command.clone()).date(" ").source(version).manual("gripd");
    man.render(&mut page).unwrap();
    String::from_utf8(page).unwrap()
}

/// Returns the manual pages, by the names of their files.
fn pages() -> BTreeMap<String, String> {
    let mut gripd = Args::command().disable_help_subcommand(true);
    gripd.build();
    let mut pages = BTreeMap::from([("gripd.1".to_owned(), page(&gripd) + END)]);
    for command in gripd.get_subcommands().filter(|command| !command.is_hide_set()) {
        pages.insert(format!("gripd-{}.1", command.get_name()), page(command) + ".SH SEE ALSO\n\\fBgripd\\fR(1)\n");
    }
    pages
}

/// Returns the completions, by the names of their files.
fn completions() -> BTreeMap<String, String> {
    let shells = [Shell::Bash, Shell::Fish, Shell::Zsh];
    let made = shells.map(|shell| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "gripd", &mut script);
        (shell.file_name("gripd"), String::from_utf8(script).unwrap())
    });
    made.into()
}

/// Returns the texts of the files in a folder whose names end with `ending`.
fn texts(folder: &Path, ending: &str) -> BTreeMap<String, String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| name.ends_with(ending));
    names.map(|name| (name.clone(), fs::read_to_string(folder.join(&name)).unwrap())).collect()
}

#[test]
fn the_manual_pages_and_completions_fit_the_arguments() {
    let packaging = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging");
    for (folder, ending, made) in [("man", ".1", pages()), ("completions", "", completions())] {
        let folder = packaging.join(folder);
        if env::var_os(WRITE).is_some() {
            fs::create_dir_all(&folder).unwrap();
            texts(&folder, ending).keys().for_each(|old| fs::remove_file(folder.join(old)).unwrap());
            made.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
        }
        assert!(made.len() >= 3, "too few files were made: {:?}", made.keys());
        assert!(
            texts(&folder, ending) == made,
            "{} is old: write it anew by {WRITE}=1 cargo test --lib cli::pages",
            folder.display()
        );
    }
}
