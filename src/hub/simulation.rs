//! A simulation with items that are published late, twice or never, in any order. They are sent to a client that
//! knows ids and whose hold can ask the origin again. In the end the client must have every item once, and in order.

use super::{Hub, Settings};
use crate::grip::item::{ItemId, parse_batch};
use crate::grip::{Channel, Meta};
use crate::shard::{
    ChannelTerms, DeliveryForm, ItemHandling, MemoryClient, MemoryStream, Metrics, Parked, ParkedEvent, Profile, Shard,
    StepSizes, Terms,
};
use crate::wire::StreamForm;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::Instant;

const CHANNELS: [&str; 2] = ["a", "b"];

/// One step of a run.
#[derive(Clone, Debug)]
enum SimulationStep {
    /// The origin stores the next item of a channel.
    Store(usize),
    /// One of the stored items of a channel is published, perhaps not for the first time.
    Publish(usize, prop::sample::Index),
    /// The last stored item of a channel is published.
    PublishLast(usize),
    /// Every item that waits for another item has waited long enough, and is delivered.
    Wait,
    /// The hold takes its next event, if there is one. If the event is a refresh, it asks the origin.
    Hear,
    /// The origin answers, if it was asked.
    Answer,
}

fn act() -> impl Strategy<Value = SimulationStep> {
    prop_oneof![
        4 => (0..2usize).prop_map(SimulationStep::Store),
        2 => (0..2usize, any::<prop::sample::Index>()).prop_map(|(channel, which)| SimulationStep::Publish(channel, which)),
        4 => (0..2usize).prop_map(SimulationStep::PublishLast),
        1 => Just(SimulationStep::Wait),
        3 => Just(SimulationStep::Hear),
        2 => Just(SimulationStep::Answer),
    ]
}

struct Simulation {
    hub: Arc<Hub>,
    parked: Parked,
    client: MemoryClient,
    /// The number of items that the origin has stored for each channel.
    stored: [usize; 2],
    /// For each channel, the last item that the client had and the number of stored items when the origin was asked.
    /// `None` if the origin was never asked, or has answered since.
    asked: Option<[(usize, usize); 2]>,
}

fn terms(last: [usize; 2]) -> Terms {
    let term = |(name, last): (&&str, usize)| ChannelTerms {
        channel: Channel::from(*name),
        prefix: 0,
        prev_id: Some(ItemId::from(last.to_string())),
        filters: Vec::new(),
        left: false,
    };
    Terms { meta: Meta::default(), channels: CHANNELS.iter().zip(last).map(term).collect() }
}

impl Simulation {
    fn new(shard: &Rc<Shard>, hub: Arc<Hub>) -> Self {
        let (stream, client) = MemoryStream::bytes(1 << 20);
        let mut parked =
            Parked::new(shard, stream.into(), b"", DeliveryForm::Stream(StreamForm::Bare), &Profile::default());
        let channels = CHANNELS.map(Channel::from);
        parked.subscribe(&channels, &[]).unwrap();
        parked.set_terms(terms([0, 0]), ItemHandling { can_refresh: true, decides_items: false });
        Self { hub, parked, client, stored: [0, 0], asked: None }
    }

    async fn act(&mut self, act: &SimulationStep) {
        match act {
            SimulationStep::Store(channel) => self.stored[*channel] += 1,
            SimulationStep::Publish(channel, which) if self.stored[*channel] > 0 => {
                self.publish(*channel, 1 + which.index(self.stored[*channel])).await;
            }
            SimulationStep::PublishLast(channel) if self.stored[*channel] > 0 => {
                self.publish(*channel, self.stored[*channel]).await
            }
            SimulationStep::Wait => self.hub.catch_up(Instant::now() + Duration::from_secs(60)),
            SimulationStep::Hear => self.hear().await,
            SimulationStep::Answer => self.answer(),
            SimulationStep::Publish(..) | SimulationStep::PublishLast(_) => {}
        }
        for _ in 0..5 {
            yield_now().await;
        }
    }

    async fn publish(&self, channel: usize, number: usize) {
        let name = CHANNELS[channel];
        let item = json!({ "channel": name, "id": number.to_string(), "prev-id": (number - 1).to_string(),
            "http-stream": { "content": format!("{name}{number} ") } });
        let items = parse_batch(json!({ "items": [item] }).to_string().as_bytes()).unwrap().items;
        self.hub.publish(items, Box::new(|_| {})).await.unwrap();
    }

    /// Takes the next event of the hold, and asks the origin if the event is a refresh. Returns whether there was an
    /// event.
    async fn hears(&mut self) -> bool {
        match tokio::time::timeout(Duration::ZERO, self.parked.next()).await {
            Err(_) => false,
            Ok(ParkedEvent::Refresh) => {
                self.ask();
                true
            }
            Ok(other) => panic!("{other:?}"),
        }
    }

    async fn hear(&mut self) {
        self.hears().await;
    }

    fn ask(&mut self) {
        self.parked.queue_items();
        let last = self.parked.terms(|terms| terms.channels.iter().map(|t| t.prev_id.clone()).collect::<Vec<_>>());
        let last: Vec<usize> = last.unwrap().into_iter().map(|id| id.unwrap().parse().unwrap()).collect();
        self.asked = Some([(last[0], self.stored[0]), (last[1], self.stored[1])]);
    }

    /// Lets the origin answer with the items that it had stored when it was asked.
    fn answer(&mut self) {
        let Some(asked) = self.asked.take() else { return };
        for (name, (last, stored)) in CHANNELS.iter().zip(asked) {
            let told: String = (last + 1..=stored).map(|number| format!("{name}{number} ")).collect();
            self.parked.send([Bytes::from(told)]);
        }
        self.parked.set_terms(
            terms(asked.map(|(_, stored)| stored)),
            ItemHandling { can_refresh: true, decides_items: false },
        );
        self.parked.resume();
    }

    /// Lets the hold and the origin act until neither has anything left to do.
    async fn settle(&mut self) {
        for turn in 0.. {
            assert!(turn < 1000, "the hold and the origin never come to rest");
            for _ in 0..5 {
                yield_now().await;
            }
            let busy = self.asked.is_some();
            self.answer();
            if !self.hears().await && !busy {
                return;
            }
        }
    }

    fn check(&mut self) {
        let text = String::from_utf8(self.client.take()).unwrap();
        for (name, stored) in CHANNELS.iter().zip(self.stored) {
            let got: Vec<&str> = text.split(' ').filter_map(|item| item.strip_prefix(name)).collect();
            let expected: Vec<String> = (1..=stored).map(|number| number.to_string()).collect();
            assert_eq!(got, expected, "the numbers of the items of channel {name} in {text}");
        }
    }
}

async fn simulate(acts: Vec<SimulationStep>) {
    let settings = Settings { id_cache_ttl: Duration::ZERO, ..Settings::default() };
    let hub = Hub::new(settings, 1);
    let shard = Shard::new(
        crate::shard::Settings { steps: StepSizes::SMALL, ..crate::shard::Settings::default() },
        hub.inbox(0),
        Box::new(hub.membership(0)),
        Arc::new(Metrics::default()),
    );
    let delivering = Rc::clone(&shard);
    let deliver = tokio::task::spawn_local(async move { delivering.deliver().await });
    let mut run = Simulation::new(&shard, hub);
    for act in &acts {
        run.act(act).await;
    }
    // Whatever was lost before, nothing may be missing once the last item of each channel has come.
    for channel in 0..2 {
        run.act(&SimulationStep::Store(channel)).await;
        run.act(&SimulationStep::PublishLast(channel)).await;
    }
    run.act(&SimulationStep::Wait).await;
    run.settle().await;
    run.check();
    deliver.abort();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn every_item_arrives_in_order_or_the_origin_is_asked(acts in prop::collection::vec(act(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, simulate(acts));
    }
}
