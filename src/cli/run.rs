//! `pvusb-agent run`: the daemon.

use super::socket::SocketArg;
use super::{DEFAULT_POLICY, EX_CONFIG, EX_IOERR, EX_OK, EX_OSERR, EX_UNAVAILABLE, fail};
use crate::daemon::{self, Error, Options};
use crate::host::userdata::UserData;
use crate::host::xenstore::Endpoint;
use crate::telemetry::Tape;
use clap::Args;
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `run`.
#[derive(Args, Clone, Debug)]
pub(super) struct RunArgs {
    /// The policy's file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_POLICY)]
    policy: PathBuf,
    /// Give every device back to dom0 before ending
    #[arg(long)]
    detach_on_exit: bool,
    /// Let members of this group ask how everything is, and watch
    #[arg(long, value_name = "GROUP")]
    watch_group: Option<String>,
    /// Let members of this group do that, and attach and detach what nothing protects
    #[arg(long, value_name = "GROUP")]
    order_group: Option<String>,
    /// Keep an audit log in this file, and beside it what is put aside of it
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// Where libxl keeps its files about domains
    #[arg(long, value_name = "DIR", default_value = UserData::DIR)]
    libxl_dir: PathBuf,
    #[command(flatten)]
    socket: SocketArg,
}

pub(super) fn run(
    args: &RunArgs,
    (endpoint, tape): (Endpoint, Tape),
    err: &mut dyn Write,
    colour: bool,
) -> u8 {
    let options = Options {
        policy: args.policy.clone(),
        detach_on_exit: args.detach_on_exit,
        endpoint,
        userdata: args.libxl_dir.clone(),
        socket: args.socket.path(),
        watch_group: args.watch_group.clone(),
        order_group: args.order_group.clone(),
        audit: args.audit.clone(),
        tape,
    };
    match daemon::run(&options) {
        Ok(()) => EX_OK,
        Err(Error::Policy(problems)) => match write!(err, "{}", problems.render(colour)) {
            Ok(()) => EX_CONFIG,
            Err(_) => EX_IOERR,
        },
        Err(error @ (Error::Usb(_) | Error::Control(_))) => fail(err, &error, EX_UNAVAILABLE),
        Err(error @ (Error::UserData(_) | Error::Uses(_) | Error::Runtime(_))) => {
            fail(err, &error, EX_OSERR)
        }
    }
}
