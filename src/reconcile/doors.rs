//! The machine's only two doors: what goes in and what comes out.

use super::event::Event;
use super::lookout::Scope;
use crate::model::{Asker, BusId, Desk, Device, XenPart, XenView};
use crate::plan::{Cause, Cleared, Objection, Refusal, Request, Standing, StepError};
use crate::policy::Policy;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What happened outside.
#[derive(Debug)]
pub enum Input {
    /// This policy holds from now on.
    Policy(Arc<Policy>),
    /// Something happened there.
    Stirred(Scope),
    /// The answer to [`Output::Look`].
    Saw(Sight),
    /// The look could not be made, for this reason.
    LookFailed(Scope, Cause),
    /// The connection to xenstore is lost: nothing can be read or done there.
    XenstoreLost,
    /// It is back: everything read there is old.
    XenstoreBack,
    /// The step with this ticket ended.
    Finished(Ticket, Result<(), StepError>),
    /// A person asks for something; [`Output::Answer`] answers.
    Ask(RequestId, Asked),
    /// Nobody waits for that answer any more. An order that is noted already stays noted.
    Unasked(RequestId),
    /// The agent is to end, with everything given back to dom0 or left as it is.
    Leave {
        /// Whether everything is given back.
        detach: bool,
    },
    /// The deadline has passed.
    Timeout,
}

/// What a look brought.
#[derive(Debug)]
pub enum Sight {
    /// Where something is plugged, whether usbback is loaded, and what else dom0 is operated with.
    Usb(BTreeSet<BusId>, bool, Desk),
    /// One device; `None` when it is gone.
    Device(BusId, Option<Device>),
    /// All of xenstore that matters.
    Xen(XenView),
    /// Some domains (`None` for one that is gone), and all notes.
    Domains(XenPart),
}

/// What the shell must do.
#[derive(Debug)]
pub enum Output {
    /// Look there and answer with [`Input::Saw`] or [`Input::LookFailed`].
    Look(Scope),
    /// Perform the step and answer with [`Input::Finished`].
    Run(Ticket, Cleared),
    /// Tell whoever wants to know.
    Report(Event),
    /// The answer to [`Input::Ask`].
    Answer(RequestId, Result<Answer, Objection>),
    /// After [`Input::Leave`]: everything is done.
    Left,
}

/// Names one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who asks.
    pub who: Asker,
    /// For what.
    pub request: Request,
    /// Whether the answer is to come only when the device has come to rest, and not already when the
    /// order is noted.
    pub wait: bool,
}

/// An order is noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The device.
    pub busid: BusId,
    /// How it stands with it now; `None` when nothing is plugged there, or nobody waited.
    pub standing: Option<Standing>,
    /// What would have refused it without force.
    pub waived: Option<Refusal>,
}

/// Names one step on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(super) u64);
