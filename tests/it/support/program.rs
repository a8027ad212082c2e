//! gripd as a program.

use super::DEADLINE;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;

/// The program with these arguments.
pub(crate) fn gripd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gripd"));
    command.args(args).env_remove("GRIP_URL");
    command
}

/// Runs it to its end: exit code, standard output, standard error.
pub(crate) fn run(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = gripd(args).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// An empty folder of this name.
pub(crate) fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A running program and its addresses. It is killed when dropped.
pub(crate) struct Program {
    child: Child,
    /// Lines of its log, as they come,
    lines: mpsc::Receiver<String>,
    /// and those that were looked at.
    log: String,
    pub(crate) clients: String,
    pub(crate) control: String,
}

/// What a program writes, line by line.
fn lines(stderr: ChildStderr) -> mpsc::Receiver<String> {
    let (said, lines) = mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| said.send(line))
    });
    lines
}

impl Program {
    /// On free ports.
    pub(crate) fn start(args: &[&str]) -> Self {
        let any = ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"];
        Self::of(gripd(&[&any, args].concat()))
    }

    /// One that says where it listens, before anything else.
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

    /// Whose arguments say that it listens at these addresses.
    pub(crate) fn start_at(args: &[&str], clients: &str, control: &str) -> Self {
        let mut program = Self::silent(gripd(args));
        (program.clients, program.control) = (clients.into(), control.into());
        program
    }

    /// One that may not say where it listens.
    pub(crate) fn silent(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = lines(child.stderr.take().unwrap());
        Self { child, lines, log: String::new(), clients: String::new(), control: String::new() }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    /// Waits for a line of its log.
    pub(crate) fn says(&mut self, text: &str) {
        loop {
            let line = self.lines.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no {text} in {}", self.log));
            self.log.extend([&line, "\n"]);
            if line.contains(text) {
                return;
            }
        }
    }

    /// Kills it, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Reads its log to the end: exit code and log.
    pub(crate) fn wait(&mut self) -> (i32, String) {
        let status = self.end();
        (status.code().unwrap(), std::mem::take(&mut self.log))
    }

    /// Waits for its end, however it ends.
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
