//! Chips whose lines a test pulls and reads, made by the driver gpio-sim through configfs.
//!
//! A line that nobody drives has the level of its pull. An output that somebody drives shows the
//! driven level; when its owner dies it falls back to its pull, so tests of death set the pull of an
//! output to its unsafe level, or they would prove nothing.

use super::{modprobe, read, wait_until, write};
use std::path::{Path, PathBuf};

const CONFIGFS: &str = "/sys/kernel/config/gpio-sim";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    Up,
    Down,
}

impl Pull {
    pub fn to(high: bool) -> Pull {
        if high { Pull::Up } else { Pull::Down }
    }
}

/// One simulated chip; dropped, it is unplugged. Line offsets are in the order of the names.
pub struct GpioSim {
    label: String,
    lines: Vec<String>,
    folder: PathBuf,
    device: PathBuf,
    sysfs: PathBuf,
}

impl GpioSim {
    /// A chip with this label, plugged in.
    pub fn new(label: &str, lines: &[&str]) -> GpioSim {
        modprobe("gpio-sim", &[]);
        let mut chip = GpioSim {
            label: label.to_owned(),
            lines: lines.iter().map(|&line| line.to_owned()).collect(),
            folder: Path::new(CONFIGFS).join(label),
            device: PathBuf::new(),
            sysfs: PathBuf::new(),
        };
        chip.plug();
        chip
    }

    /// Makes the chip and brings it to life; also after [`GpioSim::unplug`].
    pub fn plug(&mut self) {
        let bank = self.folder.join("bank");
        let create = |path: &Path| {
            std::fs::create_dir_all(path).unwrap_or_else(|e| panic!("cannot make {}: {e}", path.display()));
        };
        create(&bank);
        write(&bank.join("label"), &self.label);
        write(&bank.join("num_lines"), &self.lines.len().to_string());
        for (offset, name) in self.lines.iter().enumerate() {
            let line = bank.join(format!("line{offset}"));
            create(&line);
            write(&line.join("name"), name);
        }
        write(&self.folder.join("live"), "1");
        let chip = read(&bank.join("chip_name"));
        let parent = read(&self.folder.join("dev_name"));
        self.device = Path::new("/dev").join(&chip);
        self.sysfs = Path::new("/sys/devices/platform").join(parent).join(chip);
        wait_until("the chip's device", || self.device.exists());
    }

    /// As when somebody pulls the cable: the chip goes away under whoever uses it.
    pub fn unplug(&mut self) {
        write(&self.folder.join("live"), "0");
        wait_until("the chip to go", || !self.sysfs.exists());
        self.remove();
    }

    /// `/dev/gpiochipN`
    pub fn device(&self) -> &Path {
        &self.device
    }

    fn line(&self, name: &str) -> PathBuf {
        let offset = self.lines.iter().position(|line| line == name);
        let offset = offset.unwrap_or_else(|| panic!("chip {} has no line {name}", self.label));
        self.sysfs.join(format!("sim_gpio{offset}"))
    }

    pub fn pull(&self, name: &str, pull: Pull) {
        assert!(self.try_pull(name, pull), "line {name} cannot be pulled");
    }

    /// For outputs: each to its unsafe level, so that being safe proves that somebody drives it.
    pub fn pull_all(&self, levels: &[(&str, bool)]) {
        for &(name, high) in levels {
            self.pull(name, Pull::to(high));
        }
    }

    /// `false` when the chip is not plugged in.
    pub fn try_pull(&self, name: &str, pull: Pull) -> bool {
        let word = match pull {
            Pull::Up => "pull-up",
            Pull::Down => "pull-down",
        };
        std::fs::write(self.line(name).join("pull"), word).is_ok()
    }

    /// The electrical level: high or low.
    pub fn level(&self, name: &str) -> bool {
        self.try_level(name)
            .unwrap_or_else(|| panic!("line {name} cannot be read"))
    }

    /// `None` when the chip is not plugged in.
    pub fn try_level(&self, name: &str) -> Option<bool> {
        let value = std::fs::read_to_string(self.line(name).join("value")).ok()?;
        Some(value.trim() == "1")
    }

    /// Configfs folders go from the inside out.
    fn remove(&self) {
        let bank = self.folder.join("bank");
        for offset in 0..self.lines.len() {
            let _ = std::fs::remove_dir(bank.join(format!("line{offset}")));
        }
        let _ = std::fs::remove_dir(&bank);
        let _ = std::fs::remove_dir(&self.folder);
    }
}

impl Drop for GpioSim {
    fn drop(&mut self) {
        let _ = std::fs::write(self.folder.join("live"), "0");
        self.remove();
    }
}
