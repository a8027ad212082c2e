//! The size of a shard's steps.

/// How much a shard does of one kind before something else has its turn. The larger the steps, the less each delivery costs;
/// the smaller, the sooner a close is seen and a request served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Items of a round.
    pub round_items: usize,
    /// Appends between two looks at the closes.
    pub look_every: usize,
    /// Connections with terms of their own that are offered an item before that, at most; each may have content made for
    /// it.
    pub special: usize,
    /// Bytes that may be made for connections with terms of their own before the outlets are flushed. They are not shared,
    /// so that a crowd of such connections would otherwise keep as many copies of an item.
    pub made_bytes: usize,
    /// Connections flushed before others have their turn.
    pub flush_connections: usize,
    /// Connections looked at for commands before others have their turn.
    pub command_looks: usize,
}

impl Default for Steps {
    fn default() -> Self {
        Self {
            round_items: 64,
            look_every: 4096,
            special: 64,
            made_bytes: 4 << 20,
            flush_connections: 256,
            command_looks: 256,
        }
    }
}

impl Steps {
    /// Steps so small that few connections meet all the places where others have their turn.
    #[cfg(test)]
    pub const SMALL: Self =
        Self { round_items: 3, look_every: 2, special: 1, made_bytes: 8, flush_connections: 2, command_looks: 2 };
}
