//! What a frame passes before it is scored, and after.

use crate::config::Config;
use crate::drift::Drift;
use crate::lens::Lens;
use crate::light::Light;
use crate::model::Model;
use crate::motion::Motion;
use crate::regions::Regions;

/// What stands between the source and the scorer, in their order.
#[derive(Debug, Default)]
pub struct Gates {
    /// Keeps back frames on which the lens is covered.
    pub lens: Option<Lens>,
    /// What of a frame counts.
    pub regions: Option<Regions>,
    /// Keeps back frames in which nothing has moved.
    pub motion: Option<Motion>,
    /// After the score: looks again at what only the light may have raised.
    pub light: Option<Light>,
    /// After the score: follows a scene that has changed for good.
    pub drift: Option<Drift>,
}

impl Gates {
    /// Those of a configuration.
    pub fn of(config: &Config, model: &Model) -> Gates {
        let regions = &config.camera.regions;
        Gates {
            lens: config.lens.map(|spec| Lens::new(spec, &model.thumbnails)),
            regions: (!regions.is_whole()).then(|| Regions::new(regions.clone())),
            motion: config.motion.map(Motion::new),
            light: config.drift.and_then(|drift| Light::new(drift.light_after?, &model.thumbnails)),
            drift: config.drift.and_then(|drift| Drift::new(drift.scene?, &model.normal_scores)),
        }
    }
}
