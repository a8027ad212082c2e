//! The page of the chat. It is one document with its style and its script, so that the demo needs no files, and so that
//! the hashes in its Content-Security-Policy allow nothing else.

use std::net::SocketAddr;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue};

use super::web::{self, DemoAnswer};
use crate::grip::base64;

const DOCUMENT: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
/// The parts of the script, in the order in which they run.
const SCRIPT: &str = concat!(
    include_str!("page/base.js"),
    include_str!("page/panel.js"),
    include_str!("page/messages.js"),
    include_str!("page/people.js"),
    include_str!("page/tabs.js"),
    include_str!("page/transports.js"),
    include_str!("page/start.js"),
);

/// The page, and the policy that allows its style and its script.
#[derive(Debug)]
pub(super) struct ChatPage {
    html: Bytes,
    policy: HeaderValue,
}

impl ChatPage {
    /// Returns the page of a demo that publishes to the control port at `control`.
    pub(super) fn new(control: SocketAddr) -> Self {
        let html =
            DOCUMENT.replace("{{control}}", &shown(control)).replace("{{style}}", STYLE).replace("{{script}}", SCRIPT);
        Self { html: html.into(), policy: policy() }
    }

    /// Returns the response with the page.
    pub(super) fn answer(&self) -> DemoAnswer {
        let mut answer = web::answer(StatusCode::OK, "text/html; charset=utf-8", self.html.clone());
        answer.headers_mut().insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        answer
    }
}

/// Returns the Content-Security-Policy of the page. Styles and scripts that somebody injects have no effect.
fn policy() -> HeaderValue {
    let hash = |text: &str| base64::encode(digest(&SHA256, text.as_bytes()).as_ref());
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// Returns the control port's address as somebody on this machine would type it.
fn shown(control: SocketAddr) -> String {
    let ip = control.ip();
    if ip.is_loopback() || ip.is_unspecified() {
        return format!("localhost:{}", control.port());
    }
    control.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_the_control_port() {
        let page = ChatPage::new(SocketAddr::from(([0, 0, 0, 0], 5561)));
        let html = str::from_utf8(&page.html).unwrap();
        assert!(html.contains("localhost:5561") && !html.contains("{{"), "a placeholder is left");
        assert_eq!(shown(SocketAddr::from(([10, 0, 0, 9], 80))), "10.0.0.9:80");
    }

    #[test]
    fn the_policy_allows_exactly_the_style_and_the_script_of_the_page() {
        let page = ChatPage::new(SocketAddr::from(([127, 0, 0, 1], 5561)));
        let html = str::from_utf8(&page.html).unwrap();
        let policy = page.policy.to_str().unwrap();
        for (element, directive) in [("script", "script-src"), ("style", "style-src")] {
            let (_, rest) = html.split_once(&format!("<{element}>")).unwrap();
            let (inside, rest) = rest.split_once(&format!("</{element}>")).unwrap();
            assert!(!rest.contains(&format!("<{element}")), "there is a second <{element}>");
            let hash = base64::encode(digest(&SHA256, inside.as_bytes()).as_ref());
            assert!(policy.contains(&format!("{directive} 'sha256-{hash}';")), "{element}: {policy}");
        }
    }
}
