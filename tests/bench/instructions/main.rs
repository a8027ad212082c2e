//! Six scenes whose instructions are counted. In each, a whole gripd runs in one thread, with clients, a publisher
//! and an origin in memory.
//!
//! `tests/bench/instructions.py` runs each scene under callgrind, which counts while `measured` runs. Nothing depends
//! on the network, on other threads or on time, so that the counts are nearly the same in every run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that cannot go on fails")]

mod clients;
mod origin;

use clients::{Publisher, held, plain, read_until};
use gripd::config::{Config, Overrides};
use gripd::daemon::run_in_single_thread;
use gripd::net::{ListenAddress, MemoryAddress, MemoryClient, MemoryServer};
use std::net::SocketAddr;
use std::process::ExitCode;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::task::{spawn_local, yield_now};
use tracing::level_filters::LevelFilter;

/// The number of clients that hold the channel to which `burst` and `single` publish.
const ROOM: usize = 1000;
/// The number of items in a burst.
const BURST: usize = 64;
/// The number of channels that each connection holds in the scene `join`.
const CHANNELS: usize = 100;

/// The addresses of a running gripd: for clients, and for publishers.
struct World {
    clients: MemoryAddress,
    control: MemoryAddress,
}

impl World {
    /// Starts a gripd and its origin.
    fn new() -> Self {
        let (clients, control, server) = (MemoryAddress::default(), MemoryAddress::default(), MemoryServer::default());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let overrides = Overrides {
            routes: vec!["* origin:80".to_owned()],
            listen: Some(ListenAddress::Memory(clients.clone())),
            control: Some(any),
            shards: Some(1),
            log: Some(LevelFilter::OFF),
            ..Overrides::default()
        };
        let mut config = Config::load(None, &overrides).unwrap_or_else(|error| panic!("{error}"));
        config.control.unix = Some(ListenAddress::Memory(control.clone()));
        config.origin.memory = Some(server.clone());
        spawn_local(origin::serve(server));
        spawn_local(async { run_in_single_thread(config).await.unwrap() });
        Self { clients, control }
    }

    /// Connects a client for each list of channels, waits until it is held, and returns all clients.
    async fn hold(&self, channels: impl Iterator<Item = String>) -> Vec<MemoryClient> {
        let mut all = Vec::new();
        for channels in channels {
            all.push(held(&self.clients, &channels).await);
        }
        all
    }
}

/// Runs the part of a scene that is counted. It is never inlined, because callgrind finds it by its name.
#[inline(never)]
fn measured<T>(runtime: &LocalRuntime, scene: impl Future<Output = T>) -> T {
    runtime.block_on(scene)
}

/// Makes requests that gripd passes on, one after the other on one connection.
fn proxied(runtime: &LocalRuntime, world: &World) -> usize {
    const REQUESTS: usize = 1000;
    let mut client = world.clients.connect();
    let ask = async |client: &mut MemoryClient, count| {
        for _ in 0..count {
            plain(client).await;
        }
    };
    runtime.block_on(ask(&mut client, 100));
    measured(runtime, ask(&mut client, REQUESTS));
    REQUESTS
}

/// Connects clients that are held and then disconnect, one after the other.
fn hold(runtime: &LocalRuntime, world: &World) -> usize {
    const HOLDS: usize = 500;
    let come_and_go = async |count| {
        for number in 0..count {
            drop(held(&world.clients, &format!("conversation123,user{number}")).await);
            // gripd's tasks run and see that the client has disconnected.
            for _ in 0..3 {
                yield_now().await;
            }
        }
    };
    runtime.block_on(come_and_go(50));
    measured(runtime, come_and_go(HOLDS));
    HOLDS
}

/// Connects clients that hold `CHANNELS` channels each.
fn join(runtime: &LocalRuntime, world: &World) -> usize {
    const HOLDS: usize = 50;
    let come = async |from: usize, count| {
        let channels = |number| (0..CHANNELS).map(move |n| format!("c{number}-{n}")).collect::<Vec<_>>().join(",");
        world.hold((from..from + count).map(channels)).await
    };
    let _before = runtime.block_on(come(0, 10));
    let _held = measured(runtime, come(10, HOLDS));
    HOLDS * CHANNELS
}

/// Publishes bursts of items to `ROOM` streams.
fn burst(runtime: &LocalRuntime, world: &World) -> usize {
    publish(runtime, world, BURST, 10)
}

/// Publishes items one by one to `ROOM` streams.
fn single(runtime: &LocalRuntime, world: &World) -> usize {
    publish(runtime, world, 1, 50)
}

fn publish(runtime: &LocalRuntime, world: &World, items: usize, rounds: usize) -> usize {
    let mut publisher = Publisher::new(&world.control);
    let mut room = runtime.block_on(world.hold((0..ROOM).map(|_| "room".to_owned())));
    let mut rounds_of = async |count| {
        for _ in 0..count {
            publisher.say("room", items).await;
            for client in &mut room {
                read_until(client, b"last\n\r\n").await;
            }
        }
    };
    runtime.block_on(rounds_of(2));
    measured(runtime, rounds_of(rounds));
    ROOM * items * rounds
}

/// Closes users one after the other, and reads each receipt.
fn kick(runtime: &LocalRuntime, world: &World) -> usize {
    const KICKS: usize = 500;
    let mut publisher = Publisher::new(&world.control);
    let mut users =
        runtime.block_on(world.hold((0..KICKS + 50).map(|n| format!("conversation123,user{n}")))).into_iter();
    let mut number = 0;
    let mut kick = async |count| {
        for mut user in users.by_ref().take(count) {
            publisher.close(&format!("user{number}")).await;
            read_until(&mut user, b"0\r\n\r\n").await;
            number += 1;
        }
    };
    runtime.block_on(kick(50));
    measured(runtime, kick(KICKS));
    KICKS
}

/// The function of a scene. It returns the number of counted operations, by which the instructions are divided.
type Scene = fn(&LocalRuntime, &World) -> usize;

const SCENES: [(&str, Scene); 6] =
    [("proxied", proxied), ("hold", hold), ("join", join), ("burst", burst), ("single", single), ("kick", kick)];

fn main() -> ExitCode {
    let name = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let Some((_, scene)) = SCENES.iter().find(|(own, _)| Some(*own) == name.as_deref()) else {
        let names = SCENES.map(|(name, _)| name).join(", ");
        eprintln!("name one of the scenes {names}; tests/bench/instructions.py runs all of them under callgrind");
        return ExitCode::from(2);
    };
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    let world = runtime.block_on(async { World::new() });
    println!("{}", scene(&runtime, &world));
    ExitCode::SUCCESS
}
