//! How devices and drivers look in /sys and /dev: the kernel's files. Who may change them when is
//! not decided here.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::device::{Child, Interface, UsbDevice};

/// Marks a control file for `fakekernel.c`: the sticky bit.
const CONTROL_FILE: u32 = 0o1600;

/// A made-up /sys and /dev below a directory.
#[derive(Debug)]
pub(super) struct Sysfs {
    root: PathBuf,
}

impl Sysfs {
    /// An empty tree: the USB bus without devices and with no drivers but `usb`.
    pub(super) fn new(root: &Path) -> Self {
        let this = Self { root: root.to_owned() };
        for dir in ["devices", "bus/pci/devices", "bus/usb/devices", "class", "dev/char"] {
            fs::create_dir_all(this.sys(dir)).expect("a new directory");
        }
        fs::create_dir_all(root.join("dev/bus/usb")).expect("a new directory");
        this.control("bus/usb/drivers_probe");
        this.add_driver("usb");
        this
    }

    /// Loads a driver; one that is there stays.
    pub(super) fn add_driver(&self, driver: &str) {
        let dir = format!("bus/usb/drivers/{driver}");
        fs::create_dir_all(self.sys(&dir)).expect("a directory of ours");
        self.control(&format!("{dir}/bind"));
        self.control(&format!("{dir}/unbind"));
    }

    /// Adds a PCI USB controller. Returns its path below /sys.
    pub(super) fn add_controller(&self, pci: &str) -> String {
        let path = format!("devices/pci{}/{pci}", &pci[..pci.len().min(7)]);
        fs::create_dir_all(self.sys(&path)).expect("a new directory");
        self.attribute(&path, "uevent", "DRIVER=xhci_hcd\nPCI_CLASS=C0330\n");
        self.attribute(&path, "class", "0x0c0330\n");
        self.link(&format!("{path}/subsystem"), "bus/pci");
        self.link(&format!("bus/pci/devices/{pci}"), &path);
        path
    }

    /// Adds a device with its interfaces at `path`, which is below /sys. No interface has a driver
    /// yet.
    pub(super) fn add_device(&self, path: &str, device: &UsbDevice) {
        fs::create_dir_all(self.sys(path)).expect("a new directory");
        let [class, subclass, protocol] = device.class;
        let mut attributes: Vec<(&str, Vec<u8>)> = [
            ("authorized", "1".to_owned()),
            ("bConfigurationValue", "1".to_owned()),
            ("bDeviceClass", format!("{class:02x}")),
            ("bDeviceProtocol", format!("{protocol:02x}")),
            ("bDeviceSubClass", format!("{subclass:02x}")),
            ("bMaxPacketSize0", "64".to_owned()),
            ("bMaxPower", "100mA".to_owned()),
            ("bNumConfigurations", "1".to_owned()),
            ("bNumInterfaces", format!("{:2}", device.interfaces.len())),
            ("bcdDevice", format!("{:04x}", device.revision)),
            ("bmAttributes", "a0".to_owned()),
            ("busnum", device.bus().to_string()),
            ("configuration", String::new()),
            ("devnum", device.devnum.to_string()),
            ("devpath", device.port_path().to_owned()),
            ("dev", format!("189:{}", device.minor())),
            ("idProduct", format!("{:04x}", device.product)),
            ("idVendor", format!("{:04x}", device.vendor)),
            ("maxchild", if class == 9 { "4" } else { "0" }.to_owned()),
            ("removable", device.removable.to_owned()),
            ("speed", device.speed.to_owned()),
            // The kernel pads the number to the width of "10.10".
            ("version", format!("{:>5}", device.version)),
        ]
        .into_iter()
        .map(|(name, text)| (name, format!("{text}\n").into_bytes()))
        .collect();
        let strings = [
            ("manufacturer", &device.manufacturer),
            ("product", &device.product_name),
            ("serial", &device.serial),
        ];
        for (name, string) in strings {
            attributes.extend(string.iter().map(|text| (name, [text, b"\n".as_slice()].concat())));
        }
        attributes.push(("descriptors", descriptors(device)));
        attributes.push(("uevent", uevent_file(&device_variables(device)).into_bytes()));
        attributes.extend(device.attributes.iter().map(|(n, value)| (n.as_str(), value.clone())));
        for (name, value) in attributes {
            self.attribute(path, name, value);
        }

        self.link(&format!("{path}/subsystem"), "bus/usb");
        self.link(&format!("{path}/driver"), "bus/usb/drivers/usb");
        self.link(&format!("bus/usb/drivers/usb/{}", device.busid), path);
        self.link(&format!("bus/usb/devices/{}", device.busid), path);
        self.link(&format!("dev/char/189:{}", device.minor()), path);
        let node = self.root.join("dev").join(device.devname());
        fs::create_dir_all(node.parent().expect("below /dev")).expect("a directory of ours");
        fs::write(node, "").expect("a new file");
        for interface in &device.interfaces {
            self.add_interface(path, device, interface);
        }
    }

    fn add_interface(&self, device_path: &str, device: &UsbDevice, interface: &Interface) {
        let name = device.interface_name(interface);
        let path = format!("{device_path}/{name}");
        fs::create_dir_all(self.sys(&path)).expect("a new directory");
        let [class, subclass, protocol] = interface.class;
        let attributes = [
            ("bAlternateSetting", " 0".to_owned()),
            ("bInterfaceClass", format!("{class:02x}")),
            ("bInterfaceNumber", format!("{:02x}", interface.number)),
            ("bInterfaceProtocol", format!("{protocol:02x}")),
            ("bInterfaceSubClass", format!("{subclass:02x}")),
            ("bNumEndpoints", "01".to_owned()),
            ("modalias", modalias(device, interface)),
        ];
        for (attribute, text) in attributes {
            self.attribute(&path, attribute, format!("{text}\n"));
        }
        self.control(&format!("{path}/authorized"));
        self.link(&format!("{path}/subsystem"), "bus/usb");
        self.link(&format!("bus/usb/devices/{name}"), &path);
        self.write_interface_uevent(&path, device, interface, None);
    }

    /// Makes or removes the links between an interface and its driver.
    pub(super) fn set_driver(
        &self,
        path: &str,
        device: &UsbDevice,
        interface: &Interface,
        (old, new): (Option<&str>, Option<&str>),
    ) {
        let name = device.interface_name(interface);
        if let Some(old) = old {
            self.remove(&format!("{path}/driver"));
            self.remove(&format!("bus/usb/drivers/{old}/{name}"));
        }
        if let Some(new) = new {
            self.add_driver(new);
            self.link(&format!("{path}/driver"), &format!("bus/usb/drivers/{new}"));
            self.link(&format!("bus/usb/drivers/{new}/{name}"), path);
        }
        self.write_interface_uevent(path, device, interface, new);
    }

    /// Adds what a driver makes of its device, at `path`, which is below /sys.
    pub(super) fn add_child(&self, path: &str, child: &Child) {
        fs::create_dir_all(self.sys(path)).expect("a new directory");
        self.attribute(path, "uevent", uevent_file(&child_variables(child)));
        if child.number != (0, 0) {
            let (major, minor) = child.number;
            self.attribute(path, "dev", format!("{major}:{minor}\n"));
            fs::create_dir_all(self.sys(&format!("{path}/holders"))).expect("a new directory");
        }
        let class = format!("class/{}", child.subsystem);
        fs::create_dir_all(self.sys(&class)).expect("a directory of ours");
        self.link(&format!("{path}/subsystem"), &class);
        self.link(&format!("{class}/{}", child.name), path);
    }

    /// Removes it again.
    pub(super) fn remove_child(&self, path: &str, child: &Child) {
        self.remove(&format!("class/{}/{}", child.subsystem, child.name));
        // A partition may have gone with its disk.
        if let Err(error) = fs::remove_dir_all(self.sys(path)) {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{path}: {error}");
        }
    }

    fn write_interface_uevent(
        &self,
        path: &str,
        device: &UsbDevice,
        interface: &Interface,
        driver: Option<&str>,
    ) {
        let text = uevent_file(&interface_variables(device, interface, driver));
        self.attribute(path, "uevent", text);
    }

    /// Removes a device and its interfaces, which have no drivers any more.
    pub(super) fn remove_device(&self, path: &str, device: &UsbDevice) {
        for interface in &device.interfaces {
            self.remove(&format!("bus/usb/devices/{}", device.interface_name(interface)));
        }
        self.remove(&format!("bus/usb/drivers/usb/{}", device.busid));
        self.remove(&format!("bus/usb/devices/{}", device.busid));
        self.remove(&format!("dev/char/189:{}", device.minor()));
        fs::remove_file(self.root.join("dev").join(device.devname())).expect("it was there");
        fs::remove_dir_all(self.sys(path)).expect("it was there");
    }

    /// Writes an attribute. The file keeps its inode, as sysfs's files do.
    pub(super) fn attribute(&self, path: &str, name: &str, value: impl AsRef<[u8]>) {
        fs::write(self.sys(path).join(name), value).expect("a directory of ours");
    }

    fn control(&self, path: &str) {
        let path = self.sys(path);
        fs::write(&path, "").expect("a directory of ours");
        fs::set_permissions(&path, Permissions::from_mode(CONTROL_FILE)).expect("a file of ours");
    }

    fn remove(&self, path: &str) {
        if let Err(error) = fs::remove_file(self.sys(path)) {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{path}: {error}");
        }
    }

    /// A relative link, as the kernel makes them: an absolute one would lead into the real /sys.
    fn link(&self, from: &str, to: &str) {
        let up = "../".repeat(from.matches('/').count());
        symlink(format!("{up}{to}"), self.sys(from)).expect("a new link");
    }

    fn sys(&self, path: &str) -> PathBuf {
        self.root.join("sys").join(path)
    }
}

/// What the kernel says in each uevent of a device, and in its file `uevent`.
pub(super) fn device_variables(device: &UsbDevice) -> Vec<(&'static str, String)> {
    let [class, subclass, protocol] = device.class;
    vec![
        ("MAJOR", "189".to_owned()),
        ("MINOR", device.minor().to_string()),
        ("DEVNAME", device.devname()),
        ("DEVTYPE", "usb_device".to_owned()),
        ("DRIVER", "usb".to_owned()),
        ("PRODUCT", format!("{:x}/{:x}/{:x}", device.vendor, device.product, device.revision)),
        ("TYPE", format!("{class}/{subclass}/{protocol}")),
        ("BUSNUM", format!("{:03}", device.bus())),
        ("DEVNUM", format!("{:03}", device.devnum)),
    ]
}

/// The same for an interface.
pub(super) fn interface_variables(
    device: &UsbDevice,
    interface: &Interface,
    driver: Option<&str>,
) -> Vec<(&'static str, String)> {
    let [class, subclass, protocol] = interface.class;
    let of_device = device_variables(device).into_iter();
    let mut variables = vec![("DEVTYPE", "usb_interface".to_owned())];
    variables.extend(driver.map(|driver| ("DRIVER", driver.to_owned())));
    variables.extend(of_device.filter(|(name, _)| ["PRODUCT", "TYPE"].contains(name)));
    variables.push(("INTERFACE", format!("{class}/{subclass}/{protocol}")));
    variables.push(("MODALIAS", modalias(device, interface)));
    variables
}

/// The same for what a driver has made.
pub(super) fn child_variables(child: &Child) -> Vec<(&'static str, String)> {
    if child.number == (0, 0) {
        return Vec::new();
    }
    let (major, minor) = child.number;
    vec![
        ("MAJOR", major.to_string()),
        ("MINOR", minor.to_string()),
        ("DEVNAME", child.name.clone()),
    ]
}

fn uevent_file(variables: &[(&str, String)]) -> String {
    variables.iter().flat_map(|(name, value)| [name, "=", value, "\n"]).collect()
}

fn modalias(device: &UsbDevice, interface: &Interface) -> String {
    let ([dc, dsc, dp], [ic, isc, ip]) = (device.class, interface.class);
    format!(
        "usb:v{:04X}p{:04X}d{:04X}dc{dc:02X}dsc{dsc:02X}dp{dp:02X}ic{ic:02X}isc{isc:02X}ip{ip:02X}in{:02X}",
        device.vendor, device.product, device.revision, interface.number
    )
}

/// The binary descriptors: device, configuration, interfaces. There are no endpoints.
fn descriptors(device: &UsbDevice) -> Vec<u8> {
    let count = u8::try_from(device.interfaces.len()).expect("few interfaces");
    let mut bytes = vec![18, 1, 0x00, 0x02];
    bytes.extend(device.class);
    bytes.push(64);
    for word in [device.vendor, device.product, device.revision] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend([1, 2, 3, 1]);
    bytes.extend([9, 2]);
    bytes.extend((9 + 9 * u16::from(count)).to_le_bytes());
    bytes.extend([count, 1, 0, 0xa0, 50]);
    for interface in &device.interfaces {
        bytes.extend([9, 4, interface.number, 0, 0]);
        bytes.extend(interface.class);
        bytes.push(0);
    }
    bytes
}
