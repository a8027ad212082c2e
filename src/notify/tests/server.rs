//! A server that receives webhooks.

use crate::notify::Webhook;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

/// A request, as the server received it.
pub(super) struct SeenRequest {
    /// The number of the connection on which the request came.
    pub(super) connection: usize,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl SeenRequest {
    /// Returns the events of the request, without their times, and with only the number of their ids.
    pub(super) fn events(&self) -> Vec<Value> {
        let plain = |event: &Value| {
            let mut event = event.as_object().unwrap().clone();
            assert!(event.remove("time").unwrap().as_f64().unwrap() > 1_700_000_000.0);
            let id = event["id"].as_str().unwrap().rsplit_once('-').unwrap().1.parse::<u64>().unwrap();
            event.insert("id".into(), id.into());
            Value::Object(event)
        };
        self.body["events"].as_array().unwrap().iter().map(plain).collect()
    }
}

/// A server that answers its nth request with the nth of these statuses, and all others with 204.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    seen: UnboundedReceiver<SeenRequest>,
}

impl Server {
    pub(super) async fn start(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, seen) = mpsc::unbounded_channel();
        let statuses = Arc::new(Mutex::new(statuses.iter().rev().copied().collect::<Vec<_>>()));
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (sender, statuses) = (sender.clone(), Arc::clone(&statuses));
                let service = service_fn(move |request| {
                    let (sender, statuses) = (sender.clone(), Arc::clone(&statuses));
                    async move { answer(connection, request, &sender, &statuses).await }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { address, seen }
    }

    /// Returns a webhook that sends to this server.
    pub(super) fn hook(&self) -> Webhook {
        super::hook(self.address)
    }

    pub(super) async fn next(&mut self) -> SeenRequest {
        self.seen.recv().await.unwrap()
    }

    /// Returns the events of all requests that the test has not taken yet.
    pub(super) fn rest(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).flat_map(|seen| seen.events()).collect()
    }
}

async fn answer(
    connection: usize,
    request: Request<Incoming>,
    seen: &UnboundedSender<SeenRequest>,
    statuses: &Mutex<Vec<u16>>,
) -> hyper::Result<Response<Empty<Bytes>>> {
    let (head, body) = request.into_parts();
    assert_eq!(head.method, "POST");
    let body = serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap();
    let status = statuses.lock().unwrap().pop().unwrap_or(204);
    let _ = seen.send(SeenRequest { connection, path: head.uri.to_string(), headers: head.headers, body });
    Ok(Response::builder().status(status).header("location", "/elsewhere").body(Empty::new()).unwrap())
}
