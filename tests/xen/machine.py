"""The machine: QEMU with Xen and dom0 in it. Starts it, stops it, and says whether it is sound.

Each line of the command line that looks odd has its reason in README.md, under "Pitfalls".
"""

import os
import pathlib
import re
import shutil
import subprocess
import time

from dom0 import Shell
from qmp import Qmp
from waiting import RigFault, be_patient

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUNS = ROOT / ".cache" / "xen" / "runs"
# As in `build`.
IMAGES = pathlib.Path(os.environ.get("PVUSB_XEN_CACHE") or ROOT / ".cache" / "xen") / "out"

# The images must be booted within this. It takes 20 to 40 s on two cores; CI machines are slower.
BOOT_LIMIT = 300

XEN_LINE = (
    "console=com1 com1=115200,8n1 dom0_mem=768M,max:768M dom0_max_vcpus={vcpus} noreboot=0 bootscrub=0 "
    "loglvl=warning guest_loglvl=warning spec-ctrl=no,eager-fpu=1 xpti=no pv-l1tf=no"
)
LINUX_LINE = (
    "console=hvc0 quiet loglevel=4 net.ifnames=0 mitigations=off tsc=reliable cryptomgr.notests rodata=off norandmaps "
    "init={init}"
)

# What runs in dom0: a script that starts the least that Xen needs, or systemd as in a plain Debian.
# Each has its own disk and first program.
PLAIN, SYSTEMD = "plain", "systemd"
DISKS = {PLAIN: ("dom0.ext4", "/sbin/dom0-init"), SYSTEMD: ("dom0-systemd.ext4", "/lib/systemd/systemd")}

# How the kernel tells of a crash.
CRASH = re.compile(r"segfault|general protection|traps:|Oops|BUG:|Call Trace")

# Programs whose crash is a fault of the rig. A device model or the agent may crash for reasons that
# are ours; those are for the scenario to judge.
OURS = re.compile(r"qemu-system|xen-qemu|pvusb-agent")

# What a device model ends with when its guest asks a device for something in the moment in which that is
# removed. Nobody in dom0 can prevent it (docs/protocol.md, "What kills a domain's QEMU").
DEVICE_MODEL_FAULT = "usb_ep_get: Assertion `dev != NULL' failed"


class Machine:
    def __init__(self, directory, vcpus=1, dom0=PLAIN):
        self.directory = pathlib.Path(directory)
        self.vcpus = vcpus
        self.kind = dom0
        self.share = self.directory / "share"
        self.share.mkdir(parents=True, exist_ok=True)
        self.boot_seconds = None
        self._process = None
        self._kernel_lines = 0

    def start(self):
        began = time.monotonic()
        for name in ["qmp", "shell0", "shell1", "person"]:
            (self.directory / name).unlink(missing_ok=True)
        self._log = open(self.directory / "qemu.log", "wb")
        self._process = subprocess.Popen(
            self._command(), stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        self._wait_for(lambda: (self.directory / "shell1").exists(), 10, "QEMU does not start")
        self.qmp = Qmp(self.directory / "qmp")
        self.dom0 = Shell(self.directory / "shell0")
        aside = Shell(self.directory / "shell1")
        self._wait_for(lambda: "READY" in self.console(), BOOT_LIMIT, "dom0 does not boot")
        self.dom0.greet()
        aside.greet()
        shutil.copy(pathlib.Path(__file__).parent / "inside" / "eyes.py", self.share)
        self.eyes = aside.become_eyes("/share/eyes.py")
        self.boot_seconds = time.monotonic() - began
        be_patient(self.boot_seconds)

    def stop(self):
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self._log.close()

    def runs(self):
        return self._process is not None and self._process.poll() is None

    def processor_seconds(self):
        """What QEMU has taken so far: the same on a busy computer and on a quiet one."""
        with open(f"/proc/{self._process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def console(self):
        try:
            return (self.directory / "console.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def check(self):
        """Raises RigFault if something is broken that the agent cannot have broken."""
        if not self.runs():
            raise RigFault(f"QEMU has ended:\n{(self.directory / 'qemu.log').read_text()}")
        lines = self.eyes.kernel(start=self._kernel_lines)
        self._kernel_lines += len(lines)
        faults = [line for line in lines if CRASH.search(line) and not OURS.search(line)]
        if faults:
            raise RigFault("a program or the kernel of dom0 has crashed:\n" + "\n".join(faults))
        fallen = self.eyes.saying(pattern="/var/log/xen/qemu-dm-*.log", words=DEVICE_MODEL_FAULT)
        if fallen:
            raise RigFault(f"a device model did not survive a removal: {', '.join(fallen)}: {DEVICE_MODEL_FAULT}")
        # Debian's own script for Xen prefers oxenstored.
        xenstored = "oxenstored" if self.kind == SYSTEMD else "xenstored"
        for name in ["systemd-udevd", xenstored, "xenconsoled"]:
            if not self.eyes.processes(name=name):
                raise RigFault(f"dom0's {name} has died")

    def _wait_for(self, probe, limit, what):
        end = time.monotonic() + limit
        while not probe():
            if not self.runs():
                raise RigFault(f"QEMU has ended:\n{(self.directory / 'qemu.log').read_text()}")
            if time.monotonic() > end:
                raise RigFault(f"{what} within {limit} s; see {self.directory / 'console.log'}")
            time.sleep(0.1)

    def _command(self):
        program = shutil.which("qemu-system-x86_64")
        if program is None:
            raise RigFault("there is no qemu-system-x86_64: run tests/xen/build")
        here = self.directory
        disk, init = DISKS[self.kind]
        if not (IMAGES / disk).exists():
            raise RigFault(f"there is no {disk}: run tests/xen/build")
        thread = "single" if self.vcpus == 1 else "multi"
        command = [
            *[program, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
            *["-accel", f"tcg,thread={thread}", "-M", "pc", "-smp", str(self.vcpus), "-m", "2560"],
            *["-cpu", "max,-smap,-smep,-avx,-avx2,-f16c,-fma,-erms,-fsrm"],
            *["-kernel", IMAGES / "xen", "-append", XEN_LINE.format(vcpus=self.vcpus)],
            *["-initrd", f"{IMAGES}/vmlinuz {LINUX_LINE.format(init=init)},{IMAGES}/dom0-initrd.img"],
            *["-chardev", f"file,id=console,path={here}/console.log", "-serial", "chardev:console"],
            *["-chardev", f"socket,id=person,path={here}/person,server=on,wait=off"],
            *["-serial", "chardev:person"],
            *["-qmp", f"unix:{here}/qmp,server=on,wait=off"],
            *["-drive", f"file={IMAGES}/{disk},format=raw,snapshot=on,if=none,id=disk"],
            *["-device", "virtio-blk-pci,drive=disk"],
            *["-fsdev", f"local,id=share,path={self.share},security_model=none"],
            *["-device", "virtio-9p-pci,fsdev=share,mount_tag=share"],
            *["-device", "virtio-serial-pci", "-device", "qemu-xhci,id=xhci,p2=8,p3=8"],
        ]
        for name in ["shell0", "shell1"]:
            command += ["-chardev", f"socket,id={name},path={here}/{name},server=on,wait=off"]
            command += ["-device", f"virtserialport,chardev={name},name={name}"]
        return [os.fspath(word) for word in command]
