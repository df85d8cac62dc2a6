//! Made-up USB devices: what is plugged in, as plain values. How they look in sysfs is for
//! [`sysfs`](super::sysfs).

/// Class, subclass and protocol, as in a descriptor.
pub(crate) type Class = [u8; 3];

/// A USB device. Make one with [`UsbDevice::new`] or a ready-made one, and change what matters.
#[derive(Clone, Debug)]
pub(crate) struct UsbDevice {
    /// The name in sysfs: `1-1.4` is on bus 1, behind port 4 of the hub in port 1.
    pub(crate) busid: String,
    /// The address on the bus.
    pub(crate) devnum: u8,
    /// idVendor.
    pub(crate) vendor: u16,
    /// idProduct.
    pub(crate) product: u16,
    /// bcdDevice.
    pub(crate) revision: u16,
    /// The device's own class; zeros say "look at the interfaces".
    pub(crate) class: Class,
    /// Megabits per second, as the kernel writes it: `1.5`, `12`, `480`, `5000`.
    pub(crate) speed: &'static str,
    /// bcdUSB as the kernel writes it, e.g. `2.00`.
    pub(crate) version: &'static str,
    /// String descriptors: any bytes that the device likes.
    pub(crate) manufacturer: Option<Vec<u8>>,
    /// See `manufacturer`.
    pub(crate) product_name: Option<Vec<u8>>,
    /// See `manufacturer`.
    pub(crate) serial: Option<Vec<u8>>,
    /// What the firmware says of the port: `removable`, `fixed` or `unknown`.
    pub(crate) removable: &'static str,
    /// Those of the configuration that is set.
    pub(crate) interfaces: Vec<Interface>,
    /// `ID_PATH`; `None` is what udevd computes from controller and port.
    pub(crate) id_path: Option<String>,
    /// More properties that udev rules have set; they win over the computed ones.
    pub(crate) properties: Vec<(String, String)>,
    /// Tags that udev rules have set.
    pub(crate) tags: Vec<String>,
    /// More files in sysfs, or other contents for those that are there anyway. A newline is not
    /// added.
    pub(crate) attributes: Vec<(String, Vec<u8>)>,
    /// What the driver of the first interface makes of it, as long as it has it.
    pub(crate) children: Vec<Child>,
}

/// A member of another subsystem: a disk, a network interface, an input device.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    /// `block`, `net` or `input`.
    pub(crate) subsystem: &'static str,
    /// Its name: `sdb`, `eth1`, `input5`.
    pub(crate) name: String,
    /// Where it is below its parent: `block/sdb/sdb1`.
    pub(crate) below: String,
    /// Major and minor number; `0:0` for none.
    pub(crate) number: (u32, u32),
    /// What udev's rules find out.
    pub(crate) properties: Vec<(String, String)>,
}

impl Child {
    /// An input device that udev gives this property: `ID_INPUT_KEYBOARD`.
    pub(crate) fn input(name: &str, property: &str) -> Self {
        Self {
            subsystem: "input",
            name: name.to_owned(),
            below: format!("input/{name}"),
            number: (0, 0),
            properties: vec![
                ("ID_INPUT".to_owned(), "1".to_owned()),
                (property.to_owned(), "1".to_owned()),
            ],
        }
    }
}

/// An interface of a device.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    /// bInterfaceNumber.
    pub(crate) number: u8,
    /// Class, subclass and protocol.
    pub(crate) class: Class,
    /// The driver that binds to it by itself.
    pub(crate) driver: Option<&'static str>,
}

impl UsbDevice {
    /// A high-speed device without strings and interfaces.
    pub(crate) fn new(busid: &str, devnum: u8, vendor: u16, product: u16) -> Self {
        Self {
            busid: busid.to_owned(),
            devnum,
            vendor,
            product,
            revision: 0x0100,
            class: [0, 0, 0],
            speed: "480",
            version: "2.00",
            manufacturer: None,
            product_name: None,
            serial: None,
            removable: "unknown",
            interfaces: Vec::new(),
            id_path: None,
            properties: Vec::new(),
            tags: Vec::new(),
            attributes: Vec::new(),
            children: Vec::new(),
        }
    }

    /// A hub; devices can be plugged into it.
    pub(crate) fn hub(busid: &str, devnum: u8) -> Self {
        Self { class: [9, 0, 1], ..Self::new(busid, devnum, 0x05e3, 0x0608) }
            .with_interface([9, 0, 0], Some("hub"))
    }

    /// A keyboard with media keys: two interfaces.
    pub(crate) fn keyboard(busid: &str, devnum: u8) -> Self {
        Self { speed: "1.5", version: "1.10", ..Self::new(busid, devnum, 0x046d, 0xc31c) }
            .named("Logitech", "USB Keyboard")
            .with_interface([3, 1, 1], Some("usbhid"))
            .with_interface([3, 0, 0], Some("usbhid"))
            .with_input("ID_INPUT_KEYBOARD")
    }

    /// A mouse.
    pub(crate) fn mouse(busid: &str, devnum: u8) -> Self {
        Self { speed: "1.5", ..Self::new(busid, devnum, 0x046d, 0xc077) }
            .named("Logitech", "USB Optical Mouse")
            .with_interface([3, 1, 2], Some("usbhid"))
            .with_input("ID_INPUT_MOUSE")
    }

    /// A memory stick with this serial number.
    pub(crate) fn storage(busid: &str, devnum: u8, serial: &str) -> Self {
        Self::new(busid, devnum, 0x0781, 0x5581)
            .named("SanDisk", "Ultra")
            .with_serial(serial)
            .with_interface([8, 6, 0x50], Some("usb-storage"))
    }

    /// A serial adapter with this serial number; its class is "vendor specific".
    pub(crate) fn serial_adapter(busid: &str, devnum: u8, serial: &str) -> Self {
        Self { speed: "12", ..Self::new(busid, devnum, 0x0403, 0x6001) }
            .named("FTDI", "FT232R USB UART")
            .with_serial(serial)
            .with_interface([0xff, 0xff, 0xff], Some("ftdi_sio"))
    }

    /// The same with one more interface.
    pub(crate) fn with_interface(mut self, class: Class, driver: Option<&'static str>) -> Self {
        let number = u8::try_from(self.interfaces.len()).expect("few interfaces");
        self.interfaces.push(Interface { number, class, driver });
        self
    }

    /// The same with an input device that udev gives this property.
    pub(crate) fn with_input(mut self, property: &str) -> Self {
        // No two devices have the same address, and PS/2 has the first numbers.
        let name = format!("input{}", self.minor() + 100);
        self.children.push(Child::input(&name, property));
        self
    }

    /// The same as it is before the kernel has made anything of it.
    pub(crate) fn without_input(mut self) -> Self {
        self.children.clear();
        self
    }

    /// The same with a disk of this name and number, and with partitions.
    pub(crate) fn with_disk(mut self, disk: (&str, u32, u32), parts: &[(&str, u32, u32)]) -> Self {
        let at = "host6/target6:0:0/6:0:0:0/block";
        let all = [(disk, format!("{at}/{}", disk.0))]
            .into_iter()
            .chain(parts.iter().map(|part| (*part, format!("{at}/{}/{}", disk.0, part.0))));
        self.children.extend(all.map(|((name, major, minor), below)| Child {
            subsystem: "block",
            name: name.to_owned(),
            below,
            number: (major, minor),
            properties: Vec::new(),
        }));
        self
    }

    /// The same with a network interface.
    pub(crate) fn with_net(mut self, name: &str) -> Self {
        self.children.push(Child {
            subsystem: "net",
            name: name.to_owned(),
            below: format!("net/{name}"),
            number: (0, 0),
            properties: Vec::new(),
        });
        self
    }

    /// A network adapter.
    pub(crate) fn network_adapter(busid: &str, devnum: u8, interface: &str) -> Self {
        Self::new(busid, devnum, 0x0b95, 0x1790)
            .named("ASIX", "AX88179")
            .with_interface([0xff, 0xff, 0], Some("ax88179_178a"))
            .with_net(interface)
    }

    /// The same with strings.
    pub(crate) fn named(mut self, manufacturer: &str, product: &str) -> Self {
        self.manufacturer = Some(manufacturer.into());
        self.product_name = Some(product.into());
        self
    }

    /// The same with a serial number, of any bytes.
    pub(crate) fn with_serial(mut self, serial: impl Into<Vec<u8>>) -> Self {
        self.serial = Some(serial.into());
        self
    }

    /// The same with a tag, as udev rules set it.
    pub(crate) fn with_tag(mut self, tag: &str) -> Self {
        self.tags.push(tag.to_owned());
        self
    }

    /// The bus it is on.
    pub(crate) fn bus(&self) -> u8 {
        let bus = match self.busid.strip_prefix("usb") {
            Some(bus) => bus,
            None => self.busid.split('-').next().unwrap_or_default(),
        };
        bus.parse().expect("a busid begins with the bus")
    }

    /// The ports from the root hub to it: `1.4`; `0` for a root hub.
    pub(crate) fn port_path(&self) -> &str {
        self.busid.split_once('-').map_or("0", |(_, ports)| ports)
    }

    /// The hub that it is plugged into: `1-1` for `1-1.4`, `usb1` for `1-1`; none for a root hub.
    pub(crate) fn parent(&self) -> Option<String> {
        self.busid.split_once('-')?;
        Some(match self.busid.rsplit_once('.') {
            Some((parent, _)) => parent.to_owned(),
            None => format!("usb{}", self.bus()),
        })
    }

    /// The name of one of its interfaces in sysfs: `1-1.4:1.0`.
    pub(crate) fn interface_name(&self, interface: &Interface) -> String {
        match self.busid.strip_prefix("usb") {
            Some(bus) => format!("{bus}-0:1.{}", interface.number),
            None => format!("{}:1.{}", self.busid, interface.number),
        }
    }

    /// Where usbfs has it, below /dev.
    pub(crate) fn devname(&self) -> String {
        format!("bus/usb/{:03}/{:03}", self.bus(), self.devnum)
    }

    /// The minor number of that node; the major number is 189.
    pub(crate) fn minor(&self) -> u32 {
        (u32::from(self.bus()) - 1) * 128 + u32::from(self.devnum) - 1
    }
}
