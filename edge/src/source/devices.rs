//! The cameras the kernel knows (V4L2), and which of them is meant.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

/// Where udev keeps links to video devices by names that stay.
const STABLE_LINKS: [&str; 2] = ["/dev/v4l/by-id", "/dev/v4l/by-path"];

/// How a camera is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// By the kernel's number, which can change when cameras are plugged in: `0`.
    Index(u32),
    /// By a path: `/dev/video0`, or a link to it.
    Path(PathBuf),
    /// By the camera's name, or a part of it that no other has: `name:HD Webcam`.
    Name(String),
    /// By udev's name for it, which stays the same: `id:usb-046d_HD_Webcam-video-index0`.
    Id(String),
}

/// A video device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The number in `/dev/videoN`.
    pub index: u32,
    /// What the driver calls it.
    pub name: String,
    /// udev's names for it.
    pub ids: Vec<String>,
}

impl Device {
    /// Reads the form that the configuration has.
    pub fn parse(text: &str) -> Result<Device, String> {
        if let Ok(index) = text.parse() {
            return Ok(Device::Index(index));
        }
        match text.split_once(':') {
            Some(("name", name)) if !name.trim().is_empty() => Ok(Device::Name(name.trim().to_owned())),
            Some(("id", id)) if !id.is_empty() && !id.contains('/') => Ok(Device::Id(id.to_owned())),
            _ if text.starts_with('/') => Ok(Device::Path(text.into())),
            _ => Err("has to be a number, a path such as /dev/video0, name:NAME or id:NAME; \
                      salad-edge cameras lists what there is"
                .to_owned()),
        }
    }

    /// The device's number, looked up anew: it can be another than last time.
    pub fn find(&self) -> Result<u32, String> {
        self.find_in(&nodes())
    }

    fn find_in(&self, nodes: &[Node]) -> Result<u32, String> {
        let there = || match nodes {
            [] => "there is no camera".to_owned(),
            some => format!("there are {}", some.iter().map(Node::to_string).collect::<Vec<_>>().join(", ")),
        };
        let known = |index: u32| nodes.iter().any(|node| node.index == index).then_some(index);
        match self {
            Device::Index(index) => known(*index).ok_or_else(|| format!("no /dev/video{index}; {}", there())),
            Device::Path(path) => {
                let real = std::fs::canonicalize(path).map_err(|e| format!("{}: {e}; {}", path.display(), there()))?;
                number_of(&real).ok_or_else(|| format!("{} is no /dev/videoN", path.display()))
            }
            Device::Id(id) => {
                let found = nodes.iter().find(|node| node.ids.contains(id));
                found.map(|node| node.index).ok_or_else(|| format!("no camera has the id {id}; {}", there()))
            }
            Device::Name(name) => {
                // One camera can have several devices of the same name; the first is the one with pictures.
                if let Some(node) = nodes.iter().find(|node| node.name == *name) {
                    return Ok(node.index);
                }
                let mut like = nodes.iter().filter(|node| node.name.to_lowercase().contains(&name.to_lowercase()));
                match like.next() {
                    Some(first) if like.all(|node| node.name == first.name) => Ok(first.index),
                    Some(_) => Err(format!("several cameras have '{name}' in their name; {}", there())),
                    None => Err(format!("no camera has '{name}' in its name; {}", there())),
                }
            }
        }
    }
}

impl Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Index(index) => write!(f, "{index}"),
            Device::Path(path) => write!(f, "{}", path.display()),
            Device::Name(name) => write!(f, "name:{name}"),
            Device::Id(id) => write!(f, "id:{id}"),
        }
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/dev/video{} ({})", self.index, self.name)
    }
}

/// All video devices, by number.
pub fn nodes() -> Vec<Node> {
    let links: Vec<(String, u32)> = STABLE_LINKS.iter().flat_map(|folder| links(Path::new(folder))).collect();
    let cameras = nokhwa::query(nokhwa::utils::ApiBackend::Video4Linux).unwrap_or_default();
    let node = |camera: &nokhwa::utils::CameraInfo| {
        let index = camera.index().as_index().ok()?;
        let ids = links.iter().filter(|(_, of)| *of == index).map(|(id, _)| id.clone()).collect();
        Some(Node { index, name: camera.human_name(), ids })
    };
    let mut nodes: Vec<Node> = cameras.iter().filter_map(node).collect();
    nodes.sort_by_key(|node| node.index);
    nodes
}

fn links(folder: &Path) -> Vec<(String, u32)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let link = |entry: std::fs::DirEntry| {
        let target = std::fs::canonicalize(entry.path()).ok()?;
        Some((entry.file_name().into_string().ok()?, number_of(&target)?))
    };
    let mut links: Vec<_> = entries.filter_map(link).collect();
    links.sort();
    links
}

fn number_of(path: &Path) -> Option<u32> {
    path.to_str()?.strip_prefix("/dev/video")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(index: u32, name: &str, ids: &[&str]) -> Node {
        Node { index, name: name.into(), ids: ids.iter().map(|&id| id.to_owned()).collect() }
    }

    fn some_nodes() -> Vec<Node> {
        vec![
            node(0, "HD Webcam: HD Webcam", &["usb-046d_HD-index0", "pci-0-usb-1"]),
            node(1, "HD Webcam: HD Webcam", &["usb-046d_HD-index1"]),
            node(4, "USB Microscope", &[]),
        ]
    }

    #[test]
    fn a_camera_is_found_by_each_of_its_names() {
        let nodes = some_nodes();
        for (text, index) in [
            ("4", 4),
            ("name:USB Microscope", 4),
            ("name: hd webcam", 0),
            ("name:micro", 4),
            ("id:usb-046d_HD-index0", 0),
            ("id:pci-0-usb-1", 0),
        ] {
            let device = Device::parse(text).unwrap();
            assert_eq!(device.find_in(&nodes), Ok(index), "{text}");
            assert_eq!(Device::parse(&device.to_string()), Ok(device));
        }
    }

    #[test]
    fn a_camera_that_is_not_there_says_what_is() {
        let nodes = some_nodes();
        for text in ["2", "name:thermal", "id:usb-0", "name:b", "/dev/video77"] {
            let error = Device::parse(text).unwrap().find_in(&nodes).unwrap_err();
            assert!(error.contains("/dev/video4 (USB Microscope)"), "{text}: {error}");
        }
        assert!(Device::parse("0").unwrap().find_in(&[]).unwrap_err().contains("there is no camera"));
    }

    #[test]
    fn what_is_no_choice_is_refused() {
        for text in ["", "camera", "name:", "name: ", "id:", "id:../../etc", "-1", "serial:7"] {
            assert!(Device::parse(text).unwrap_err().contains("salad-edge cameras"), "{text}");
        }
    }
}
