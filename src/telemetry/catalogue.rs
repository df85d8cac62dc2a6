//! Every message that the daemon can tell: a word for programs, a number for the journal, and what is to be
//! done next. The words themselves are in `log`; a test holds the two together.

/// What is known of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// A word for programs; it never changes.
    pub word: &'static str,
    /// The journal's `MESSAGE_ID` (`systemd.journal-fields(7)`); it never changes.
    pub id: &'static str,
    /// Whether it belongs into the audit log: something was moved, or somebody wanted it.
    pub is_audited: bool,
    /// The message.
    pub text: &'static str,
    /// What is to be done next, in whole sentences, in Markdown.
    pub next: &'static str,
}

/// What is known of the message with this text.
pub fn find(text: &str) -> Option<&'static Message> {
    MESSAGES.iter().find(|message| message.text == text)
}

const fn message(
    (word, id): (&'static str, &'static str),
    is_audited: bool,
    text: &'static str,
    next: &'static str,
) -> Message {
    Message { word, id, is_audited, text, next }
}

/// Whether a message belongs into the audit log.
const AUDITED: bool = true;
/// It does not.
const TOLD: bool = false;

/// All of them.
#[rustfmt::skip]
pub const MESSAGES: [Message; 69] = [
    message(("started", "9d2ca848efa446adbb1b0df509bfae22"), AUDITED,
        "started",
        "Nothing. `rules` is how many the policy has, remembered ones among them."),
    message(("unknown-level", "0bf88b17b2a8481cb1c54a5a20baff7f"), TOLD,
        "how much to tell is error, warn, info, debug or trace: info is taken",
        "Correct `PVUSB_AGENT_LOG` in the service's environment (`systemctl edit pvusb-agent`)."),
    message(("ended", "cda076065197439e86f2e02752880014"), AUDITED,
        "ended, what is attached stays attached",
        "Nothing. The next agent takes over what is attached."),
    message(("ended-unfinished", "7280dcfbe77b48698edab5c85fa6642f"), AUDITED,
        "ended although steps were still under way",
        "Start the agent again: it finishes what was under way. If that happens again, `pvusb-agent doctor` tells what hangs."),
    message(("reloaded", "07adc0f9a2004d2cbd6e9e3be32facd8"), AUDITED,
        "policy reloaded",
        "Nothing. Devices whose decision is the same were not touched."),
    message(("not-reloaded", "1f6836e8c31c4ab5b75f003a25919069"), AUDITED,
        "policy not reloaded, the old one stays in force",
        "Mend the policy at the `place` that is named: `pvusb-agent check` shows every problem at its line. Then `systemctl reload pvusb-agent`."),
    message(("policy-warning", "c06703645c9940248ab6fd3b7c8b46d0"), TOLD,
        "the policy hardly says what was meant",
        "Read the policy at the `place` that is named; `pvusb-agent check` shows it with what helps. It is in force as it stands."),
    message(("reload-asked", "9fd9fc9badd04e7bbb1434e16752347f"), AUDITED,
        "reload asked for",
        "Nothing. What came of it stands in the next line."),
    message(("by-hand", "7602d0b14aaa40dba55d5ce98e64219e"), AUDITED,
        "begun by hand",
        "Nothing. Somebody uses `pvusb-agent controller` or `pvusb-agent doctor --fix`, which do without the agent. What came of it stands in a later line; if there is none, it was broken off."),
    message(("by-hand-done", "0d51192a7534413fbcde3bea857ae4d1"), AUDITED,
        "done by hand",
        "Nothing. The agent sees for itself what has changed."),
    message(("by-hand-failed", "9b79d688dd3e401d8e3faff790138ece"), AUDITED,
        "not done by hand",
        "See `cause`; whoever tried it was told the same, with what helps."),
    message(("remembered", "49bd170369f346299e9b867c10d98931"), AUDITED,
        "remembered",
        "Nothing. The rule in `file` outlasts the host's boot; `pvusb-agent release` removes it."),
    message(("forgotten", "bb232a12d3dd473bae067406a538b994"), AUDITED,
        "forgotten",
        "Nothing. The policy decides again."),
    message(("not-remembered", "8176456327b848f8ada2e271dcd2a527"), TOLD,
        "cannot change the remembered rules",
        "See `cause`: mostly the file cannot be written, or has a mistake in it (`pvusb-agent check`). The service may write below /etc/pvusb-agent only."),
    message(("no-control", "a761740be7a84e3ca0cc8ddefe229d20"), TOLD,
        "no control socket, going on without it",
        "See `cause`. Devices are routed all the same; `status`, `attach` and the like find no agent until it is started again."),
    message(("no-group", "ce2c180b440a46d9840d64c327884560"), TOLD,
        "this group lets nobody in",
        "Make the group (`groupadd --system NAME`) or correct the name, then start the agent again. Root may ask everything all the same."),
    message(("audit-open", "fa69825574514c7ba880c0f2d3c0b18a"), TOLD,
        "audit log goes on",
        "Nothing. `after` is the number and the hash of its last entry: `pvusb-agent log --verify --anchor` holds the log against it."),
    message(("audit-lost", "1f65508da34a4df9a2bf46e2ae77814f"), TOLD,
        "audit log cannot be written, going on without it",
        "See `cause`: is the disk full, does it answer, is the directory there? It is tried again with the next entry and every 30 s. Up to 1024 entries wait until then; if there were more, an entry says how many were missed."),
    message(("xenstore-back", "e6154ac619c249a797f31d330a29f206"), TOLD,
        "connected to xenstore",
        "Nothing. All is read anew."),
    message(("xenstore-lost", "d73ede12c2224c06bc2e2125216f8814"), TOLD,
        "no connection to xenstore, trying again",
        "If it stays so: does xenstored run (`systemctl status xenstored`, `xenstore-ls`)? Nothing is attached or detached meanwhile (docs/errors.md, \"xenstore\")."),
    message(("monitor-lost", "c4b3039a45e1433c8e9d470b77010046"), TOLD,
        "cannot listen to udev",
        "See `cause`; it is tried again each second. If it stays so, is systemd-udevd running?"),
    message(("not-notified", "0fad2534cc4d4ff29515e5d4f43212e7"), TOLD,
        "cannot notify systemd",
        "See `cause`. The agent works; systemd may believe that it does not, and start it again."),
    message(("plugged", "6f40e7fbca1f4e5fbc414c073c9e2373"), TOLD,
        "plugged",
        "Nothing. What becomes of the device stands in a later line; `pvusb-agent explain DEVICE` tells why."),
    message(("unplugged", "0d6604652d4b47c7be04eb6b395c9caa"), TOLD,
        "unplugged",
        "Nothing. If it was attached, `port cleared` follows."),
    message(("domain-appeared", "60479dbd7ccb4c7ea006b18a90a83e68"), TOLD,
        "domain appeared",
        "Nothing. Devices that wait for it are attached as soon as it is built."),
    message(("domain-gone", "d9d7403d0ba04dba8f953531eb64f071"), TOLD,
        "domain gone",
        "Nothing. Its devices come back to dom0, or follow it to its next number."),
    message(("unreadable", "4a0ef254e0164972bf32ee4edc6aa3dc"), TOLD,
        "device cannot be read",
        "See `cause`. The device is left alone until something happens to it: plug it anew."),
    message(("overtaken", "912da6d11b004ef4ae852ce5c835e10e"), TOLD,
        "overtaken, looking again",
        "Nothing. Something changed between look and deed; it is decided anew."),
    message(("ordered-with-force", "918228d0044b465198a209fc1a2c1ad0"), AUDITED,
        "ordered with force",
        "Make sure that it was meant: `who` waived what `waived` says."),
    message(("ordered", "9758f7d05d414c7f9abd5d123e3a2510"), AUDITED,
        "ordered",
        "Nothing. The order holds until the device is unplugged, or as long as `order` says."),
    message(("released", "7c0fa290209a49398a6a2b9946e6d33b"), AUDITED,
        "released",
        "Nothing. The policy decides about the device again."),
    message(("declined", "4c727993df6042228300e18518dc787d"), AUDITED,
        "order declined",
        "See `cause`: it says what would have to be otherwise."),
    message(("passed-over", "585b30be221747cebda82449a4c4ad71"), TOLD,
        "passed over: the domain has not taken the device in the time that it has",
        "Look why `domain` did not take it (`pvusb-agent explain DEVICE`), or give it more time (`wait` in the rule)."),
    message(("refused", "55d3ad7aa5ab4c72be9da56f27a35361"), TOLD,
        "refused",
        "Nothing, if dom0 needs the device. `cause` says for what; for the case that it does not, `pvusb-agent attach --force` gives away what a person may give away (docs/threat-model.md, \"What dom0 needs\")."),
    message(("hub", "185c1d1a7f984f85b9e85909f929ce8c"), TOLD,
        "stays in dom0: it is a hub",
        "Nothing. Hubs are never given away; what is plugged into them is."),
    message(("no-rule", "0418ade6a36e4150a9f50f79e72f876f"), TOLD,
        "stays in dom0: no rule matches",
        "Nothing, if that was meant. `pvusb-agent explain DEVICE` tells what each rule missed."),
    message(("kept", "818132063c5c466e9b387a05eae76d9c"), TOLD,
        "stays in dom0: a rule keeps it",
        "Nothing."),
    message(("blocked", "38cfb36ad7cc4543a38720acab389ba7"), AUDITED,
        "nobody gets it: a rule blocks it",
        "Nothing. No driver has it, no domain has it."),
    message(("not-blocked", "359ec7e6234145189643b451a2f28e70"), TOLD,
        "stays in dom0 and is not blocked: it is protected",
        "See `cause` and `advice`: dom0 needs the device, so it keeps its drivers although a rule blocks it (docs/threat-model.md, \"What dom0 needs\")."),
    message(("ordered-domain-down", "62454ff69980486980acf649448e04ff"), TOLD,
        "stays in dom0: its domain, by an order, does not run",
        "Start the domain, or `pvusb-agent release DEVICE`."),
    message(("stays-by-order", "aaa22cfe98a84122a3ef5495cb75c939"), TOLD,
        "stays in dom0 until it is replugged: by an order",
        "Plug it anew, or `pvusb-agent release DEVICE`."),
    message(("held-by-order", "4a68394d2f5b43a39b1e4331e34bfd2d"), TOLD,
        "stays in dom0 until it is released: by an order",
        "`pvusb-agent release DEVICE` when it may go again."),
    message(("no-domain-runs", "87a9fd58a6a34291a715ba1695562f95"), TOLD,
        "stays in dom0: none of its domains runs",
        "Start one of `domains`; the device follows by itself."),
    message(("held-down", "643ed916cf80405fa7bb18592aa8591b"), TOLD,
        "held down: plugged too often, attached when it has stayed plugged for the pause",
        "Look at the plug, the cable and the power of the hub. `flapping` in the policy says how often is too often."),
    message(("stale-of-others", "2afb015d1df9418bb0b5f84ff657d828"), TOLD,
        "left alone: nothing is plugged there, and a port that somebody else wrote names it; until it is emptied, every xl usbdev-attach on this host fails",
        "`pvusb-agent doctor --fix`, or `stale_ports: clear` in the policy (docs/troubleshooting.md, \"What xl says\")."),
    message(("domain-is-built", "e0f42834ad974817a3cb528c449eca62"), TOLD,
        "waits: the domain is being built",
        "Nothing. If it stays so, look at the toolstack that builds the domain."),
    message(("attached", "ac80a37ad41649b590ee34877239382c"), AUDITED,
        "attached",
        "Nothing. `because` names the rule or the order."),
    message(("attached-by-others", "588a49e9f3b346de9fdfe380a8f3cfc5"), TOLD,
        "left alone: attached by somebody else",
        "Nothing. To let the policy decide: `xl usbdev-detach` it there."),
    message(("taken-out-by-hand", "40418910e2ec43249e37d7fa855e77a4"), AUDITED,
        "left alone: taken out by somebody else, until it is replugged",
        "`pvusb-agent release DEVICE`, or plug it anew, if it is to go back."),
    message(("protected", "774463502a3b40ebb6d535c0da5f4cbe"), TOLD,
        "stays in dom0: it is protected",
        "See `cause` and `advice`: dom0 needs the device (docs/threat-model.md, \"What dom0 needs\")."),
    message(("stuck", "ad8544fbb6364df3b05cd692c7995a13"), TOLD,
        "cannot be attached",
        "See `cause` and `advice` (docs/errors.md, \"What stands in the way\"). It is tried again when something changes."),
    message(("not-returned", "30d24897ab4b47bba7afab6bbfc6c395"), TOLD,
        "not back in dom0",
        "See `cause` and `advice` (docs/errors.md, \"What stands in the way\")."),
    message(("hangs", "a86622487f9447f78d040d3e0be34b5a"), TOLD,
        "hangs",
        "See `cause` and `advice`; `dmesg` names the driver. Unplugging the device usually ends it (docs/troubleshooting.md, \"What else can be seen\")."),
    message(("waits-for-controller", "2cbc348b915c4163917fd5d68abe7ade"), TOLD,
        "waits for a controller to connect",
        "Nothing, unless it lasts: does the guest load xen-hcd?"),
    message(("on-its-way", "6653c08aea1a4768b73d820ef1144e74"), TOLD,
        "on its way",
        "Nothing."),
    message(("way-kept", "30e8a8b894124056a307aa86bbfc1e3c"), TOLD,
        "its way is kept for a while",
        "Nothing. What comes into that port in time goes where the device before it was."),
    message(("awaiting-domain", "d5c80c4c3c9a4b2abbe53761c53dbf41"), TOLD,
        "stays in dom0 for now: a domain of its list does not run and has a while to start",
        "Nothing. The next domain of the list is tried after `wait`."),
    message(("controller-created", "59c8e7ee22364f7c9021d7382941f967"), AUDITED,
        "controller created",
        "Nothing."),
    message(("port-cleared", "1a7bddcaf4324a2ea8d6b48dcbbe7e4e"), AUDITED,
        "port cleared",
        "Nothing. The device is gone; its port is free again."),
    message(("detached", "04ff690b8d724555997e5f639cf372d1"), AUDITED,
        "detached",
        "Nothing. `because` says why."),
    message(("controller-removed", "062aa87397a74d50be2b40dff8b92c5c"), AUDITED,
        "controller removed: nothing serves it",
        "If a device was to go there, look at /var/log/xen/qemu-dm-NAME.log."),
    message(("leftover-removed", "f9c2ae9a4d0640ea98b54a19d498b270"), AUDITED,
        "removed what a domain that is gone had left",
        "Nothing."),
    message(("drivers-called", "f2ae425d84ae4b3abfbb66f248e3a89e"), AUDITED,
        "dom0's drivers called back",
        "Nothing."),
    message(("let-out", "83fc1b6f063b4d94a8880bb18ad0ff41"), AUDITED,
        "let out of quarantine",
        "Nothing."),
    message(("taken-from-drivers", "708b79f036e04af2b2894e000e844b39"), AUDITED,
        "taken from its drivers",
        "Nothing."),
    message(("quarantined", "b098773dba5d41f08737b7237853fd39"), AUDITED,
        "put back into quarantine",
        "Nothing."),
    message(("done", "283eadd3f028498180d8804feeeec3ff"), TOLD,
        "done",
        "Nothing."),
    message(("failed", "89dc3575752b407582f11e2c222573ae"), AUDITED,
        "step failed",
        "See `cause` (docs/errors.md, \"Steps\"); it is tried again after `again_in`."),
    message(("failed-for-good", "95d3fd19c1484432bb0a773d06f780e6"), AUDITED,
        "step failed, not tried again until something changes",
        "See `cause`. `pvusb-agent doctor` tells what is not as it should be; plugging the device anew begins anew."),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The literals of `log` that are handed to the macros of `tracing`: the last of each call.
    fn told() -> BTreeSet<String> {
        let code = include_str!("log.rs");
        let calls = ["error!(", "warn!(", "info!(", "debug!("];
        calls.iter().flat_map(|call| code.split(call).skip(1)).map(last_literal).collect()
    }

    /// The last literal before the parenthesis that closes the call.
    fn last_literal(call: &str) -> String {
        let (mut depth, mut last, mut literal) = (1, String::new(), None::<String>);
        let mut chars = call.chars();
        while let Some(char) = chars.next().filter(|_| depth > 0) {
            match (&mut literal, char) {
                (Some(text), '\\') => text.push(chars.next().unwrap()),
                (Some(_), '"') => last = literal.take().unwrap(),
                (Some(text), other) => text.push(other),
                (None, '"') => literal = Some(String::new()),
                (None, '(') => depth += 1,
                (None, ')') => depth -= 1,
                (None, _) => {}
            }
        }
        // A backslash at the end of a line joins it with the next.
        last.split('\n').map(str::trim_start).collect()
    }

    #[test]
    fn the_catalogue_has_every_message_that_is_told_and_no_other() {
        let known: BTreeSet<_> = MESSAGES.iter().map(|it| it.text.to_owned()).collect();
        assert_eq!(told(), known);
    }

    #[test]
    fn words_and_numbers_are_given_once() {
        let words: BTreeSet<_> = MESSAGES.iter().map(|it| it.word).collect();
        let ids: BTreeSet<_> = MESSAGES.iter().map(|it| it.id).collect();
        assert_eq!((words.len(), ids.len()), (MESSAGES.len(), MESSAGES.len()));
        let is_hex =
            |id: &&str| id.len() == 32 && id.bytes().all(|it| b"0123456789abcdef".contains(&it));
        assert!(ids.iter().all(is_hex));
    }
}
