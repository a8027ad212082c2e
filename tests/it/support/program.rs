//! gripd as a program in a process of its own.

use super::DEADLINE;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;

/// Returns a command that runs gripd with these arguments, and without `GRIP_URL` in its environment.
pub(crate) fn gripd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gripd"));
    command.args(args).env_remove("GRIP_URL");
    command
}

/// Runs gripd until it ends. Returns its exit code, standard output and standard error.
pub(crate) fn run(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = gripd(args).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Creates an empty folder of this name. A folder that an earlier test run has left is removed first.
pub(crate) fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A running gripd and its addresses. The process is killed when this value is dropped.
pub(crate) struct Program {
    child: Child,
    /// The lines of the log that no caller has read yet.
    lines: mpsc::Receiver<String>,
    /// The lines of the log that were read, except the one that names the addresses.
    log: String,
    /// The lines of standard output that no caller has read yet.
    printed: mpsc::Receiver<String>,
    pub(crate) clients: String,
    pub(crate) control: String,
}

/// Returns the lines that a program writes to standard output or standard error, as they come.
fn lines(output: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (said, lines) = mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| said.send(line))
    });
    lines
}

impl Program {
    /// Starts gripd with these arguments, and with free ports as its addresses.
    pub(crate) fn start(args: &[&str]) -> Self {
        let any = ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"];
        Self::of(gripd(&[&any, args].concat()))
    }

    /// Starts the demo with these arguments, and with free ports as its addresses.
    pub(crate) fn demo(args: &[&str]) -> Self {
        let any = ["demo", "--log", "info", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"];
        Self::of(gripd(&[&any, args].concat()))
    }

    /// Starts a gripd whose first log line names the addresses at which it listens.
    pub(crate) fn of(command: Command) -> Self {
        let mut program = Self::silent(command);
        let line = program.lines.recv_timeout(DEADLINE).unwrap();
        let field = |name: &str| {
            let rest = line.split_once(name).unwrap_or_else(|| panic!("no {name} in {line}")).1;
            rest.split_whitespace().next().unwrap().to_owned()
        };
        (program.clients, program.control) = (field("clients="), field("control="));
        program
    }

    /// Starts a gripd whose arguments or configuration say that it listens at these addresses.
    pub(crate) fn start_at(args: &[&str], clients: &str, control: &str) -> Self {
        let mut program = Self::silent(gripd(args));
        (program.clients, program.control) = (clients.into(), control.into());
        program
    }

    /// Starts a gripd that need not log its addresses, which are then unknown.
    pub(crate) fn silent(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (printed, lines) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Self { child, lines, log: String::new(), printed, clients: String::new(), control: String::new() }
    }

    /// Sends a signal, such as `TERM`, to the process.
    pub(crate) fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    /// Waits for a line of the log that contains `text`.
    pub(crate) fn says(&mut self, text: &str) {
        loop {
            let line = self.lines.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no {text} in {}", self.log));
            self.log.extend([&line, "\n"]);
            if line.contains(text) {
                return;
            }
        }
    }

    /// Waits for a line of standard output that contains `text`, and returns it.
    pub(crate) fn prints(&self, text: &str) -> String {
        loop {
            let line = self.printed.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("'{text}' was not printed"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Kills the process, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until the process ends. Returns its exit code and its log.
    pub(crate) fn wait(&mut self) -> (i32, String) {
        let status = self.end();
        (status.code().unwrap(), std::mem::take(&mut self.log))
    }

    /// Waits until the process ends, by itself or by a signal.
    pub(crate) fn end(&mut self) -> ExitStatus {
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            self.log.extend([&line, "\n"]);
        }
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
