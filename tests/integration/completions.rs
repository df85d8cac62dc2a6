//! What bash, zsh and fish make of a line that somebody has begun, with the scripts that are shipped.
//!
//! bash and zsh are the real ones on a terminal, with a person who types a tab; fish tells by itself what it
//! would offer. The program that they ask is this one, on a made-up host. It leaves out what does not answer
//! soon, so on a machine that is busy with other tests whoever gets less than there is asks again.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use crate::cli::{code, err, out, plug_some, program};
use crate::harness::backend::Guest;
use crate::harness::time::{PATIENCE, eventually, timed, wait_until};
use crate::harness::usb::UsbDevice;
use crate::harness::xenstored::Flavor;
use crate::world::{Domain, World};
use nix::pty::{OpenptyResult, Winsize, openpty};
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Where the scripts are.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/completions");

/// What is begun, and what one tab makes of it, in every shell.
const LINES: [(&str, &str); 14] = [
    ("detac", "detach "),
    ("list --js", "list --json "),
    ("convert --from xa", "convert --from xapi "),
    ("convert --from=xa", "convert --from=xapi "),
    // The hub 1-1 is left out.
    ("attach 1-1", "attach 1-1.4 "),
    ("explain --json 1-2", "explain --json 1-2 "),
    ("hold 1.6", "hold 1.6 "),
    ("explain 046d", "explain 046d:c31c "),
    ("explain 046d:c3", "explain 046d:c31c "),
    ("attach 1-1.4 ki", "attach 1-1.4 kiosk "),
    ("attach 1-1.4 --wait 5 de", "attach 1-1.4 --wait 5 desk "),
    ("generate --domain ki", "generate --domain kiosk "),
    ("controller remove ki", "controller remove kiosk "),
    // Its name would be read by the shell.
    ("attach 1-1.4 8", "attach 1-1.4 8 "),
];

/// A host with devices and domains, one of which is called so that a shell would do something.
fn host() -> (World, [Domain; 3]) {
    let mut world = World::new(Flavor::C);
    plug_some(&world);
    let domains = [
        world.domain(5, "kiosk"),
        world.domain(6, "desk"),
        world.serve(Guest::new(8, "$(touch owned)")),
    ];
    (world, domains)
}

/// A directory of a person: the program as the first in `PATH`, and files with odd names.
fn home(world: &World) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let mut script = "#!/bin/sh\n".to_owned();
    for (name, value) in world.env() {
        writeln!(script, "export {name}='{value}'").unwrap();
    }
    writeln!(script, "exec '{}' \"$@\"", env!("CARGO_BIN_EXE_pvusb-agent")).unwrap();
    let program = home.path().join("bin/pvusb-agent");
    fs::create_dir(home.path().join("bin")).unwrap();
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    fs::write(home.path().join("odd $(touch owned).yaml"), "").unwrap();
    fs::create_dir(home.path().join("folder")).unwrap();
    home
}

/// A shell at home.
fn command(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", home.join("bin").display());
    command.env_clear().env("PATH", path).env("HOME", home).env("ZDOTDIR", home);
    command.env("TERM", "xterm").env("LANG", "C.UTF-8").current_dir(home);
    command
}

/// A shell on a terminal, with a key (Ctrl-T) that writes the line as it is into `line`.
struct Terminal {
    home: tempfile::TempDir,
    shell: Child,
    keys: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(home: tempfile::TempDir, shell: &[&str]) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        let mut command = command("setsid", home.path());
        command.arg("--ctty").args(shell);
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let shell = command.spawn().unwrap();
        let mut reader = File::from(master.try_clone().unwrap());
        let screen = Arc::new(Mutex::new(Vec::new()));
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                shown.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        let terminal = Self { home, shell, keys: master.into(), screen };
        wait_until(PATIENCE, "the shell is ready", || terminal.shows("ready> "));
        terminal
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    fn shows(&self, text: &str) -> bool {
        self.screen().contains(text)
    }

    /// What a tab makes of a line.
    fn completed(&mut self, begun: &str) -> String {
        let answer = self.home.path().join("line");
        self.keys.write_all(format!("\u{15}pvusb-agent {begun}\t\u{14}").as_bytes()).unwrap();
        let line = eventually(PATIENCE, || {
            fs::read_to_string(&answer).ok().filter(|line| line.ends_with('\n'))
        });
        let line = line.unwrap_or_else(|| self.screen());
        fs::remove_file(&answer).unwrap();
        line.trim_end_matches('\n').trim_start_matches("pvusb-agent ").to_owned()
    }

    /// Every line, files, and what is not there.
    fn check(&mut self) {
        for (begun, completed) in LINES {
            wait_until(PATIENCE, begun, || self.completed(begun) == completed);
        }
        for begun in ["check od", "check --show od", "run --policy od"] {
            let [words, file] = [&begun[..begun.len() - 2], "odd\\ \\$\\(touch\\ owned\\).yaml "];
            assert_eq!(self.completed(begun), format!("{words}{file}"));
        }
        let file = self.completed("diff --policy=od");
        assert_eq!(file, "diff --policy=odd\\ \\$\\(touch\\ owned\\).yaml ");
        assert_eq!(self.completed("list --libxl-dir fo"), "list --libxl-dir folder/");
        assert_eq!(self.completed("list --libxl-dir od"), "list --libxl-dir od");
        assert_eq!(self.completed("attach od"), "attach od");
        assert_eq!(
            self.completed("attach 1-1.4 ') $(touch owned"),
            "attach 1-1.4 ') $(touch owned"
        );
        assert!(!self.home.path().join("owned").exists());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[test]
fn bash_completes_what_is_there() {
    let (world, _domains) = host();
    let home = home(&world);
    let rc = home.path().join("rc");
    let text = format!(
        "PS1='ready> '\nsource '{SCRIPTS}/pvusb-agent.bash'\n\
         bind -x '\"\\C-t\": printf \"%s\\n\" \"$READLINE_LINE\" >~/line'\n"
    );
    fs::write(&rc, text).unwrap();
    let shell = ["bash", "--noprofile", "--rcfile", rc.to_str().unwrap(), "-i"];
    let mut terminal = Terminal::start(home, &shell);
    terminal.check();
    // A quote that is open, and one cut short of its end by the cursor.
    assert_eq!(terminal.completed("attach \"1-1"), "attach \"1-1.4\" ");
    assert_eq!(terminal.completed("attach 1-1 kiosk\u{1b}b\u{2}"), "attach 1-1.4 kiosk");
}

#[test]
fn zsh_completes_what_is_there_and_shows_what_it_is() {
    let (world, _domains) = host();
    let home = home(&world);
    let text = format!(
        "PS1='ready> '\nfpath=('{SCRIPTS}' $fpath)\nautoload -Uz compinit && compinit -u -D\nbindkey -e\n\
         show() {{ print -r -- \"$BUFFER\" >~/line }}\nzle -N show\nbindkey '^T' show\n"
    );
    fs::write(home.path().join(".zshrc"), text).unwrap();
    let mut terminal = Terminal::start(home, &["zsh", "-d", "-i"]);
    terminal.check();
    // What all have in common comes first, then the list.
    assert_eq!(terminal.completed("attach "), "attach 1-");
    for shown in ["046d:c31c Logitech USB Keyboard", "0781:5581 SanDisk Ultra"] {
        wait_until(PATIENCE, shown, || {
            terminal.completed("attach 1-") == "attach 1-" && terminal.shows(shown)
        });
    }
    let odd = "$(touch owned), pv";
    wait_until(PATIENCE, odd, || {
        terminal.completed("attach 1-1.4 ") == "attach 1-1.4 " && terminal.shows(odd)
    });
}

#[test]
fn fish_completes_what_is_there_and_shows_what_it_is() {
    let (world, _domains) = host();
    let home = home(&world);
    let offered = |begun: &str| {
        let begun = begun.replace('\\', "\\\\").replace('\'', "\\'");
        let script =
            format!("source '{SCRIPTS}/pvusb-agent.fish'; complete -C 'pvusb-agent {begun}'");
        let output = command("fish", home.path()).args(["--no-config", "-c", &script]).output();
        let output = output.unwrap();
        assert_eq!(err(&output), "", "{begun}");
        out(&output).to_owned()
    };
    let values = |begun: &str| -> Vec<_> {
        offered(begun)
            .lines()
            .filter_map(|line| Some(line.split('\t').next()?.to_owned()))
            .collect()
    };
    for (begun, completed) in LINES {
        let completed = completed.trim_end().rsplit(' ').next().unwrap();
        wait_until(PATIENCE, begun, || values(begun) == [completed]);
    }
    for (begun, told) in [
        ("attach 1-1", "1-1.4\t046d:c31c Logitech USB Keyboard\n"),
        ("attach \"1-1", "1-1.4\t046d:c31c Logitech USB Keyboard\n"),
        ("attach 1-1.4 8", "8\t$(touch owned), pv\n"),
    ] {
        wait_until(PATIENCE, begun, || offered(begun) == told);
    }
    assert!(offered("check od").starts_with("odd $(touch owned).yaml"));
    assert!(offered("diff --policy=od").starts_with("--policy=odd $(touch owned).yaml"));
    assert!(offered("list --libxl-dir fo").starts_with("folder/"));
    assert_eq!(offered("list --libxl-dir od"), "");
    assert_eq!(offered("attach od"), "");
    assert!(!home.path().join("owned").exists());
}

/// What the program answers a shell, on a host.
fn answer(world: &World, words: &[&str], changed: &[(&str, &str)]) -> String {
    let mut command = program(&[&["--", "pvusb-agent"], words].concat());
    command.env("COMPLETE", "zsh").envs(world.env()).envs(changed.iter().copied());
    let output = command.output().unwrap();
    assert_eq!((code(&output), err(&output)), (0, ""), "{words:?}");
    out(&output).to_owned()
}

/// Waits until the program answers so.
#[track_caller]
fn expect(world: &World, words: &[&str], expected: &str) {
    let mut last = String::new();
    let found = eventually(PATIENCE, || {
        last = answer(world, words, &[]);
        (last == expected).then_some(())
    });
    assert!(found.is_some(), "{words:?}: {last}");
}

#[test]
fn what_devices_and_domains_are_called_orders_a_shell_nothing() {
    let mut world = World::new(Flavor::C);
    let hostile =
        UsbDevice::keyboard("1-1", 6).named("\u{1b}]0;x\u{7}\t`id`", "a\r\nb $(id) \u{202e}");
    world.bed.plug(&hostile);
    let told = "1-1\t046d:c31c \\u{1b}]0;x\\u{7}\\t`id` a\\r\\nb $(id) \\u{202e}\n";
    expect(&world, &["hold", ""], told);

    let names = ["-x", "7", "dom0", "a b", "twin", "twin", "\u{1b}[2J", "good_1.x"];
    let domains: Vec<_> =
        (10..).zip(names).map(|(domid, name)| world.domain(domid, name)).collect();
    let told = "10\t-x, pv\n11\t7, pv\n12\tdom0, pv\n13\ta b, pv\n14\ttwin, pv\n15\ttwin, pv\n\
                16\t\\u{1b}[2J, pv\ngood_1.x\tdomain 17, pv\n";
    expect(&world, &["attach", "1-1", ""], told);
    expect(&world, &["generate", "--domain", ""], "good_1.x\tdomain 17, pv\n");
    let uuid = &domains[7].guest.uuid;
    expect(&world, &["attach", "1-1", &uuid[..35]], &format!("{uuid}\tgood_1.x, pv\n"));
}

#[test]
fn ids_that_several_devices_have_are_no_names() {
    let world = World::new(Flavor::C);
    plug_some(&world);
    expect(&world, &["hold", "0403:"], "");
    expect(&world, &["hold", "046d:"], "046d:c31c\t1-1.4 Logitech USB Keyboard\n");
    let told = "1.6\t046d:c31c Logitech USB Keyboard\n1.7\t0781:5581 SanDisk Ultra\n\
                1.8\t0403:6001 FTDI FT232R USB UART\n1.9\t0403:6001 FTDI FT232R USB UART\n";
    expect(&world, &["hold", "1."], told);
}

#[test]
fn a_device_that_does_not_answer_is_told_by_its_place_and_holds_up_no_other() {
    let world = World::new(Flavor::C);
    plug_some(&world);
    // Who reads it waits, as for a device that the kernel resets.
    let product = world.bed.path("/sys/bus/usb/devices/1-2/product");
    fs::remove_file(&product).unwrap();
    nix::unistd::mkfifo(&product, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let told = "1-1.4\t046d:c31c Logitech USB Keyboard\n1-2\n\
                1-3\t0403:6001 FTDI FT232R USB UART\n1-4\t0403:6001 FTDI FT232R USB UART\n";
    expect(&world, &["hold", ""], told);
}

#[test]
fn a_xenstored_that_is_silent_or_away_is_not_waited_for() {
    let world = World::new(Flavor::C);
    let socket = world.own_directory().join("silent");
    let _silent = UnixListener::bind(&socket).unwrap();
    for socket in [socket, world.own_directory().join("nowhere")] {
        let changed = [("XENSTORED_PATH", socket.to_str().unwrap())];
        let (shown, took) = timed(|| answer(&world, &["attach", "1-1", ""], &changed));
        // An answer of xenstored's may take thirty seconds otherwise.
        assert_eq!(shown, "");
        assert!(took < Duration::from_secs(15), "{took:?}");
    }
}

#[test]
fn a_variable_that_was_left_behind_changes_no_verb() {
    let world = World::new(Flavor::C);
    let output = program(&["devices", "--json"]).envs(world.env()).env("COMPLETE", "bash").output();
    assert_eq!(out(&output.unwrap()), "[]\n");
    let output = program(&["list", "--nonsense"]).env("COMPLETE", "1").output().unwrap();
    assert_eq!(code(&output), 64);
}

#[test]
fn the_scripts_that_are_shipped_are_those_that_the_program_prints() {
    for (shell, name) in
        [("bash", "pvusb-agent.bash"), ("zsh", "_pvusb-agent"), ("fish", "pvusb-agent.fish")]
    {
        let output = program(&[]).env("COMPLETE", shell).stdin(Stdio::null()).output().unwrap();
        let path = Path::new(SCRIPTS).join(name);
        assert_eq!(out(&output), fs::read_to_string(&path).unwrap());
        let output = Command::new(shell).arg("-n").arg(&path).output().unwrap();
        assert_eq!((code(&output), err(&output)), (0, ""));
    }
}
