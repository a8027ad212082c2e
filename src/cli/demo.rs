//! The instructions that the demo prints on the terminal.

use super::say;
use crate::daemon::Daemon;
use crate::net::ListenAddress;
use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The control port that `gripd publish` and `gripd close` use unless they are told another.
const USUAL_CONTROL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5561);

/// Prints how to stop the demo, how to use it, and commands to try out.
pub(super) fn introduce(daemon: &Daemon) {
    let program = env::args().next().unwrap_or_default();
    let is_usual = daemon.local_control() == USUAL_CONTROL && env::var_os("GRIP_URL").is_none();
    let server = if is_usual { String::new() } else { format!(" --spec http://{}", daemon.local_control()) };
    let token = if daemon.needs_token() { " --bearer TOKEN" } else { "" };
    say(&instructions(&program, daemon.listen(), &format!("{server}{token}")));
}

/// Returns the instructions. The commands in them begin with `program`, as the user has typed it, and those for a
/// publisher end with `options`.
fn instructions(program: &str, clients: &ListenAddress, options: &str) -> String {
    let chat = match clients {
        ListenAddress::Tcp(clients) if clients.ip().is_unspecified() || clients.ip() == Ipv4Addr::LOCALHOST => {
            format!("http://localhost:{}/", clients.port())
        }
        ListenAddress::Tcp(clients) => format!("http://{clients}/"),
        other => format!("{other}, behind a proxy"),
    };
    let program = shell_word(program);
    format!(
        "
  The demo is a chat on {chat}
  Press Ctrl-C to stop it.

  1. Open {chat} in two tabs of a browser. Join as amy in one, and as bob in the other.

  2. In another terminal, say something to both of them:
         {program} publish conversation123 hello{options}

  3. Kick bob, and keep him out for a minute:
         {program} close user-bob --deny-for 60{options}

  4. Put gripd in front of your own backend, for example on port 8000. Stop the demo first:
         {program} --route '* localhost:8000'

"
    )
}

/// Returns a word as a shell reads it, in quotes if it needs them.
fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_name_the_program_and_an_unusual_server() {
        let tcp = |address: &str| ListenAddress::Tcp(address.parse().unwrap());
        let usual = instructions("gripd", &tcp("127.0.0.1:7999"), "");
        assert!(usual.contains("    gripd publish conversation123 hello\n"), "{usual}");
        assert!(usual.contains("    gripd close user-bob --deny-for 60\n"), "{usual}");
        assert!(usual.contains("http://localhost:7999/"), "{usual}");
        let other = instructions("/a b/it's", &tcp("10.0.0.1:80"), " --bearer TOKEN");
        let expected = r"    '/a b/it'\''s' close user-bob --deny-for 60 --bearer TOKEN";
        assert!(other.contains("http://10.0.0.1:80/") && other.contains(expected), "{other}");
    }
}
