//! What topics are called.

use sha2::{Digest, Sha256};

/// The topics of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
    /// The device's name, safe for topics and for Home Assistant's ids.
    pub device: String,
    /// Home Assistant's prefix; `None` where it is not to find the device.
    discovery: Option<String>,
}

impl Topics {
    /// Of a device with this name, below a prefix.
    pub fn new(prefix: &str, device: &str, discovery: Option<&str>) -> Topics {
        Topics { prefix: prefix.to_owned(), device: safe(device), discovery: discovery.map(str::to_owned) }
    }

    /// `online` or `offline`.
    pub fn availability(&self) -> String {
        self.of("availability")
    }

    /// The events of all devices below the prefix.
    pub fn events(&self) -> String {
        format!("{}/events", self.prefix)
    }

    /// What the device tells under a name.
    pub fn of(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.prefix, self.device)
    }

    /// Where the device is told what to set under a name.
    pub fn set(&self, name: &str) -> String {
        self.of(&format!("{name}/set"))
    }

    /// Where Home Assistant looks for devices.
    pub fn discovery(&self) -> Option<String> {
        self.discovery.as_ref().map(|prefix| format!("{prefix}/device/salad_{}/config", self.device))
    }

    /// Where Home Assistant says that it is there.
    pub fn home_assistant(&self) -> Option<String> {
        self.discovery.as_ref().map(|prefix| format!("{prefix}/status"))
    }
}

/// Whether a text can stand at the beginning of topics.
pub fn is_prefix(text: &str) -> bool {
    let level = |level: &str| !level.is_empty() && !level.contains(|c: char| c.is_control() || "+#".contains(c));
    text.len() <= 128 && !text.starts_with('$') && text.split('/').all(level)
}

/// A name in letters, digits, `-` and `_`. Names that differ by other letters than these stay different.
fn safe(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let plain: String = name.trim().chars().map(allowed).collect();
    if name.is_ascii() {
        return plain;
    }
    let digest = Sha256::digest(name.trim().as_bytes());
    let mark: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{plain}_{mark}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_safe_and_stay_different() {
        assert_eq!(safe(" Line 3/left "), "Line_3_left");
        assert_eq!(safe("line-3_a"), "line-3_a");
        let (kettle, camera) = (safe("Küche"), safe("Kåche"));
        assert!(kettle.starts_with("K_che_") && kettle.len() == "K_che_".len() + 8 && kettle != camera, "{kettle}");
        let topics = Topics::new("salad", "a+b#c/d", Some("homeassistant"));
        assert_eq!(topics.set("pause"), "salad/a_b_c_d/pause/set");
        assert_eq!(topics.discovery().unwrap(), "homeassistant/device/salad_a_b_c_d/config");
    }

    #[test]
    fn a_prefix_has_whole_levels_and_no_wildcards() {
        assert!(is_prefix("salad") && is_prefix("factory/hall 2/salad"));
        for wrong in ["", "/salad", "salad/", "a//b", "a/#", "+/a", "$SYS", "a\0b", &"a".repeat(129)] {
            assert!(!is_prefix(wrong), "{wrong:?}");
        }
    }
}
