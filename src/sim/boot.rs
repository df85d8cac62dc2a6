//! The host boots anew: what outlives that, and what does not.

use super::store::Store;
use super::usb::{Micros, Socket};
use super::world::{Happening, World};

impl World {
    /// Everything ends in the same moment, xenstore with all that was noted in it. What was plugged is still
    /// plugged, and some domains are started again by the toolstack. The policy and what was remembered are files.
    pub(super) fn reboot_host(&mut self, down: Micros) {
        self.tell(|| "the host boots anew".to_owned());
        self.kill_agent(0);
        self.forget_happenings();
        self.stale.clear();
        self.taken_out.clear();
        self.touched.clear();
        self.wakes.clear();
        self.misfortunes.clear();
        self.history.clear();
        self.ghosts.clear();
        self.qemus.clear();
        self.store = Store {
            // Told apart from what was before.
            tenancies: self.store.tenancies,
            ..Store::default()
        };
        self.store.changed();
        let guests = std::mem::take(&mut self.guests);
        let mut sockets: Vec<Socket> = self.usb.boot().collect();
        // A hub is found before what is behind it.
        sockets.sort_by_key(|socket| socket.device.busid.ports().len());
        for socket in sockets {
            let depth = socket.device.busid.ports().len() as Micros;
            let found = depth * 200_000 + self.takes(50_000, 150_000);
            self.soon(found, Happening::Replug(socket.spec));
        }
        for facts in guests.into_values() {
            if !self.setting.chance || !self.dice.one_in(3) {
                let started = down + self.takes(2_000_000, 20_000_000);
                self.soon(started, Happening::Starts(facts.spec));
            }
        }
        self.soon(down, Happening::AgentStarts);
    }
}
