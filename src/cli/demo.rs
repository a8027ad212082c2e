//! The instructions that the demo prints on the terminal.

use crate::daemon::Daemon;
use crate::net::ListenAddress;
use std::env;
use std::net::SocketAddr;

/// The control port that `gripd publish` and `gripd close` use unless they are told another.
const USUAL_CONTROL: u16 = 5561;

/// Prints how to stop the demo, how to use it, and commands to try out.
pub(super) fn introduce(daemon: &Daemon) {
    let program = env::args().next().unwrap_or_default();
    print!("{}", instructions(&program, daemon.listen(), daemon.local_control(), daemon.needs_token()));
}

/// Returns the instructions. The commands in them begin with `program`, as the user has typed it.
fn instructions(program: &str, clients: &ListenAddress, control: SocketAddr, needs_token: bool) -> String {
    let chat = match clients {
        ListenAddress::Tcp(clients) => format!("http://localhost:{}/", clients.port()),
        other => other.to_string(),
    };
    let program = shell_word(program);
    let server = if control.port() == USUAL_CONTROL { String::new() } else { format!(" --spec http://{control}") };
    let token = if needs_token { " --bearer TOKEN" } else { "" };
    format!(
        "
  The demo is a chat on {chat}
  Press Ctrl-C to stop it.

  1. Open {chat} in two tabs of a browser. Join as amy in one, and as bob in the other.

  2. In another terminal, say something to both of them:
         {program} publish conversation123 hello{server}{token}

  3. Kick bob, and keep him out for a minute:
         {program} close user-bob --deny-for 60{server}{token}

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
        let tcp = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let usual = instructions("gripd", &ListenAddress::Tcp(tcp(7999)), tcp(5561), false);
        assert!(usual.contains("    gripd publish conversation123 hello\n"), "{usual}");
        assert!(usual.contains("    gripd close user-bob --deny-for 60\n"), "{usual}");
        let other = instructions("/a b/it's", &ListenAddress::Tcp(tcp(80)), tcp(81), true);
        let expected = r"    '/a b/it'\''s' close user-bob --deny-for 60 --spec http://127.0.0.1:81 --bearer TOKEN";
        assert!(other.contains("http://localhost:80/") && other.contains(expected), "{other}");
    }
}
