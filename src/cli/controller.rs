//! `pvusb-agent controller add`, `remove` and `list`: controllers by hand.
//!
//! What is to be done is decided by `plan::controllers`, and done by `host::perform`. Here it is asked for
//! and told. No agent is asked: one that runs takes it down, and sees the controller come and go.

mod list;
mod refusal;

use super::by_hand::Clerk;
use super::look::{self, look, unseen};
use super::socket::SocketArg;
use super::{EX_IOERR, EX_OK};
use crate::host::look::XenReader;
use crate::host::perform::Performer;
use crate::host::usb::{Drivers, UsbReader};
use crate::host::userdata::UserData;
use crate::host::xenstore::{Endpoint, Xenstore};
use crate::model::{ControllerId, ControllerSpec, Observed, PortNumber, UsbVersion, XenbusState};
use crate::plan::controllers::{NamedDomain, found, wanted};
use crate::plan::ports::BACKEND_DEADLINE;
use crate::plan::{ControllerWanted, Denial, Problem, StepError};
use crate::policy::{ControllerWish, KindWish};
use clap::{Args, Subcommand, ValueEnum};
use refusal::Refusal;
use serde::Serialize;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

pub(super) const HELP: &str = "Examples:
  pvusb-agent controller add kiosk --ports 16
  pvusb-agent controller list kiosk
  pvusb-agent controller remove kiosk 1";

const ADD_HELP: &str = "Examples:
  pvusb-agent controller add kiosk                     of the type that the agent would choose
  pvusb-agent controller add 5 --type pv --version 1   served by dom0's kernel, for old devices
  pvusb-agent controller add kiosk --ports 16          a second one with qusb: give it more ports

It ends with the domain. To have it at each start, write it into the domain's xl.cfg:
usbctrl = [ 'type=qusb,version=2,ports=16' ]. The qusb controllers of a domain share their port
numbers: as long as port 1 of one is in use, the agent uses port 1 of no other.";

const REMOVE_HELP: &str = "Examples:
  pvusb-agent controller list kiosk
  pvusb-agent controller remove kiosk 1

It must be empty. Take devices out with `pvusb-agent detach`, or with `xl usbdev-detach` what was
attached with xl. For the next device of the domain the agent makes another one if it must.";

const LIST_HELP: &str = "Examples:
  pvusb-agent controller list
  pvusb-agent controller list kiosk --json    as `pvusb-agent domains --json` tells it";

/// How long a backend may take to close. libxl waits as long before it removes the controller all the same
/// (`LIBXL_DESTROY_TIMEOUT`).
const CLOSING_DEADLINE: Duration = Duration::from_secs(10);

/// How long one that is late may take to say what has become of it.
const LAST_LOOK: Duration = Duration::from_millis(500);

/// Arguments of `controller`.
#[derive(Args, Clone, Debug)]
pub(super) struct ControllerArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Make a controller in a domain, and wait until its backend serves it
    ///
    /// It gets the next number of the domain. When nothing serves it, it is removed again.
    #[command(after_help = ADD_HELP)]
    Add(AddArgs),
    /// Remove an empty controller from a domain, whoever made it
    #[command(after_help = REMOVE_HELP)]
    Remove(RemoveArgs),
    /// List controllers, how many ports are free, and what is in the others
    #[command(after_help = LIST_HELP)]
    List(ListArgs),
}

/// What all of them have.
#[derive(Args, Clone, Debug)]
struct Common {
    /// Answer in JSON
    #[arg(long)]
    json: bool,
    /// Where libxl keeps its files about domains
    #[arg(long, value_name = "DIR", default_value = UserData::DIR)]
    libxl_dir: PathBuf,
}

#[derive(Args, Clone, Debug)]
struct AddArgs {
    /// The domain's name, number or UUID
    #[arg(value_name = "DOMAIN")]
    domain: String,
    /// Who is to serve it: dom0's kernel, or the domain's QEMU [default: as the agent would choose]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<Kind>,
    /// The USB version that it offers
    #[arg(long, value_name = "VERSION", default_value = "2")]
    version: Version,
    /// How many ports it has, 1 to 31
    #[arg(long, value_name = "PORTS", default_value = "8")]
    ports: PortNumber,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    socket: SocketArg,
}

#[derive(Args, Clone, Debug)]
struct RemoveArgs {
    /// The domain's name, number or UUID
    #[arg(value_name = "DOMAIN")]
    domain: String,
    /// The controller's number in its domain
    #[arg(value_name = "CONTROLLER")]
    controller: ControllerId,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    socket: SocketArg,
}

#[derive(Args, Clone, Debug)]
struct ListArgs {
    /// The domain's name, number or UUID; all domains without it
    #[arg(value_name = "DOMAIN")]
    domain: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// The types that can be asked for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// usbback in dom0's kernel
    Pv,
    /// QEMU of the domain
    Qusb,
}

/// The versions that can be asked for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Version {
    /// Low and full speed only
    #[value(name = "1")]
    V1,
    /// Also high speed
    #[value(name = "2")]
    V2,
}

impl AddArgs {
    fn wish(&self) -> ControllerWish {
        ControllerWish {
            kind: match self.kind {
                None => KindWish::Auto,
                Some(Kind::Pv) => KindWish::Pv,
                Some(Kind::Qusb) => KindWish::Qusb,
            },
            version: match self.version {
                Version::V1 => UsbVersion::V1,
                Version::V2 => UsbVersion::V2,
            },
            ports: self.ports,
        }
    }
}

/// The answer to `add`. The names of the fields are an interface.
#[derive(Serialize)]
struct Added {
    domid: u16,
    name: String,
    #[serde(skip)]
    domain: NamedDomain,
    controller: u32,
    r#type: &'static str,
    version: String,
    ports: u8,
    /// The state of its backend: `waiting` for the guest, or `connected`.
    backend: &'static str,
}

/// The answer to `remove`. The names of the fields are an interface.
#[derive(Serialize)]
struct Removed {
    domid: u16,
    name: String,
    #[serde(skip)]
    domain: NamedDomain,
    controller: u32,
    /// Whether its backend had closed before it was removed.
    closed: bool,
}

impl fmt::Display for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, controller, r#type, version, ports, backend, .. } = self;
        write!(
            f,
            "controller {controller} of {domain}: {type}, USB {version}, {ports} ports, {backend}"
        )
    }
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "controller {} of {} is removed", self.controller, self.domain)?;
        if self.closed {
            return Ok(());
        }
        write!(f, "; its backend had not closed within {CLOSING_DEADLINE:?}")
    }
}

pub(super) fn run(
    args: &ControllerArgs,
    endpoint: Endpoint,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    match &args.what {
        What::Add(args) => {
            let clerk = Clerk::of(&args.socket);
            perform(&args.common, endpoint, clerk, (out, err), async |host| add(args, host).await)
        }
        What::Remove(args) => {
            let clerk = Clerk::of(&args.socket);
            perform(&args.common, endpoint, clerk, (out, err), async |host| {
                remove(args, host).await
            })
        }
        What::List(args) => list::run(args, endpoint, out, err),
    }
}

/// What can be seen and done, and who takes it down.
struct Host<'a> {
    observed: Observed,
    performer: Performer,
    clerk: &'a mut Clerk,
}

/// Does something to this host and tells it. Gives the exit code.
fn perform<Answer: Serialize + fmt::Display>(
    common: &Common,
    endpoint: Endpoint,
    mut clerk: Clerk,
    (out, err): (&mut dyn Write, &mut dyn Write),
    work: impl AsyncFnOnce(Host<'_>) -> Result<Answer, Refusal>,
) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return unseen(&look::Error::Runtime(error), err),
    };
    let answer = runtime.block_on(async {
        let xs = Xenstore::connect(endpoint).await?;
        let xen = XenReader::new(xs.clone(), UserData::new(&common.libxl_dir));
        let (observed, _) = look(&xen).await?;
        let performer = Performer::new(xs, xen, UsbReader::new(), Drivers::new());
        Ok::<_, look::Error>(work(Host { observed, performer, clerk: &mut clerk }).await)
    });
    let written = match answer {
        Ok(Ok(answer)) => write(&answer, common.json, out).map(|()| EX_OK),
        Ok(Err(refusal)) => refusal.write(common.json, out, err),
        Err(error) => return unseen(&error, err),
    };
    written.map_or(EX_IOERR, |code| clerk.report(code, err))
}

fn write(
    answer: &(impl Serialize + fmt::Display),
    json: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    if json {
        serde_json::to_writer_pretty(&mut *out, answer)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{answer}")?;
    }
    out.flush()
}

async fn add(args: &AddArgs, host: Host<'_>) -> Result<Added, Refusal> {
    let Host { observed, performer, clerk } = host;
    let wanted = wanted(&args.domain, args.wish(), &observed)?;
    let ControllerSpec { kind, version, ports } = wanted.spec;
    let (domain, controller) = (&wanted.domain, wanted.controller);
    let act =
        format!("add controller {controller} to {domain}: {kind}, USB {version}, {ports} ports");
    let adding = async {
        performer.add_controller(&wanted).await?;
        served(&wanted, &performer).await
    };
    let state = clerk.attend(&act, adding).await?;
    Ok(Added {
        domid: wanted.domain.domid.get(),
        name: wanted.domain.name.to_string(),
        domain: wanted.domain.clone(),
        controller: wanted.controller.get(),
        r#type: kind.word(),
        version: version.to_string(),
        ports: ports.get(),
        backend: state.word(),
    })
}

/// The state of the new controller's backend once it serves it. What nothing serves is removed again.
async fn served(wanted: &ControllerWanted, performer: &Performer) -> Result<XenbusState, Refusal> {
    let (made, controller) = (wanted.made(), wanted.controller);
    let state = match performer.wait_until_served(&made, BACKEND_DEADLINE).await? {
        Some(state) => state,
        None => match performer.drop_controller(&made, CLOSING_DEADLINE).await {
            Ok(_) => {
                let kind = wanted.spec.kind;
                return Err(Denial::Unserved(Problem::NotServed { controller, kind }).into());
            }
            // It has just begun to, or a device is in it: then it stays.
            Err(error @ StepError::Stale(_)) => {
                performer.wait_until_served(&made, LAST_LOOK).await?.ok_or(error)?
            }
            Err(error) => return Err(error.into()),
        },
    };
    match state {
        XenbusState::InitWait | XenbusState::Initialised | XenbusState::Connected => Ok(state),
        XenbusState::Unknown
        | XenbusState::Initialising
        | XenbusState::Closing
        | XenbusState::Closed
        | XenbusState::Reconfiguring
        | XenbusState::Reconfigured => Err(Refusal::Gone(controller, state)),
    }
}

async fn remove(args: &RemoveArgs, host: Host<'_>) -> Result<Removed, Refusal> {
    let Host { observed, performer, clerk } = host;
    let found = found(&args.domain, args.controller, &observed)?;
    let act = format!("remove controller {} from {}", found.controller, found.domain);
    let closed = clerk.attend(&act, performer.drop_controller(&found, CLOSING_DEADLINE)).await?;
    Ok(Removed {
        domid: found.domain.domid.get(),
        name: found.domain.name.to_string(),
        domain: found.domain.clone(),
        controller: found.controller.get(),
        closed,
    })
}
