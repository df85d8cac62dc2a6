//! What the machine does when steps fail, when people ask, and when it is to end.

use super::*;
use crate::reconcile::job::reserves;

fn at(port: &str) -> BusId {
    port.parse().unwrap()
}

fn pauses(world: &World) -> Vec<Option<Duration>> {
    let pause = |event: &Event| {
        if let Event::Failed { pause, .. } = event { Some(*pause) } else { None }
    };
    world.told.iter().filter_map(pause).collect()
}

/// Ends the oldest step without any effect.
fn fail(world: &mut World, error: impl Fn(&'static str) -> StepError) {
    let (ticket, _) = world.steps.remove(0);
    world.input(Input::Finished(ticket, Err(error("it did not work"))));
}

fn transient(why: &'static str) -> StepError {
    StepError::Transient(why.into())
}

/// How long it is until something is to be done again.
fn wait(world: &World) -> Option<Duration> {
    world.machine.deadline().map(|(when, _)| when - world.now)
}

/// The domain kiosk runs and the device in this port is about to be attached to it.
fn about_to_attach(port: &str) -> World {
    let mut world = World::new();
    world.start(NAMES[0]);
    world.plug(port, IDS[0], false);
    world.settle();
    world
}

/// kiosk has the device in this port.
fn attached(port: &str) -> World {
    let mut world = about_to_attach(port);
    world.come_to_rest();
    assert!(matches!(world.said[&at(port)], Standing::Attached { .. }));
    world
}

fn request(port: &str, wanted: Wanted) -> Request {
    Request { device: DeviceName::At(at(port)), wanted, force: false }
}

fn attach_to(name: &str) -> Wanted {
    Wanted::Attach(name.into())
}

fn declined(world: &World, id: RequestId) -> &'static str {
    world.answers[&id].as_ref().unwrap_err().code()
}

/// The reading that is on its way was begun before anybody asked for the attribute.
#[test]
fn a_policy_that_asks_for_more_waits_for_readings_that_have_it() {
    let mut world = attached(PORTS[0]);
    let text = format!(
        "{{version: 1, rules: [{{match: {{udev: {{attribute: {{bMaxPower: 100mA}}}}}}, attach: {}}}]}}",
        NAMES[0]
    );
    let policy = policy::compile(Source { name: "policy.yaml", bytes: text.as_bytes() }).unwrap();
    world.input(Input::Stirred(Scope::Device(at(PORTS[0]))));
    assert_eq!(world.looks, [Scope::Device(at(PORTS[0]))]);
    world.input(Input::Policy(Arc::new(policy)));
    assert!(world.machine.needs().attributes.contains("bMaxPower"));
    world.see();
    assert!(world.steps.is_empty(), "{:?}", world.steps);
    let device = world.devices.get_mut(&at(PORTS[0])).unwrap();
    device.udev.attributes.insert("bMaxPower".into(), "100mA".into());
    world.see_all();
    assert!(world.steps.is_empty(), "{:?}", world.steps);
    assert!(matches!(world.said[&at(PORTS[0])], Standing::Attached { .. }));
}

#[test]
fn a_step_that_fails_is_tried_again_ever_later_and_in_the_end_no_more() {
    let mut world = about_to_attach(PORTS[0]);
    for attempt in 1..8 {
        fail(&mut world, transient);
        world.see_all();
        let pause = pauses(&world)[attempt - 1].unwrap();
        assert_eq!(wait(&world), Some(pause), "it waits, and does nothing else");
        assert!(world.steps.is_empty());
        world.settle();
    }
    let all = pauses(&world);
    assert!(all.is_sorted() && all[6] > all[0].map(|first| first * 40), "{all:?}");
    fail(&mut world, transient);
    world.see_all();
    assert_eq!(pauses(&world).last(), Some(&None));
    assert_eq!((wait(&world), world.steps.len()), (None, 0), "now something must change");
    let standing = &world.said[&at(PORTS[0])];
    let failed = |problem: &Problem| matches!(problem, Problem::StepFailed { .. });
    assert!(matches!(standing, Standing::Stuck { problem, .. } if failed(problem)), "{standing:?}");

    world.unplug(PORTS[0]);
    world.see_all();
    world.plug(PORTS[0], IDS[0], false);
    world.come_to_rest();
    assert!(matches!(world.said[&at(PORTS[0])], Standing::Attached { .. }));
}

#[test]
fn devices_that_failed_together_come_back_one_by_one_the_first_first() {
    for [first, second, third] in [[1, 0, 3], [0, 1, 2]] {
        let mut world = attached(PORTS[first]);
        world.plug(PORTS[second], IDS[0], false);
        world.plug(PORTS[third], IDS[0], false);
        world.settle();
        let places = world.steps.iter().filter_map(|(_, step)| reserves(step));
        let places: BTreeSet<_> = places.collect();
        assert_eq!((world.steps.len(), places.len()), (2, 2), "at once, and not into one port");
        fail(&mut world, transient);
        fail(&mut world, transient);
        world.see_all();
        let pauses = pauses(&world);
        assert_ne!(pauses[0], pauses[1]);
        assert_eq!(wait(&world), pauses.into_iter().min().unwrap());
        world.settle();
        assert_eq!(world.steps.len(), 1);
    }
}

/// QEMU may not have seen it empty.
#[test]
fn a_port_that_xl_empties_before_anybody_has_seen_it_filled_rests() {
    let mut world = about_to_attach(PORTS[0]);
    world.finish(How::Well);
    world.xl_detach(PORTS[0]);
    world.plug(PORTS[3], IDS[0], false);
    world.settle();
    let place = reserves(&world.steps[0].1).unwrap();
    assert_eq!(place.port.get(), 2);
}

/// What xenstore names and nobody has looked for since is looked for, once.
#[test]
fn what_xenstore_has_named_before_is_not_looked_for_again() {
    let mut world = attached(PORTS[0]);
    world.ask(request(PORTS[0], Wanted::Hold), true);
    world.come_to_rest();
    world.unplug(PORTS[0]);
    world.come_to_rest();
    assert!(world.xen.overrides.contains_key(&at(PORTS[0])), "it is still named");
    world.input(Input::Stirred(Scope::Xen));
    world.see();
    assert_eq!(world.looks, []);
}

#[test]
fn what_a_port_has_named_before_is_not_looked_for_again() {
    let mut world = attached(PORTS[0]);
    let text = "{version: 1, defaults: {stale_ports: leave}, rules: [{match: {id: '05e0:*'}, \
                attach: kiosk}]}";
    let policy = policy::compile(Source { name: "policy.yaml", bytes: text.as_bytes() }).unwrap();
    world.policy = Arc::new(policy);
    world.input(Input::Policy(Arc::clone(&world.policy)));
    world.plug(PORTS[3], IDS[2], false);
    world.come_to_rest();
    world.xl_attach(PORTS[3], NAMES[0]);
    world.come_to_rest();
    world.unplug(PORTS[3]);
    world.come_to_rest();
    assert_eq!(world.xen.places_of(&at(PORTS[3])).count(), 1, "it is left");
    world.input(Input::Stirred(Scope::Xen));
    world.see();
    assert_eq!(world.looks, []);
}

#[test]
fn what_is_named_and_not_listed_is_looked_at_before_it_is_taken_for_gone() {
    let mut world = attached(PORTS[0]);
    let device = world.devices.remove(&at(PORTS[0])).unwrap();
    world.apply(&Op::Restart);
    assert_eq!(world.looks, [Scope::Usb, Scope::Xen]);
    world.see();
    world.devices.insert(at(PORTS[0]), device);
    world.see();
    assert_eq!(world.looks, [Scope::Device(at(PORTS[0]))]);
    assert_eq!(world.steps, []);
}

/// xl may be about to write the port, or have written it.
#[test]
fn whose_a_device_is_that_usbback_has_is_looked_up_before_anything_is_decided() {
    let mut world = World::new();
    world.see_all();
    for (port, driver, looks) in
        [(PORTS[0], "usbhid", &[][..]), (PORTS[3], "usbback", &[Scope::Xen])]
    {
        world.plug(port, IDS[2], false);
        let device = world.devices.get_mut(&at(port)).unwrap();
        device.interfaces.values_mut().for_each(|it| it.driver = Some(driver.into()));
        world.see();
        assert_eq!(world.looks, looks, "{driver}");
        assert_eq!(world.said.contains_key(&at(port)), looks.is_empty());
        world.see_all();
    }
}

#[test]
fn what_is_overtaken_is_decided_anew_at_once_but_not_for_ever() {
    let mut world = about_to_attach(PORTS[0]);
    for _ in 0..3 {
        fail(&mut world, |why| StepError::Stale(why.into()));
        world.see_all();
        assert_eq!(world.steps.len(), 1, "at once");
    }
    let mut last = Duration::ZERO;
    for first in [500, 1000, 2000].map(Duration::from_millis) {
        fail(&mut world, |why| StepError::Stale(why.into()));
        world.see_all();
        let wait = wait(&world).unwrap();
        assert!(wait > last && wait <= first && wait >= first * 3 / 4, "{wait:?}");
        last = wait;
        world.settle();
    }
    world.come_to_rest();
    assert!(matches!(world.said[&at(PORTS[0])], Standing::Attached { .. }));
}

/// The port of a device that nobody wants in the domain any more cannot be cleared.
#[test]
fn what_fails_for_good_is_tried_again_when_something_has_changed_and_not_before() {
    let mut world = attached(PORTS[0]);
    world.xen.overrides.clear();
    world.apply(&Op::Policy { which: 2 });
    world.settle();
    assert_eq!(world.steps[0].1.name(), "clear port");
    fail(&mut world, |why| StepError::Permanent(why.into()));
    world.see_all();
    let standing = &world.said[&at(PORTS[0])];
    assert!(matches!(standing, Standing::NotReturned(_)), "{standing:?}");
    world.input(Input::Stirred(Scope::Device(at(PORTS[0]))));
    world.input(Input::Stirred(Scope::Xen));
    world.see_all();
    assert_eq!((wait(&world), world.steps.len()), (None, 0), "nothing has changed");
    world.apply(&Op::Policy { which: 2 });
    assert_eq!(
        world.steps[0].1.name(),
        "clear port",
        "whoever loads a policy has mended something"
    );
    fail(&mut world, |why| StepError::Permanent(why.into()));
    world.see_all();
    assert_eq!(world.steps.len(), 0);

    let guest = world.xen.guests.values_mut().next().unwrap();
    guest.device_model = DeviceModel::Dead;
    world.input(Input::Stirred(Scope::Xen));
    world.come_to_rest();
    world.check_end();
    assert_eq!(world.xen.taken_ports().count(), 0);
}

#[test]
fn a_domain_that_does_not_start_in_its_time_is_told_of_once_and_the_next_gets_the_device() {
    let mut world = World::new();
    let text = "{version: 1, rules: [{match: {id: '*:*'}, attach: [desk, kiosk], wait: {attach: \
                60s}}]}";
    let policy = policy::compile(Source { name: "policy.yaml", bytes: text.as_bytes() }).unwrap();
    world.input(Input::Policy(Arc::new(policy)));
    world.start(NAMES[0]);
    world.plug(PORTS[0], IDS[0], false);
    let began = world.now;
    world.settle();
    assert!(world.now >= began + Duration::from_secs(60));
    world.come_to_rest();
    assert!(matches!(world.said[&at(PORTS[0])], Standing::Attached { .. }));
    let over = |event: &&Event| matches!(event, Event::TurnOver { .. });
    assert_eq!(world.told.iter().filter(over).count(), 1, "{:?}", world.told);
}

#[test]
fn what_may_be_there_again_is_not_taken_for_gone_before_it_was_looked_at() {
    let mut world = attached(PORTS[0]);
    world.unplug(PORTS[0]);
    world.see_all();
    assert_eq!(world.steps[0].1.name(), "clear port");
    fail(&mut world, transient);
    world.see_all();
    let pause = wait(&world).unwrap();
    world.plug(PORTS[0], IDS[0], false);
    world.now += pause;
    world.input(Input::Timeout);
    assert_eq!(world.steps, []);
    world.see_all();
    assert_eq!(world.steps[0].1.name(), "clear port", "another plug was there");
}

#[test]
fn what_somebody_else_puts_into_a_port_or_takes_out_is_read_again() {
    let mut world = attached(PORTS[0]);
    world.plug(PORTS[3], IDS[2], false);
    world.come_to_rest();
    let is_free = |(_, content): &(Place, &PortContent)| **content == PortContent::Free;
    let place = world.xen.ports().find(is_free).unwrap().0;
    for content in [PortContent::Taken(at(PORTS[3])), PortContent::Free] {
        world.set_port(place, content);
        world.input(Input::Stirred(Scope::Domains([place.domid].into())));
        world.see();
        assert_eq!(world.looks, [Scope::Device(at(PORTS[3]))]);
        world.see_all();
    }
}

/// Sees everything but this device.
fn see_all_but(world: &mut World, port: &str) {
    let scope = Scope::Device(at(port));
    while let Some(other) = world.looks.iter().position(|it| *it != scope) {
        world.looks.swap(0, other);
        world.see();
    }
}

#[test]
fn a_device_waits_for_the_first_reading_of_a_hub_that_rules_ask_for_and_for_no_other() {
    let mut world = World::new();
    let (hub, behind) = (PORTS[1], PORTS[2]);
    let text = "{version: 1, rules: [{match: {behind: {id: '1111:*'}}, attach: kiosk}]}";
    let policy = policy::compile(Source { name: "policy.yaml", bytes: text.as_bytes() }).unwrap();
    world.policy = Arc::new(policy);
    world.input(Input::Policy(Arc::clone(&world.policy)));
    world.start(NAMES[0]);
    world.see_all();
    world.plug(behind, IDS[0], false);
    world.see_all();
    assert_eq!(world.said[&at(behind)].name(), "no rule", "nobody knows of a hub");

    world.unplug(behind);
    world.see_all();
    world.plug(hub, IDS[2], true);
    world.plug(behind, IDS[0], false);
    world.said.clear();
    see_all_but(&mut world, hub);
    assert!(!world.said.contains_key(&at(behind)), "udev has told of a hub");
    world.come_to_rest();
    assert_eq!(world.said[&at(behind)].name(), "attached");

    world.said.clear();
    world.apply(&Op::Restart);
    see_all_but(&mut world, hub);
    assert!(!world.said.contains_key(&at(behind)), "the hub is listed");
    world.see_all();
    assert_eq!(world.said[&at(behind)].name(), "attached");

    world.input(Input::Stirred(Scope::Device(at(hub))));
    world.unplug(behind);
    see_all_but(&mut world, hub);
    assert_eq!(world.steps[0].1.name(), "clear port", "the hub is known");
}

#[test]
fn two_keyboards_never_leave_together() {
    let mut world = World::new();
    world.apply(&Op::Policy { which: 1 });
    world.start(NAMES[1]);
    world.start(NAMES[2]);
    world.plug(PORTS[0], IDS[1], false);
    world.plug(PORTS[3], IDS[1], false);
    world.settle();
    world.see_all();
    assert_eq!(world.steps.len(), 1, "the other one is the last");
    world.come_to_rest();
    world.check_end();
    assert_eq!(world.xen.taken_ports().count(), 1);
}

#[test]
fn a_domain_is_told_of_once_when_it_comes_and_once_when_it_goes() {
    let mut world = attached(PORTS[0]);
    world.input(Input::Stirred(Scope::Xen));
    world.come_to_rest();
    let domid = world.named(NAMES[0]).unwrap();
    // Its number is used again at once.
    let guest = world.xen.guests.get_mut(&domid).unwrap();
    guest.uuid = uuid("99".parse().unwrap());
    guest.controllers.clear();
    world.input(Input::Stirred(Scope::Xen));
    world.come_to_rest();
    let came = |event: &Event| matches!(event, Event::DomainAppeared(..));
    let went = |event: &Event| matches!(event, Event::DomainGone(..));
    let told: Vec<_> = world.told.iter().filter(|event| came(event) || went(event)).collect();
    assert!(matches!(*told, [a, b, c] if came(a) && went(b) && came(c)), "{told:?}");
}

#[test]
fn what_fails_because_xenstore_is_lost_does_not_count() {
    let mut world = about_to_attach(PORTS[0]);
    world.input(Input::XenstoreLost);
    assert!(!world.machine.is_connected());
    fail(&mut world, transient);
    assert!(matches!(world.told.last(), Some(Event::Overtaken { .. })), "{:?}", world.told);
    world.looks.clear();
    world.input(Input::LookFailed(Scope::Xen, "lost".into()));
    world.input(Input::XenstoreBack);
    assert!(world.machine.is_connected());
    world.input(Input::Stirred(Scope::Device(at(PORTS[0]))));
    world.come_to_rest();
    assert_eq!(pauses(&world), []);
}

/// Nothing is decided before both sides were looked at: a port of a device that was not looked for
/// is not stale.
#[test]
fn an_agent_that_starts_decides_nothing_before_it_has_seen_both_sides() {
    for first in [Scope::Usb, Scope::Xen] {
        let mut world = attached(PORTS[0]);
        world.apply(&Op::Policy { which: 2 });
        world.steps.clear();
        world.apply(&Op::Restart);
        let other = world.looks.iter().position(|scope| *scope != first).unwrap();
        let other = world.looks.remove(other);
        world.see_all();
        assert_eq!(world.steps.len(), 0, "{first:?}");
        world.looks.push(other);
        world.settle();
        assert_eq!(world.steps[0].1.name(), "clear port");
    }
}

#[test]
fn what_it_remembers_is_counted() {
    let mut world = attached(PORTS[0]);
    // The device, its looks, two jobs (the device and the controller) and five moments.
    assert_eq!(world.machine.size(), 1 + 1 + 2 + 5);
    // Another one is listed: it is not read yet, and both are looked at.
    let plugged = [PORTS[0], PORTS[3]].map(at).into();
    world.input(Input::Stirred(Scope::Usb));
    world.machine.handle(world.now, Input::Saw(Sight::Usb(plugged, false, DESK)));
    assert_eq!(world.machine.size(), 1 + 1 + 2 + 2 + 5 + 2);
    assert_eq!(world.machine.policy(), &*world.policy);
}

#[test]
fn whoever_waits_is_answered_when_the_device_stands_still_and_others_at_once() {
    let mut world = World::new();
    world.start(NAMES[1]);
    world.plug(PORTS[0], IDS[2], false);
    world.come_to_rest();
    let patient = world.ask(request(PORTS[0], attach_to(NAMES[1])), true);
    world.see_all();
    world.finish(How::Well);
    assert!(!world.answers.contains_key(&patient), "it is noted, and on its way");
    world.come_to_rest();
    let answer = world.answers[&patient].as_ref().unwrap();
    assert!(matches!(answer.standing, Some(Standing::Attached { .. })), "{answer:?}");

    let hasty = world.ask(request(PORTS[0], Wanted::Detach), false);
    world.see_all();
    world.finish(How::Well);
    assert_eq!(world.answers[&hasty].as_ref().unwrap().standing, None);
    world.come_to_rest();
    world.check_end();
}

#[test]
fn whoever_waits_for_an_order_that_another_order_ends_is_told() {
    let mut world = World::new();
    world.start(NAMES[1]);
    world.plug(PORTS[0], IDS[2], false);
    world.plug(PORTS[3], IDS[2], false);
    world.come_to_rest();
    let beside = world.ask(request(PORTS[3], attach_to(NAMES[1])), true);
    let first = world.ask(request(PORTS[0], attach_to(NAMES[1])), true);
    world.see_all();
    world.finish(How::Well);
    world.finish(How::Well);
    world.see_all();
    let second = world.ask(request(PORTS[0], Wanted::Detach), true);
    world.come_to_rest();
    assert_eq!(declined(&world, first), "superseded");
    assert!(world.answers[&second].is_ok() && world.answers[&beside].is_ok());
    world.check_end();
}

#[test]
fn what_was_waived_is_said_to_whoever_forced_it_and_to_the_journal() {
    let mut world = World::new();
    world.apply(&Op::Policy { which: 1 });
    world.start(NAMES[1]);
    world.plug(PORTS[1], IDS[0], false);
    world.come_to_rest();
    let forced = Request { force: true, ..request(PORTS[1], attach_to(NAMES[1])) };
    let id = world.ask(forced, false);
    world.see_all();
    world.finish(How::Well);
    assert!(world.answers[&id].as_ref().unwrap().waived.is_some());
    let waived = |event: &Event| matches!(event, Event::Ordered { waived: Some(_), .. });
    assert!(world.told.iter().any(waived));
}

#[test]
fn an_asker_who_has_gone_gets_no_answer_and_the_order_is_noted_all_the_same_once_it_is_on_its_way()
{
    let mut world = attached(PORTS[0]);
    let id = world.ask(request(PORTS[0], Wanted::Hold), true);
    world.input(Input::Unasked(id));
    world.see_all();
    world.finish(How::Well);
    assert!(world.xen.overrides.contains_key(&at(PORTS[0])));
    assert!(world.told.iter().any(|event| matches!(event, Event::Ordered { .. })));

    let id = world.ask(request(PORTS[0], Wanted::Release), true);
    world.see_all();
    world.finish(How::Well);
    world.input(Input::Unasked(id));
    world.come_to_rest();
    assert!(!world.answers.contains_key(&id), "{:?}", world.answers);
}

#[test]
fn whoever_asks_for_what_was_plugged_a_moment_ago_is_not_sent_away() {
    let mut world = attached(PORTS[0]);
    // udev's word about it is still on its way.
    world.plug(PORTS[3], IDS[2], false);
    world.looks.clear();
    world.apply(&Op::Restart);
    let device = world.devices.remove(&at(PORTS[3])).unwrap();
    world.come_to_rest();
    world.devices.insert(at(PORTS[3]), device);
    let id = world.ask(request(PORTS[3], Wanted::Hold), true);
    let absent = world.ask(request(PORTS[1], Wanted::Hold), true);
    assert!(world.answers.is_empty());
    world.come_to_rest();
    assert!(world.answers[&id].is_ok(), "{:?}", world.answers);
    assert_eq!(declined(&world, absent), "not-plugged");
}

#[test]
fn an_order_by_id_is_not_noted_for_what_is_plugged_there_instead() {
    let mut world = about_to_attach(PORTS[0]);
    let device = DeviceName::Id(IDS[0].parse().unwrap());
    let id = world.ask(Request { device, wanted: Wanted::Hold, force: false }, true);
    world.unplug(PORTS[0]);
    world.plug(PORTS[0], IDS[2], false);
    world.come_to_rest();
    assert_eq!(declined(&world, id), "unplugged");
    assert!(world.xen.overrides.is_empty());
}

#[test]
fn an_order_that_cannot_be_noted_is_declined() {
    let mut world = attached(PORTS[0]);
    for (is_lost, code) in [(false, "failed"), (true, "xenstore-lost")] {
        let id = world.ask(request(PORTS[0], Wanted::Hold), true);
        if is_lost {
            world.input(Input::XenstoreLost);
        }
        assert!(!world.answers.contains_key(&id), "it is on its way");
        fail(&mut world, transient);
        assert_eq!(declined(&world, id), code);
        world.see_all();
    }
    let id = world.ask(request(PORTS[0], Wanted::Hold), true);
    assert_eq!(declined(&world, id), "xenstore-lost");
}

/// Two at once take back what was said of a device that is not plugged any more.
#[test]
fn a_release_of_what_is_gone_is_answered_when_it_is_noted() {
    let mut world = attached(PORTS[0]);
    world.ask(request(PORTS[0], Wanted::Hold), true);
    world.come_to_rest();
    world.unplug(PORTS[0]);
    world.come_to_rest();
    assert!(world.xen.overrides.contains_key(&at(PORTS[0])));
    let releases = [0, 1].map(|_| world.ask(request(PORTS[0], Wanted::Release), true));
    assert!(releases.iter().all(|id| !world.answers.contains_key(id)), "it is not noted yet");
    world.come_to_rest();
    assert!(releases.iter().all(|id| world.answers[id].is_ok()), "{:?}", world.answers);
    assert!(world.xen.overrides.is_empty());
}

#[test]
fn an_agent_that_ends_lets_steps_end_and_answers_everybody() {
    let mut world = about_to_attach(PORTS[0]);
    let waiting = world.ask(request(PORTS[0], Wanted::Hold), true);
    assert!(!world.answers.contains_key(&waiting), "its turn has not come");
    world.input(Input::Leave { detach: false });
    assert_eq!(declined(&world, waiting), "ending");
    assert!(!world.has_left, "a step is on its way");
    let late = world.ask(request(PORTS[0], Wanted::Hold), true);
    assert_eq!(declined(&world, late), "ending");
    world.finish(How::Well);
    assert!(world.has_left);
    assert_eq!(world.xen.taken_ports().count(), 1, "attachments stay");

    let mut world = attached(PORTS[0]);
    let noting = world.ask(request(PORTS[0], Wanted::Hold), false);
    world.input(Input::Leave { detach: true });
    assert!(!world.answers.contains_key(&noting), "it is being noted");
    world.come_to_rest();
    assert!(world.answers[&noting].is_ok() && world.has_left);
    assert_eq!(world.xen.taken_ports().count(), 0);
}
