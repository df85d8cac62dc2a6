//! What somebody does to the host without the agent, who is told of it.

/// Something that is done by hand: a controller is made or removed, or something is mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByHand {
    /// What it is, for people.
    pub act: String,
    /// How far it is.
    pub stage: Stage,
}

/// How far it is with what is done by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is about to be done.
    Begun,
    /// It is done.
    Done,
    /// It was not done, or not all of it, for this reason.
    Failed(String),
}
