//! How far a view may differ from its frame.

use serde::{Deserialize, Serialize};

/// The `[augment]` table: for each view every setting draws anew, uniformly unless said otherwise. The defaults suit a
/// fixed camera, where what is seen hardly moves but the light does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentConfig {
    /// Probability of mirroring left and right, 0 to 1.
    pub hflip: f64,
    /// Probability of mirroring top and bottom, 0 to 1.
    pub vflip: f64,
    /// Largest rotation about the centre, either way; degrees, 0 to 180.
    pub rotate_degrees: f64,
    /// Largest shift in each direction, as a share of the side, 0 to 0.5.
    pub translate: f64,
    /// Largest zoom in or out, as a share of the size, 0 to 0.5.
    pub scale: f64,
    /// Smallest share of the area that a random crop keeps and enlarges (aspect from 3:4 to 4:3 of the frame's), 0.05 to
    /// 1; 1 takes no crop.
    pub crop_min_area: f64,
    /// Brightness is multiplied by 1 - this to 1 + this; 0 to 1.
    pub brightness: f64,
    /// Distance from the mean grey is multiplied by 1 - this to 1 + this; 0 to 1.
    pub contrast: f64,
    /// Distance from the pixel's own grey is multiplied by 1 - this to 1 + this; 0 to 1.
    pub saturation: f64,
    /// Largest turn of the hue, either way; degrees, 0 to 180.
    pub hue_degrees: f64,
    /// Values on 0..1 are raised to a power from 1 / (1 + this) to 1 + this, drawn on a logarithmic scale; 0 to 3.
    pub gamma: f64,
    /// Probability of a view without colour, 0 to 1.
    pub grey: f64,
    /// Largest standard deviation of each value's own noise, values on 0..1; 0 to 0.5.
    pub noise: f64,
    /// Largest standard deviation of a Gaussian blur, pixels of the input, 0 to 5.
    pub blur_sigma: f64,
    /// Probability of a rectangle filled with the frame's mean colour, 0 to 1.
    pub erase: f64,
    /// Largest share of the area that such a rectangle covers, 0.01 to 0.5; aspect from 1:3 to 3:1.
    pub erase_max_area: f64,
}

impl Default for AugmentConfig {
    fn default() -> AugmentConfig {
        AugmentConfig {
            translate: 0.03,
            scale: 0.02,
            brightness: 0.3,
            contrast: 0.3,
            saturation: 0.15,
            gamma: 0.3,
            noise: 0.02,
            ..AugmentConfig::off()
        }
    }
}

impl AugmentConfig {
    /// Nothing at all: a view is the frame.
    pub fn off() -> AugmentConfig {
        AugmentConfig {
            hflip: 0.0,
            vflip: 0.0,
            rotate_degrees: 0.0,
            translate: 0.0,
            scale: 0.0,
            crop_min_area: 1.0,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            hue_degrees: 0.0,
            gamma: 0.0,
            grey: 0.0,
            noise: 0.0,
            blur_sigma: 0.0,
            erase: 0.0,
            erase_max_area: 0.1,
        }
    }

    /// Says which value is out of its range, if any is.
    pub fn check(&self) -> Result<(), String> {
        let ranges = [
            ("hflip", self.hflip, 0.0, 1.0),
            ("vflip", self.vflip, 0.0, 1.0),
            ("rotate_degrees", self.rotate_degrees, 0.0, 180.0),
            ("translate", self.translate, 0.0, 0.5),
            ("scale", self.scale, 0.0, 0.5),
            ("crop_min_area", self.crop_min_area, 0.05, 1.0),
            ("brightness", self.brightness, 0.0, 1.0),
            ("contrast", self.contrast, 0.0, 1.0),
            ("saturation", self.saturation, 0.0, 1.0),
            ("hue_degrees", self.hue_degrees, 0.0, 180.0),
            ("gamma", self.gamma, 0.0, 3.0),
            ("grey", self.grey, 0.0, 1.0),
            ("noise", self.noise, 0.0, 0.5),
            ("blur_sigma", self.blur_sigma, 0.0, 5.0),
            ("erase", self.erase, 0.0, 1.0),
            ("erase_max_area", self.erase_max_area, 0.01, 0.5),
        ];
        for (name, value, low, high) in ranges {
            if !(low..=high).contains(&value) {
                return Err(format!("augment.{name} = {value}: has to be from {low} to {high}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_takes_known_keys_within_their_ranges() {
        AugmentConfig::default().check().unwrap();
        AugmentConfig::off().check().unwrap();
        let config: AugmentConfig = toml::from_str("hflip = 0.5\nrotate_degrees = 10.0").unwrap();
        assert_eq!(config, AugmentConfig { hflip: 0.5, rotate_degrees: 10.0, ..AugmentConfig::default() });
        assert!(toml::from_str::<AugmentConfig>("flip = 0.5").is_err());
        for text in ["hflip = 1.5", "rotate_degrees = -1.0", "crop_min_area = 0.0", "noise = nan"] {
            let error = toml::from_str::<AugmentConfig>(text).unwrap().check().unwrap_err();
            assert!(error.contains(text.split(' ').next().unwrap()), "{error}");
        }
        let written = toml::to_string(&AugmentConfig::default()).unwrap();
        assert!(written.contains("translate = 0.03\n"), "{written}");
    }
}
