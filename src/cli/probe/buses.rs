//! SPI and I²C, on which small panels hang. Nothing is sent: a byte too many may switch something.

use super::tree::Tree;
use super::{Finding, Section};
use rustix::fs::Access;
use std::io;
use std::path::Path;

/// What the kernel calls both kinds of buses.
struct Kind {
    /// Begin of the device's name, and its folder in `/sys/class`.
    device: &'static str,
    class: &'static str,
    /// Controllers, whether or not programs may use them.
    masters: &'static str,
    /// The group that owns the devices, here and on Raspberry Pi OS.
    group: &'static str,
    title: &'static str,
    missing: &'static str,
}

const KINDS: [Kind; 2] = [
    Kind {
        device: "spidev",
        class: "sys/class/spidev",
        masters: "sys/class/spi_master",
        group: "spi",
        title: "SPI",
        missing: "Name the panel's place in the device tree (on a Raspberry Pi: dtparam=spi=on in \
                  /boot/firmware/config.txt), and load the driver spidev.",
    },
    Kind {
        device: "i2c-",
        class: "sys/class/i2c-dev",
        masters: "sys/class/i2c-adapter",
        group: "i2c",
        title: "I²C",
        missing: "Load the driver: modprobe i2c-dev, and i2c-dev in /etc/modules-load.d/elek.conf for the next boot.",
    },
];

/// A device that programs may use.
struct Node {
    name: String,
    facts: Vec<(&'static str, String)>,
    /// A driver of the kernel that is in the way.
    held: Option<String>,
    access: io::Result<()>,
}

pub fn look(tree: &Tree) -> Section {
    let mut section = Section::new("panel buses");
    for kind in &KINDS {
        let nodes = tree.list("dev").into_iter();
        let nodes = nodes.filter(|name| is_numbered(name, kind.device));
        let nodes: Vec<Node> = nodes.map(|name| node(tree, kind, name)).collect();
        tell(&mut section, kind, &nodes, &tree.list(kind.masters));
    }
    section
}

/// `spidev0.0`, `i2c-1`.
fn is_numbered(name: &str, stem: &str) -> bool {
    let rest = name.strip_prefix(stem).unwrap_or_default();
    !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit() || c == '.')
}

fn node(tree: &Tree, kind: &Kind, name: String) -> Node {
    let place = name.trim_start_matches(kind.device).to_owned();
    let mut facts = Vec::new();
    if let Some(adapter) = tree.read(format!("{}/{name}/name", kind.class)) {
        facts.push(("adapter", adapter));
    }
    let most = tree.path(format!(
        "sys/bus/spi/devices/spi{place}/of_node/spi-max-frequency"
    ));
    if let Some(hz) = std::fs::read(most).ok().and_then(|bytes| bytes.try_into().ok()) {
        // The device tree writes numbers with their highest byte first.
        facts.push((
            "at most",
            format!("{:.1} MHz", f64::from(u32::from_be_bytes(hz)) / 1e6),
        ));
    }
    let held = [0x3c, 0x3d].into_iter().find_map(|address: u16| {
        let driver = tree.path(format!("sys/bus/i2c/devices/{place}-{address:04x}/driver"));
        let driver = std::fs::read_link(driver).ok()?;
        Some(format!(
            "{} holds address {address:#x}",
            driver.file_name()?.to_string_lossy()
        ))
    });
    let access = rustix::fs::access(
        tree.path(Path::new("dev").join(&name)),
        Access::READ_OK | Access::WRITE_OK,
    );
    Node {
        name: format!("/dev/{name}"),
        facts,
        held,
        access: access.map_err(io::Error::from),
    }
}

fn tell(section: &mut Section, kind: &Kind, nodes: &[Node], masters: &[String]) {
    for node in nodes {
        let mut finding = Finding::new(&node.name);
        finding.fact("kind", kind.title);
        for (name, value) in &node.facts {
            finding.fact(*name, value);
        }
        section.findings.push(finding);
        if let Err(error) = &node.access {
            section.problem(
                format!("{} may not be used by this user: {error}.", node.name),
                format!(
                    "Join the group that owns it (usermod -aG {} USER) and log in again; the service has it already.",
                    kind.group
                ),
            );
        }
        if let Some(held) = &node.held {
            section.problem(
                format!("On {} the kernel's driver {held}.", node.name),
                "Take its overlay out of the device tree, or use its framebuffer: [display] framebuffer.",
            );
        }
    }
    if nodes.is_empty() && !masters.is_empty() {
        section.problem(
            format!(
                "This box has {} ({}), but no /dev/{}*: a panel there cannot be used.",
                kind.title,
                masters.join(", "),
                kind.device
            ),
            kind.missing,
        );
    }
    if nodes.is_empty() && masters.is_empty() {
        let mut finding = Finding::new("");
        finding.fact(kind.title, "none, or switched off in the device tree");
        section.findings.push(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::probe::body;
    use std::fs;

    fn write(root: &Path, path: &str, bytes: &[u8]) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("it has a folder")).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn buses_are_listed_with_what_hangs_on_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in ["spidev0.0", "spidev0.1", "i2c-1", "i2c-20", "i2c-stub"] {
            write(root, &format!("dev/{name}"), b"");
        }
        write(root, "sys/class/i2c-dev/i2c-1/name", b"bcm2835 (i2c@7e804000)\n");
        write(
            root,
            "sys/bus/spi/devices/spi0.0/of_node/spi-max-frequency",
            &125_000_000_u32.to_be_bytes(),
        );
        let bound = root.join("sys/bus/i2c/devices/1-003c");
        fs::create_dir_all(&bound).unwrap();
        std::os::unix::fs::symlink("../../drivers/ssd1307fb", bound.join("driver")).unwrap();
        insta::assert_snapshot!(body(&[look(&Tree::at(root))]));
    }

    #[test]
    fn what_is_missing_or_not_allowed_is_said_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        for master in ["sys/class/spi_master/spi0", "sys/class/i2c-adapter/i2c-1"] {
            fs::create_dir_all(dir.path().join(master)).unwrap();
        }
        let mut section = look(&Tree::at(dir.path()));
        let node = Node {
            name: "/dev/spidev0.0".into(),
            facts: Vec::new(),
            held: None,
            access: Err(io::Error::from_raw_os_error(libc::EACCES)),
        };
        tell(&mut section, &KINDS[0], &[node], &[]);
        insta::assert_snapshot!(body(&[section]));
    }

    #[test]
    fn a_box_without_buses_has_nothing_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let section = look(&Tree::at(dir.path()));
        assert!(section.problems.is_empty(), "{section:?}");
        assert_eq!(section.findings.len(), 2);
    }
}
