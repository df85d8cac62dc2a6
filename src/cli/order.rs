//! `pvusb-agent attach`, `detach`, `hold`, `release`: orders to a running agent.

use super::socket::{PATIENCE, SocketArg, ask};
use crate::control::protocol::{Ask, OrderAsk, OrderOutcome, Outcome};
use crate::model::DeviceName;
use crate::plan::{Request, Wanted};
use clap::Args;
use std::io::Write;
use std::time::Duration;

pub(super) const ATTACH_HELP: &str = "Examples:\n  \
    pvusb-agent attach 1-1.4 kiosk              by its place\n  \
    pvusb-agent attach 05e0:1200 kiosk          by its id, if only one has it\n  \
    pvusb-agent attach 1.6 7                    by bus and device in decimal, to domain 7\n  \
    pvusb-agent attach 1-1.4 kiosk --remember   also after the next boot";
pub(super) const DETACH_HELP: &str = "Examples:\n  \
    pvusb-agent detach 1-1.4\n  \
    pvusb-agent detach 05e0:1200 --no-wait";
pub(super) const HOLD_HELP: &str = "Examples:\n  \
    pvusb-agent hold 1-1.4\n  \
    pvusb-agent hold 1-1.4 --remember   also after the next boot";
pub(super) const RELEASE_HELP: &str = "Examples:\n  \
    pvusb-agent release 1-1.4";

/// What every order has.
#[derive(Args, Clone, Debug)]
struct Common {
    /// A busid (`1-1.4`), a bus address in decimal (`1.6`) or an id (`05e0:1200`)
    #[arg(value_name = "DEVICE")]
    device: DeviceName,
    /// How long to wait until it is done
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE, conflicts_with = "no_wait",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    wait: u64,
    /// End as soon as the order is noted
    #[arg(long)]
    no_wait: bool,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

/// Arguments of `attach`.
#[derive(Args, Clone, Debug)]
pub(super) struct AttachArgs {
    #[command(flatten)]
    common: Common,
    /// The domain's name, number or UUID
    domain: String,
    /// Also if the device is protected; what dom0 needs to run is not given away even so
    #[arg(long)]
    force: bool,
    /// Also after the next boot: write a rule beside the policy
    #[arg(long)]
    remember: bool,
}

/// Arguments of `detach`.
#[derive(Args, Clone, Debug)]
pub(super) struct DetachArgs {
    #[command(flatten)]
    common: Common,
    /// Also after the next boot: write a rule beside the policy
    #[arg(long)]
    remember: bool,
}

/// Arguments of `hold`.
#[derive(Args, Clone, Debug)]
pub(super) struct HoldArgs {
    #[command(flatten)]
    common: Common,
    /// Also after the next boot: write a rule beside the policy
    #[arg(long)]
    remember: bool,
}

/// Arguments of `release`.
#[derive(Args, Clone, Debug)]
pub(super) struct ReleaseArgs {
    #[command(flatten)]
    common: Common,
}

impl AttachArgs {
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
        let wanted = Wanted::Attach(self.domain.into());
        self.common.run(wanted, self.force, self.remember, (out, err))
    }
}

impl DetachArgs {
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
        self.common.run(Wanted::Detach, false, self.remember, (out, err))
    }
}

impl HoldArgs {
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
        self.common.run(Wanted::Hold, false, self.remember, (out, err))
    }
}

impl ReleaseArgs {
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
        self.common.run(Wanted::Release, false, false, (out, err))
    }
}

impl Common {
    fn run(
        self,
        wanted: Wanted,
        force: bool,
        remember: bool,
        (out, err): (&mut dyn Write, &mut dyn Write),
    ) -> u8 {
        let request = Request { device: self.device, wanted, force };
        let question = Ask::Order(OrderAsk { request, remember, wait: !self.no_wait });
        let patience = Duration::from_secs(self.wait);
        ask(&self.socket, question, patience, self.json, text, (out, err))
    }
}

fn text(outcome: &Outcome) -> String {
    let Outcome::Order(OrderOutcome { message, waived, remembered, .. }) = outcome else {
        return String::new();
    };
    let waived = waived.iter().map(|waived| format!("\noverridden: {waived}"));
    let remembered = remembered.iter().map(|remembered| format!("\n{remembered}"));
    message.clone() + &waived.chain(remembered).collect::<String>()
}
