//! The size of the steps in which a shard does its work.

/// The limits on the work of one kind that a shard does before it turns to something else. The larger they are, the
/// less each delivery costs. The smaller they are, the sooner the shard notices a close and serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSizes {
    /// The maximum number of items in a round.
    pub round_items: usize,
    /// The maximum number of connections that are considered for items before the shard looks for commands.
    pub look_every: usize,
    /// The maximum number of connections to which an item is offered one after another before the shard looks for
    /// commands. Connections with terms are offered items in this way, because content may be made for each of them.
    /// All connections are, if the item has hints, a patch, or content that is made for certain filters.
    pub single_offers: usize,
    /// The number of bytes that filters may make for single connections before the outlets are flushed. These bytes
    /// are not shared, so many such connections would otherwise need as many copies of an item at the same time.
    pub made_bytes: usize,
    /// The maximum number of connections that are flushed before other tasks run.
    pub flush_connections: usize,
    /// The maximum number of connections that are checked for commands before other tasks run.
    pub command_looks: usize,
}

impl Default for StepSizes {
    fn default() -> Self {
        Self {
            round_items: 64,
            look_every: 4096,
            single_offers: 64,
            made_bytes: 4 << 20,
            flush_connections: 256,
            command_looks: 256,
        }
    }
}

impl StepSizes {
    /// Limits so small that few connections suffice to reach every point at which the shard turns to something else.
    #[cfg(test)]
    pub const SMALL: Self =
        Self { round_items: 3, look_every: 2, single_offers: 1, made_bytes: 8, flush_connections: 2, command_looks: 2 };
}
