//! The picture that `watch` draws: domains with what is in them, dom0, what waits, and the last lines.

use crate::cli::table;
use crate::control::watch::{DeviceRow, DomainRow, Notice, Rests, Said, WatchOutcome};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};

/// How many lines are kept for the end of the picture.
const LINES: usize = 64;

/// Where the picture is not on a terminal.
const USUAL: (usize, usize) = (100, 50);

/// How it is drawn.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// Whether hubs are shown.
    pub(super) hubs: bool,
    pub(super) colour: bool,
    /// Whether each picture takes the place of the one before it.
    pub(super) is_live: bool,
}

/// What is drawn.
pub(super) struct Screen {
    style: Style,
    is_there: bool,
    xenstore: bool,
    devices: BTreeMap<String, DeviceRow>,
    domains: BTreeMap<u16, DomainRow>,
    said: VecDeque<Said>,
}

impl Screen {
    pub(super) fn new(style: Style) -> Self {
        Self {
            style,
            is_there: false,
            xenstore: false,
            devices: BTreeMap::new(),
            domains: BTreeMap::new(),
            said: VecDeque::new(),
        }
    }

    /// Everything is shown anew.
    pub(super) fn begin(&mut self, outcome: WatchOutcome) {
        self.is_there = true;
        self.xenstore = outcome.xenstore;
        self.devices = outcome.devices.into_iter().map(|row| (row.busid.clone(), row)).collect();
        self.domains = outcome.domains.into_iter().map(|row| (row.domid, row)).collect();
        outcome.said.into_iter().for_each(|said| self.hear(said));
    }

    /// Something has changed.
    pub(super) fn change(&mut self, notice: Notice) {
        match notice {
            Notice::Said(said) => self.hear(said),
            Notice::Device(row) => drop(self.devices.insert(row.busid.clone(), row)),
            Notice::DeviceGone { busid } => drop(self.devices.remove(&busid)),
            Notice::Domain(row) => drop(self.domains.insert(row.domid, row)),
            Notice::DomainGone { domid } => drop(self.domains.remove(&domid)),
            Notice::Xenstore { connected } => self.xenstore = connected,
        }
    }

    /// The agent has gone; it may come back.
    pub(super) fn lose(&mut self) {
        self.is_there = false;
    }

    /// Draws the picture as large as the terminal is now.
    pub(super) fn draw(&self, out: &mut dyn Write) -> io::Result<()> {
        let size = terminal_size::terminal_size_of(io::stdout());
        let size = size.map(|(width, height)| (usize::from(width.0), usize::from(height.0)));
        let (width, height) = size
            .filter(|_| self.style.is_live)
            .unwrap_or((table::width().unwrap_or(USUAL.0), USUAL.1));
        let picture = self.picture(width, self.style.is_live.then_some(height));
        if self.style.is_live {
            // Each line takes the place of the one that was there; what is below goes.
            let lines = picture.trim_end().replace('\n', "\x1b[K\r\n");
            write!(out, "\x1b[H{lines}\x1b[K\x1b[J")?;
        } else {
            out.write_all(picture.as_bytes())?;
        }
        out.flush()
    }

    fn hear(&mut self, said: Said) {
        if self.said.len() == LINES {
            self.said.pop_front();
        }
        self.said.push_back(said);
    }

    /// The whole picture; of at most `height` lines, of which the last ones are what was told.
    fn picture(&self, width: usize, height: Option<usize>) -> String {
        let mut lines = vec![self.headline()];
        for domain in self.domains.values() {
            let ports = match (domain.controllers, domain.ports) {
                (0, _) => "no controller".to_owned(),
                (_, ports) => format!("{} of {ports} ports free", domain.free),
            };
            let state = if domain.state == "running" {
                String::new()
            } else {
                format!(", {}", domain.state)
            };
            let title = format!("{} ({})", domain.name, domain.domid);
            lines.push(String::new());
            lines.push(format!("{}  {}", self.bold(&title), self.dim(&format!("{ports}{state}"))));
            let is_in = |row: &DeviceRow| {
                row.rests == Rests::Domain
                    && row.place.as_ref().is_some_and(|it| it.domid == domain.domid)
            };
            lines.extend(self.rows(is_in, width));
        }
        let is_homeless = |row: &DeviceRow| {
            row.rests == Rests::Domain
                && row.place.as_ref().is_none_or(|it| !self.domains.contains_key(&it.domid))
        };
        for (title, is_in) in [
            ("in domains that are not there", &is_homeless as &dyn Fn(&DeviceRow) -> bool),
            ("waiting", &|row| row.rests == Rests::Waiting),
            ("in trouble", &|row| row.rests == Rests::Stuck),
            ("blocked", &|row| row.rests == Rests::Nobody),
            ("dom0", &|row| row.rests == Rests::Dom0),
        ] {
            let rows = self.rows(is_in, width);
            if !rows.is_empty() {
                lines.extend([String::new(), self.bold(title)]);
                lines.extend(rows);
            }
        }
        let room = height.map_or(self.said.len(), |height| height.saturating_sub(lines.len() + 1));
        if let Some(height) = height.filter(|height| lines.len() > *height) {
            let more = lines.len() - height + 1;
            lines.truncate(height - 1);
            lines.push(self.dim(&format!("({more} more lines)")));
        } else if room > 0 && !self.said.is_empty() {
            lines.push(String::new());
            let skipped = self.said.len().saturating_sub(room);
            let told = self.said.iter().skip(skipped);
            lines.extend(told.map(|said| self.told(said, width)));
        }
        lines.join("\n") + "\n"
    }

    fn headline(&self) -> String {
        if !self.is_there {
            return self
                .alarm("the agent is not running: waiting for it; what is below was so before");
        }
        let is_shown = |row: &&DeviceRow| row.standing != "hub";
        let devices = self.devices.values().filter(is_shown).count();
        let attached = self.devices.values().filter(|row| row.rests == Rests::Domain).count();
        let noun = if devices == 1 { "device" } else { "devices" };
        let counts = format!("{devices} {noun}, {attached} in domains");
        let lost = self.alarm("no connection to xenstore");
        if self.xenstore { counts } else { format!("{counts}, {lost}") }
    }

    fn rows(&self, is_in: impl Fn(&DeviceRow) -> bool, width: usize) -> Vec<String> {
        let shown = |row: &&DeviceRow| is_in(row) && (self.style.hubs || row.standing != "hub");
        let rows: Vec<&DeviceRow> = self.devices.values().filter(shown).collect();
        let columns = |row: &&DeviceRow| [length(&row.busid), length(&device(row))];
        let [busids, devices] = rows
            .iter()
            .map(columns)
            .fold([0, 0], |most, each| [most[0].max(each[0]), most[1].max(each[1])]);
        // The message is what matters: the name gets at most half of the line.
        let devices = devices.min(width / 2);
        let line = |row: &DeviceRow| {
            let name = fit(&device(row), devices);
            let line = format!("  {:<busids$}  {name:<devices$}  ", row.busid);
            let message = fit(&row.message, width.saturating_sub(length(&line)));
            line + &match row.rests {
                Rests::Stuck => self.alarm(&message),
                Rests::Domain | Rests::Dom0 | Rests::Nobody | Rests::Waiting => message,
            }
        };
        rows.into_iter().map(line).collect()
    }

    fn told(&self, said: &Said, width: usize) -> String {
        let time = super::date(said);
        let time = time.get(11..19).unwrap_or_default();
        let line = fit(&said.line, width.saturating_sub(10));
        let line = if said.level == "info" { line } else { self.alarm(&line) };
        format!("{}  {line}", self.dim(time))
    }

    fn bold(&self, text: &str) -> String {
        self.styled("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.styled("2", text)
    }

    fn alarm(&self, text: &str) -> String {
        self.styled("33", text)
    }

    fn styled(&self, style: &str, text: &str) -> String {
        if self.style.colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// What is plugged there.
fn device(row: &DeviceRow) -> String {
    match (&row.id, &row.name) {
        (Some(id), Some(name)) => format!("{id} {name}").trim_end().to_owned(),
        _ => "(nothing is plugged there)".to_owned(),
    }
}

/// The text, cut to so many characters.
fn fit(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        cut.push('…');
    }
    cut
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::PlaceOutcome;

    fn row(busid: &str, name: &str, rests: Rests, message: &str) -> DeviceRow {
        DeviceRow {
            busid: busid.into(),
            bus_address: Some("1.2".into()),
            id: Some("05e0:1200".into()),
            name: Some(name.into()),
            standing: if message.ends_with("hub") { "hub" } else { "x" }.into(),
            message: message.into(),
            rests,
            place: (rests == Rests::Domain).then_some(PlaceOutcome {
                domid: 5,
                controller: 0,
                port: 1,
            }),
            domain: None,
        }
    }

    fn said(seq: u64, line: &str) -> Said {
        Said {
            seq,
            at_ms: 3_661_000,
            level: "info".into(),
            event: "plugged".into(),
            line: line.into(),
            fields: BTreeMap::new(),
        }
    }

    fn screen() -> Screen {
        let mut screen = Screen::new(Style { hubs: false, colour: false, is_live: true });
        let kiosk = DomainRow {
            domid: 5,
            name: "kiosk".into(),
            state: "running".into(),
            controllers: 1,
            ports: 8,
            free: 7,
        };
        screen.begin(WatchOutcome {
            agent: "a".into(),
            seq: 1,
            complete: true,
            said: vec![said(1, "plugged device=1-1")],
            xenstore: true,
            devices: vec![
                row(
                    "1-1",
                    "Symbol Bar Code Scanner",
                    Rests::Domain,
                    "is in kiosk (domain 5): rule",
                ),
                row("1-2", "Hub", Rests::Dom0, "stays in dom0: it is a hub"),
                row("1-3.4", "Stick", Rests::Dom0, "stays in dom0: no rule matches"),
                row("1-4", "Printer", Rests::Waiting, "stays in dom0: office does not run"),
            ],
            domains: vec![kiosk],
        });
        screen
    }

    #[test]
    fn a_picture_shows_domains_with_their_devices_what_waits_and_what_was_told() {
        let expected = "\
3 devices, 1 in domains

kiosk (5)  7 of 8 ports free
  1-1  05e0:1200 Symbol Bar Code Scanner  is in kiosk (domain 5): rule

waiting
  1-4  05e0:1200 Printer  stays in dom0: office does not run

dom0
  1-3.4  05e0:1200 Stick  stays in dom0: no rule matches

01:01:01  plugged device=1-1
";
        assert_eq!(screen().picture(80, Some(30)), expected);
    }

    #[test]
    fn no_picture_is_wider_or_higher_than_the_terminal() {
        let mut screen = screen();
        for seq in 2..100 {
            screen.change(Notice::Said(said(seq, &"a long line ".repeat(20))));
        }
        screen.devices.get_mut("1-4").unwrap().name = Some("ü".repeat(200));
        for (width, height) in [(80, 24), (40, 12), (20, 5), (1, 1)] {
            let picture = screen.picture(width, Some(height));
            assert!(picture.lines().count() <= height, "{picture}");
            // Titles are short, and wrap where a terminal is narrower than they are.
            let rows = picture.lines().filter(|line| line.starts_with("  ") && width >= 40);
            assert!(rows.map(length).all(|it| it <= width), "{picture}");
        }
    }

    #[test]
    fn changes_take_the_place_of_what_was_there() {
        let mut screen = screen();
        screen.change(Notice::DeviceGone { busid: "1-4".into() });
        screen.change(Notice::DomainGone { domid: 5 });
        screen.change(Notice::Xenstore { connected: false });
        let picture = screen.picture(80, Some(30));
        assert!(picture.starts_with("2 devices, 1 in domains, no connection to xenstore\n"));
        assert!(picture.contains("in domains that are not there\n  1-1"), "{picture}");
        assert!(!picture.contains("waiting"));
        screen.lose();
        assert!(screen.picture(80, None).starts_with("the agent is not running"));
    }
}
