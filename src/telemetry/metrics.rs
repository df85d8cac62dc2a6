//! What the daemon has counted since its start, as Prometheus reads it.
//!
//! It counts what it is told and reads nothing. How many series there are is bounded ([`MAX_RULES`]), whatever the
//! policy and the devices are.

use crate::model::BusId;
use crate::plan::standing::RouteBy;
use crate::plan::{AfterClear, Problem, Standing, Step};
use crate::policy::RuleName;
use crate::reconcile::Event;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

/// The most rules that are counted by name; the rest count as one.
const MAX_RULES: usize = 1000;

/// The upper bounds of the buckets, in milliseconds.
const BUCKETS: [u64; 11] = [1, 5, 10, 25, 50, 100, 250, 500, 1000, 5000, 30_000];

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    started: SystemTime,
    loaded: SystemTime,
    reloads: [u64; 2],
    /// By decision and rule.
    decisions: BTreeMap<(&'static str, Box<str>), u64>,
    /// By why a port was emptied.
    cleared: BTreeMap<&'static str, u64>,
    /// By the step that failed.
    failures: BTreeMap<&'static str, u64>,
    /// By what is in the way.
    stuck: BTreeMap<&'static str, u64>,
    /// By what came of them.
    orders: BTreeMap<&'static str, u64>,
    plugged: u64,
    flaps: u64,
    controllers: [u64; 2],
    leftovers: u64,
    steps: BTreeMap<&'static str, Histogram>,
    attaching: Histogram,
    /// When devices were plugged that are not attached yet.
    since: BTreeMap<BusId, Instant>,
}

/// What is so in this moment.
#[derive(Clone, Copy, Debug)]
pub struct Gauges {
    /// How many devices are plugged.
    pub devices: usize,
    /// How many of them the agent has attached.
    pub attached: usize,
    /// How many orders by hand are in force.
    pub orders: usize,
    /// How many domains there are.
    pub domains: usize,
    /// How many rules are in force.
    pub rules: usize,
    /// Whether the last reading of the policy was good.
    pub policy_is_current: bool,
    /// Whether there is a connection to xenstore.
    pub xenstore: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Histogram {
    /// Those of at most each bound.
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum: Duration,
}

impl Histogram {
    fn add(&mut self, took: Duration) {
        for (count, bound) in self.counts.iter_mut().zip(BUCKETS) {
            *count += u64::from(took <= Duration::from_millis(bound));
        }
        self.count += 1;
        self.sum += took;
    }
}

impl Metrics {
    /// Of an agent that starts now, with the policy that it has read.
    pub fn new(started: SystemTime) -> Self {
        Self {
            started,
            loaded: started,
            reloads: [0; 2],
            decisions: BTreeMap::new(),
            cleared: BTreeMap::new(),
            failures: BTreeMap::new(),
            stuck: BTreeMap::new(),
            orders: BTreeMap::new(),
            plugged: 0,
            flaps: 0,
            controllers: [0; 2],
            leftovers: 0,
            steps: BTreeMap::new(),
            attaching: Histogram::default(),
            since: BTreeMap::new(),
        }
    }

    /// The policy was read anew, or could not be.
    pub fn reloaded(&mut self, is_good: bool, at: SystemTime) {
        self.reloads[usize::from(is_good)] += 1;
        if is_good {
            self.loaded = at;
        }
    }

    /// A step has ended, after this time.
    pub fn performed(&mut self, step: &'static str, took: Duration, is_done: bool) {
        if is_done {
            self.steps.entry(step).or_default().add(took);
        }
    }

    /// Something has happened.
    pub fn count(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Plugged(device) => {
                self.plugged += 1;
                self.since.insert(device.busid.clone(), now);
            }
            Event::Unplugged(busid) => drop(self.since.remove(busid)),
            Event::Standing(busid, standing) => self.stands(busid, standing, now),
            Event::Performed(step, _) => self.done(step),
            Event::Failed { step, .. } => *self.failures.entry(step.name()).or_default() += 1,
            Event::Ordered { waived, .. } => {
                let word = if waived.is_some() { "forced" } else { "noted" };
                *self.orders.entry(word).or_default() += 1;
            }
            Event::Declined { .. } => *self.orders.entry("declined").or_default() += 1,
            Event::DomainAppeared(..)
            | Event::DomainGone(..)
            | Event::Unreadable(..)
            | Event::Overtaken { .. }
            | Event::TurnOver { .. }
            | Event::Refused(..) => {}
        }
    }

    fn done(&mut self, step: &Step) {
        match step {
            Step::CreateController { .. } => self.controllers[1] += 1,
            Step::RemoveController { .. } => self.controllers[0] += 1,
            Step::RemoveLeftover(_) => self.leftovers += 1,
            Step::ClearPort { after, .. } => {
                let why = match after {
                    AfterClear::Gone => "unplugged",
                    AfterClear::Replaced(_) => "replaced",
                    AfterClear::Returning(_) => "detached",
                };
                *self.cleared.entry(why).or_default() += 1;
            }
            Step::Claim(_)
            | Step::TakeInterfaces { .. }
            | Step::ReleaseInterfaces { .. }
            | Step::ReturnDrivers { .. }
            | Step::Authorize { .. }
            | Step::Deauthorize { .. }
            | Step::Forget { .. }
            | Step::NoteOrder { .. }
            | Step::DropTrail { .. } => {}
        }
    }

    fn stands(&mut self, busid: &BusId, standing: &Standing, now: Instant) {
        match standing {
            Standing::Attached { route, .. } => {
                if let Some(plugged) = self.since.remove(busid) {
                    self.attaching.add(now.saturating_duration_since(plugged));
                }
                match &route.by {
                    RouteBy::Rule(rule) | RouteBy::Trail(rule) => self.decided("attach", rule),
                    RouteBy::Order => self.decide("attach", "(an order)"),
                }
            }
            Standing::Kept { rule } => self.decided("keep", rule),
            Standing::Blocked { rule } => self.decided("block", rule),
            Standing::NotBlocked { rule, .. } => self.decided("protect", rule),
            Standing::Protected { route, .. } => match &route.by {
                RouteBy::Rule(rule) | RouteBy::Trail(rule) => self.decided("protect", rule),
                RouteBy::Order => self.decide("protect", "(an order)"),
            },
            Standing::NoDomainRuns { rule, .. } => self.decided("no domain", rule),
            Standing::NoRule => self.decide("no rule", ""),
            Standing::HeldDown { .. } => self.flaps += 1,
            Standing::Stuck { problem, .. }
            | Standing::NotReturned(problem)
            | Standing::Hanging(problem) => {
                *self.stuck.entry(cause(problem)).or_default() += 1;
            }
            Standing::NotReady
            | Standing::Settling
            | Standing::Hub
            | Standing::Ordered(_)
            | Standing::Awaiting { .. }
            | Standing::Leaving(_)
            | Standing::Building(_)
            | Standing::WaitingForController { .. }
            | Standing::WaitingForPort(_)
            | Standing::Attaching(_)
            | Standing::Detaching { .. }
            | Standing::Returning
            | Standing::AttachedByOthers(_)
            | Standing::StaleOfOthers(_)
            | Standing::DomainEnding(_)
            | Standing::TakenOutByHand(_)
            | Standing::WayKept { .. }
            | Standing::Unplugged => {}
        }
    }

    fn decided(&mut self, decision: &'static str, rule: &RuleName) {
        self.decide(decision, rule.label());
    }

    fn decide(&mut self, decision: &'static str, rule: &str) {
        let is_known = self.decisions.contains_key(&(decision, Box::from(rule)));
        let rule = if is_known || self.decisions.len() < MAX_RULES { rule } else { "(others)" };
        *self.decisions.entry((decision, rule.into())).or_default() += 1;
    }

    /// All of it, in Prometheus' text format.
    pub fn text(&self, gauges: &Gauges) -> String {
        let mut page = Page::default();
        page.family("build_info", "gauge", "The version of the agent.");
        page.value("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.seconds("start_time_seconds", "When the agent started.", self.started);
        page.seconds("policy_load_time_seconds", "When the policy in force was read.", self.loaded);
        for (name, help, value) in [
            ("devices", "Plugged USB devices, hubs among them.", gauges.devices),
            ("devices_attached", "Devices that the agent has attached.", gauges.attached),
            ("domains", "Domains but dom0.", gauges.domains),
            ("orders", "Orders by hand that are in force.", gauges.orders),
            ("policy_rules", "Rules in force.", gauges.rules),
            (
                "policy_current",
                "Whether the policy on the disk is the one in force: 0 if the last reload failed.",
                usize::from(gauges.policy_is_current),
            ),
            (
                "xenstore_connected",
                "Whether there is a connection to xenstore.",
                usize::from(gauges.xenstore),
            ),
        ] {
            page.family(name, "gauge", help);
            page.value(name, &[], value as u64);
        }
        page.counts(
            "policy_reloads_total",
            "Readings of the policy.",
            "result",
            &[("bad", self.reloads[0]), ("good", self.reloads[1])],
        );
        page.family("plugs_total", "counter", "Devices that were plugged, or there at the start.");
        page.value("plugs_total", &[], self.plugged);
        page.family("decisions_total", "counter", "What was decided about devices, by which rule.");
        for ((decision, rule), count) in &self.decisions {
            page.value("decisions_total", &[("decision", decision), ("rule", rule)], *count);
        }
        let sorted = |counts: &BTreeMap<&'static str, u64>| -> Vec<(&'static str, u64)> {
            counts.iter().map(|(word, count)| (*word, *count)).collect()
        };
        for (name, help, label, counts) in [
            ("ports_cleared_total", "Ports that were emptied.", "because", &self.cleared),
            ("step_failures_total", "Steps that failed.", "step", &self.failures),
            ("stuck_total", "Devices that could not go on.", "cause", &self.stuck),
            ("orders_total", "Orders by hand.", "result", &self.orders),
        ] {
            page.counts(name, help, label, &sorted(counts));
        }
        page.family("flaps_total", "counter", "Devices that were held down: plugged too often.");
        page.value("flaps_total", &[], self.flaps);
        page.counts(
            "controllers_total",
            "Controllers that the agent made or removed.",
            "what",
            &[("created", self.controllers[1]), ("removed", self.controllers[0])],
        );
        page.family("leftovers_removed_total", "counter", "Leftovers of domains that are gone.");
        page.value("leftovers_removed_total", &[], self.leftovers);
        let name = "attach_seconds";
        page.family(
            name,
            "histogram",
            "From the plug, as it was noticed, to the guest's connection.",
        );
        page.histogram(name, None, &self.attaching);
        page.family("step_seconds", "histogram", "How long a step took that was done.");
        for (step, histogram) in &self.steps {
            page.histogram("step_seconds", Some(("step", step)), histogram);
        }
        page.0
    }
}

/// What is in the way, in a word.
fn cause(problem: &Problem) -> &'static str {
    match problem {
        Problem::NoDeviceModel => "no device model",
        Problem::DeviceModelWithoutQusb => "device model without qusb",
        Problem::DeviceModelStarting => "device model starts",
        Problem::DeviceModelDead => "device model is dead",
        Problem::NoUsbback => "no usbback",
        Problem::NotServed { .. } => "not served",
        Problem::NoFrontend { .. } => "no frontend",
        Problem::NoFreePort => "no free port",
        Problem::UnfitController { .. } => "unfit controller",
        Problem::NoSuchController { .. } => "no such controller",
        Problem::PortNotFree(_) => "port not free",
        Problem::TooFast(_) => "too fast",
        Problem::NotAuthorized => "not authorized",
        Problem::Protected(_) => "protected",
        Problem::StepFailed { .. } => "step failed",
        Problem::StepHangs { .. } => "step hangs",
        Problem::StillHeld(_) => "still held",
        Problem::OnUsbback(_) => "on usbback",
    }
}

/// The text.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(&format!("# HELP pvusb_agent_{name} {help}"));
        self.line(&format!("# TYPE pvusb_agent_{name} {kind}"));
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.line(&format!("pvusb_agent_{name}{} {value}", braced(labels)));
    }

    fn counts(&mut self, name: &str, help: &str, label: &str, counts: &[(&str, u64)]) {
        self.family(name, "counter", help);
        for (word, count) in counts {
            self.value(name, &[(label, word)], *count);
        }
    }

    fn seconds(&mut self, name: &str, help: &str, at: SystemTime) {
        self.family(name, "gauge", help);
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.line(&format!("pvusb_agent_{name} {}", since.as_secs_f64()));
    }

    fn histogram(&mut self, name: &str, label: Option<(&str, &str)>, histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        for (bound, count) in BUCKETS.iter().zip(histogram.counts) {
            let bound = Duration::from_millis(*bound).as_secs_f64().to_string();
            let labels: Vec<_> = label.into_iter().chain([("le", &*bound)]).collect();
            self.value(&bucket, &labels, count);
        }
        let labels: Vec<_> = label.into_iter().chain([("le", "+Inf")]).collect();
        self.value(&bucket, &labels, histogram.count);
        let labels: Vec<_> = label.into_iter().collect();
        let sum = histogram.sum.as_secs_f64();
        self.line(&format!("pvusb_agent_{name}_sum{} {sum}", braced(&labels)));
        self.value(&format!("{name}_count"), &labels, histogram.count);
    }

    fn line(&mut self, line: &str) {
        self.0 += line;
        self.0.push('\n');
    }
}

/// Labels; in their values three characters are written otherwise.
fn braced(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let each = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    format!("{{{}}}", each.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAUGES: Gauges = Gauges {
        devices: 3,
        attached: 1,
        orders: 0,
        domains: 2,
        rules: 4,
        policy_is_current: false,
        xenstore: true,
    };

    fn metrics() -> Metrics {
        Metrics::new(SystemTime::UNIX_EPOCH + Duration::from_millis(1500))
    }

    #[test]
    fn what_is_counted_stands_in_the_text() {
        let mut metrics = metrics();
        metrics.reloaded(false, SystemTime::UNIX_EPOCH);
        metrics.decide("keep", "a \"quoted\" rule\\");
        metrics.performed("claim port", Duration::from_millis(30), true);
        metrics.performed("claim port", Duration::from_secs(40), true);
        metrics.performed("claim port", Duration::from_secs(40), false);
        let text = metrics.text(&GAUGES);
        for line in [
            "pvusb_agent_start_time_seconds 1.5",
            "pvusb_agent_policy_load_time_seconds 1.5",
            "pvusb_agent_policy_current 0",
            "pvusb_agent_devices 3",
            "pvusb_agent_policy_reloads_total{result=\"bad\"} 1",
            r#"pvusb_agent_decisions_total{decision="keep",rule="a \"quoted\" rule\\"} 1"#,
            "pvusb_agent_step_seconds_bucket{step=\"claim port\",le=\"0.025\"} 0",
            "pvusb_agent_step_seconds_bucket{step=\"claim port\",le=\"0.05\"} 1",
            "pvusb_agent_step_seconds_bucket{step=\"claim port\",le=\"+Inf\"} 2",
            "pvusb_agent_step_seconds_sum{step=\"claim port\"} 40.03",
            "pvusb_agent_step_seconds_count{step=\"claim port\"} 2",
            "pvusb_agent_attach_seconds_count 0",
        ] {
            assert!(text.lines().any(|there| there == line), "{line}\n{text}");
        }
    }

    #[test]
    fn each_series_has_its_family_before_it() {
        let text = metrics().text(&GAUGES);
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap().to_owned();
            } else if !line.starts_with('#') {
                assert!(line.starts_with(&family), "{line} is not of {family}");
            }
        }
    }

    #[test]
    fn a_policy_of_many_rules_makes_no_more_series_than_there_is_room_for() {
        let mut metrics = metrics();
        (0..5000).for_each(|rule| metrics.decide("keep", &rule.to_string()));
        assert_eq!(metrics.decisions.len(), MAX_RULES + 1);
        assert_eq!(metrics.decisions[&("keep", "(others)".into())], 4000);
    }
}
