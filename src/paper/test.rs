//! Tests on paper: which part of the host is there, and what is expected of it.

use super::Host;
use super::expect::{Expectation, Guard, Wanted};
use super::keys::{ENDS, EXPECTED, ORDER, ORDERS, TEST};
use super::outcome::End;
use super::read::Pen;
use crate::model::{Desk, GuestName, Observed, Order, Override, Text, Use};
use crate::policy::Location;
use crate::policy::text::{
    Code, DOM0, Fields, Finding, Node, Span, Value, list, nearest, wrong_shape,
};
use std::collections::{BTreeMap, BTreeSet};

/// What is expected of a host, or of a part of it. Devices and domains are meant by their place in the
/// host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// What it is called.
    pub name: Box<str>,
    /// Where it is written.
    pub location: Location,
    /// What is expected, in the order of the text; never empty.
    pub expectations: Vec<Expectation>,
    plugged: Option<BTreeSet<usize>>,
    there: Option<BTreeSet<usize>>,
    desk: Option<Desk>,
    usbback: Option<bool>,
    uses: BTreeMap<usize, BTreeSet<Use>>,
    orders: BTreeMap<usize, (Order, bool)>,
}

impl Test {
    /// What is seen of the host in this test.
    pub(super) fn observed(&self, host: &Host) -> Observed {
        let is_in = |some: &Option<BTreeSet<usize>>, at: usize| {
            some.as_ref().is_none_or(|some| some.contains(&at))
        };
        let guests = host.guests.iter().enumerate();
        let guests = guests.filter(|(at, _)| is_in(&self.there, *at)).map(|(_, it)| it.clone());
        let part = Host {
            devices: Vec::new(),
            guests: guests.collect(),
            desk: self.desk.unwrap_or(host.desk),
            usbback: self.usbback.unwrap_or(host.usbback),
        };
        let mut observed = part.observed();
        for (at, written) in host.devices.iter().enumerate() {
            if !is_in(&self.plugged, at) {
                continue;
            }
            let mut device = written.device.clone();
            device.uses.extend(self.uses.get(&at).into_iter().flatten().cloned());
            if let Some((order, force)) = self.orders.get(&at) {
                let (plug, order) = (device.plug(), order.clone());
                let said = Override { plug, order, force: *force };
                observed.xen.overrides.insert(device.busid.clone(), said);
            }
            observed.devices.insert(device.busid.clone(), device);
        }
        observed
    }
}

impl Pen<'_, '_> {
    /// The tests of a host.
    pub(super) fn tests(&mut self, node: &Node, host: &Host) -> Vec<Test> {
        let Value::List(items) = &node.value else {
            self.reader.report.add(wrong_shape(node, "a list of tests"));
            return Vec::new();
        };
        let devices: Vec<&str> = host.devices.iter().map(|it| &*it.name).collect();
        let guests: Vec<&str> = host.guests.iter().map(|guest| guest.name.as_str()).collect();
        let names = Names { devices: &devices, guests: &guests };
        let mut names_of_tests: BTreeMap<Box<str>, Span> = BTreeMap::new();
        let mut tests = Vec::new();
        for item in items {
            let Some((test, span)) = self.test(item, host, names) else { continue };
            if let Some(first) = names_of_tests.insert(test.name.clone(), span) {
                let message = format!("another test is called `{}` too", Text::from(&*test.name));
                let finding = Finding::new(Code::SamePlace, span, message);
                self.reader.report.add(finding.also("the other one", first));
            }
            tests.push(test);
        }
        tests
    }

    fn test(&mut self, node: &Node, host: &Host, names: Names<'_>) -> Option<(Test, Span)> {
        let before = self.reader.report.found();
        let fields = self.reader.fields(node, &TEST)?;
        let name = self.reader.required(&fields, "name");
        let span = name.map_or(node.span, |name| name.span);
        let name = name.and_then(|name| self.test_name(name));
        if let Some(node) = fields.get("about").filter(|it| !matches!(it.value, Value::Text(_))) {
            self.reader.report.add(wrong_shape(node, "a text"));
        }
        let plugged = fields.get("plugged").and_then(|it| self.some(it, "device", names.devices));
        let there = fields.get("domains").and_then(|it| self.some(it, "domain", names.guests));
        let desk = fields.get("desk").and_then(|node| self.desk(node));
        let usbback = fields.get("usbback").and_then(|node| self.reader.truth(node));
        let uses = self.by_device(fields.get("uses"), names, |pen, node, _| pen.uses(node));
        let orders = self.by_device(fields.get("orders"), names, |pen, node, _| pen.order(node));
        let expect = self.reader.required(&fields, "expect");
        let expectations = self.by_device(expect, names, |pen, node, at| {
            let written = host.devices.get(at)?;
            if plugged.as_ref().is_some_and(|plugged| !plugged.contains(&at)) {
                let name = Text::from(&*written.name);
                let message = format!("`{name}` is not plugged in this test");
                pen.wrong(Code::BadExpectation, node, message);
            }
            pen.expectation(node, written, names)
        });
        if let Some(node) = expect.filter(|_| expectations.is_empty())
            && self.reader.report.found() == before
        {
            let message = "nothing is expected, so nothing is tested";
            self.wrong(Code::BadExpectation, node, message);
        }
        let location = self.reader.report.source().location(node.span);
        let mut expectations: Vec<_> = expectations.into_values().collect();
        expectations.sort_by_key(|expectation| expectation.span.start);
        let test = Test {
            name: name?,
            location,
            expectations,
            plugged,
            there,
            desk,
            usbback,
            uses,
            orders,
        };
        (self.reader.report.found() == before).then_some((test, span))
    }

    fn test_name(&mut self, node: &Node) -> Option<Box<str>> {
        let name = self.reader.text(node, "a name")?;
        if name.trim().is_empty() {
            self.wrong(Code::BadFact, node, "the name of the test is empty");
        }
        Some(name.into())
    }

    /// Some devices or domains, by their names.
    fn some(&mut self, node: &Node, what: &str, names: &[&str]) -> Option<BTreeSet<usize>> {
        let places = self.each(node, |pen, item| pen.one_of(item, what, names))?;
        Some(places.into_iter().collect())
    }

    /// A map from the names of devices to something.
    fn by_device<T>(
        &mut self,
        node: Option<&Node>,
        names: Names<'_>,
        mut read: impl FnMut(&mut Self, &Node, usize) -> Option<T>,
    ) -> BTreeMap<usize, T> {
        let Some(node) = node else { return BTreeMap::new() };
        let Value::Map(entries) = &node.value else {
            self.reader.report.add(wrong_shape(node, "a map from names of devices"));
            return BTreeMap::new();
        };
        let mut found = BTreeMap::new();
        for entry in entries {
            let Some(at) = names.devices.iter().position(|name| *name == entry.key) else {
                self.unknown(entry.key_span, "device", &entry.key, names.devices);
                continue;
            };
            found.extend(read(self, &entry.node, at).map(|value| (at, value)));
        }
        found
    }

    /// What a person has ordered about a device, and whether reservations are waived.
    fn order(&mut self, node: &Node) -> Option<(Order, bool)> {
        if !matches!(node.value, Value::Map(_)) {
            let word = self.reader.word(node, "an order", &ORDERS, Code::BadFact)?;
            return Some((if word == "hold" { Order::Hold } else { Order::Stay }, false));
        }
        let fields = self.reader.fields(node, &ORDER)?;
        let domain = self.reader.required(&fields, "attach");
        let domain = domain.and_then(|it| self.reader.text(it, "the name of a domain"));
        let force = fields.get("force").and_then(|node| self.reader.truth(node));
        Some((Order::Attach(GuestName::new(domain?)), force.unwrap_or_default()))
    }

    fn expectation(
        &mut self,
        node: &Node,
        written: &super::Written,
        names: Names<'_>,
    ) -> Option<Expectation> {
        let plain = |wanted| Expectation {
            device: written.name.clone(),
            busid: written.device.busid.clone(),
            wanted,
            rule: None,
            port: None,
            span: node.span,
        };
        if !matches!(node.value, Value::Map(_)) {
            let text = self.reader.text(node, "a domain, `dom0`, or a map")?;
            if DOM0.contains(&text) {
                return Some(plain(Wanted::Dom0));
            }
            return Some(plain(Wanted::End(End::In(self.guest_name(node, names)?))));
        }
        let fields = self.reader.fields(node, &EXPECTED)?;
        let wanted = self.end(&fields, names);
        let rule = fields.get("rule").and_then(|it| self.reader.text(it, "the name of a rule"));
        let port = fields
            .get("port")
            .and_then(|node| self.parsed(node, "a port number", Code::BadTargetPort));
        let wanted = wanted?;
        if let Some(node) = fields.get("port").filter(|_| !matches!(wanted, End::In(_))) {
            self.wrong(Code::BadExpectation, node, "only what is attached gets a port");
        }
        Some(Expectation { rule: rule.map(Into::into), port, ..plain(Wanted::End(wanted)) })
    }

    fn end(&mut self, fields: &Fields<'_>, names: Names<'_>) -> Option<End> {
        let mut said: Vec<_> = ENDS.iter().filter_map(|key| fields.entry(key)).collect();
        said.sort_by_key(|entry| entry.key_span.start);
        let entry = match said.as_slice() {
            [one] => one,
            [] => {
                let message = format!("an expectation says one of {}", list(&ENDS));
                self.reader.report.add(Finding::new(Code::BadExpectation, fields.span, message));
                return None;
            }
            [first, second, ..] => {
                let message = format!("an expectation says only one of {}", list(&ENDS));
                let finding = Finding::new(Code::BadExpectation, second.key_span, message);
                self.reader.report.add(finding.also("the other one", first.key_span));
                return None;
            }
        };
        let node = &entry.node;
        Some(match entry.key.as_str() {
            "attach" => End::In(self.guest_name(node, names)?),
            "stuck" => End::Stuck(self.guest_name(node, names)?),
            "guard" => {
                let words = Guard::ALL.map(Guard::word);
                let word = self.reader.word(node, "a guard", &words, Code::BadExpectation)?;
                End::Guarded(Guard::ALL.into_iter().find(|guard| guard.word() == word)?)
            }
            "keep" => {
                self.reader.word(node, "`dom0`", &["dom0"], Code::BadExpectation)?;
                End::Kept
            }
            other => {
                self.reader.word(node, "`true`", &["true"], Code::BadExpectation)?;
                match other {
                    "block" => End::Blocked,
                    "nothing" => End::Unmatched,
                    _ => End::Waits,
                }
            }
        })
    }

    /// A domain of the host.
    fn guest_name(&mut self, node: &Node, names: Names<'_>) -> Option<GuestName> {
        let text = self.reader.text(node, "the name of a domain")?;
        if names.guests.contains(&text) {
            return Some(GuestName::new(text));
        }
        let message = format!("there is no domain `{}` here", Text::from(text));
        let finding = Finding::new(Code::UnknownName, node.span, message);
        let words = [names.guests, &["dom0"]].concat();
        self.reader.report.add(match nearest(text, &words) {
            Some(name) => finding.help(format!("did you mean `{}`?", Text::from(name))),
            None => {
                finding.help("domains of the host are written in `domains`, by their own names")
            }
        });
        None
    }
}

/// What there is to be named.
#[derive(Clone, Copy)]
struct Names<'n> {
    devices: &'n [&'n str],
    guests: &'n [&'n str],
}
