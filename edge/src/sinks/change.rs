//! Other sinks while the program runs: who is new, who is no more, who is told of something else.

use super::{Sinks, build};
use crate::config::Config;
use crate::config::sinks::{SinkKind, SinkSpec};
use crate::controls::Controls;
use std::sync::Arc;

/// Goes over from the sinks of one configuration to those of another, both out of the same store. What a sink has yet to be told
/// it is told with its new settings; what is kept for one that is no more is forgotten, as it is at a start.
pub fn change(sinks: &mut Sinks, old: &Config, new: &Config, controls: &Arc<Controls>) {
    let (Some(outbox), Some(settings)) = (sinks.outbox_mut(), &new.store) else { return };
    let stays = |spec: &SinkSpec| {
        let before = old.sinks.iter().find(|before| before.name == spec.name);
        old.name == new.name && before.is_some_and(|before| is_same_receiver(before, spec))
    };
    // Nobody takes out of the store what is no longer meant for him.
    for gone in old.sinks.iter().filter(|before| !new.sinks.iter().any(|spec| spec.name == before.name)) {
        outbox.end(&gone.name);
    }
    let filters = new.sinks.iter().map(|spec| (spec.name.clone(), spec.filter.clone())).collect();
    if let Err(error) = outbox.store().change(settings, filters) {
        log::warn!("{error}; what is kept for sinks that are no more is forgotten at the next start");
    }
    for spec in new.sinks.iter().filter(|spec| !stays(spec)) {
        let (name, device, controls) = (spec.name.clone(), new.name.clone(), Arc::clone(controls));
        let spec = spec.clone();
        if let Err(error) = outbox.replace(&name, move || build(&spec, &device, Some(&controls))) {
            log::error!("sink {name}: cannot be started: {error}; it is told when salad-edge is started again");
        }
    }
}

/// Whether only the filter differs, which is the store's to know; MQTT tells its receivers of that as well.
fn is_same_receiver(before: &SinkSpec, now: &SinkSpec) -> bool {
    before.kind == now.kind && (before.filter == now.filter || !matches!(now.kind, SinkKind::Mqtt(_)))
}
