//! What is wrong with the camera, told by the pipeline.

use super::Pipeline;
use crate::clock::Moment;
use crate::event::{EventKind, Message, Trouble, TroubleEvent, new_id};
use crate::gate::Look;
use crate::source::TroubleChange;

/// A trouble that has been told and is not over.
#[derive(Debug, Clone)]
pub(super) struct OpenTrouble {
    trouble: Trouble,
    id: String,
    started: Moment,
}

impl Pipeline<'_, '_> {
    /// Tells what there is to be told of a gate; whether it is shut.
    pub(super) fn tell_gate(&mut self, look: Look, trouble: Trouble, at: Moment, over: &str) -> bool {
        match look {
            Look::Open => false,
            Look::OpenAgain => {
                self.camera_trouble(EventKind::End, trouble, at, over.to_owned());
                false
            }
            Look::Shut => true,
            Look::TellShut(detail) => {
                self.camera_trouble(EventKind::New, trouble, at, detail);
                true
            }
        }
    }

    /// A trouble with the camera that its source has seen.
    pub(super) fn camera(&mut self, change: TroubleChange) {
        let TroubleChange { trouble, begins, at, detail, attempts } = change;
        self.failing_since = None;
        if begins {
            self.metrics.camera_down();
        }
        let kind = if begins { EventKind::New } else { EventKind::End };
        self.tell_trouble(kind, trouble, at, detail, attempts);
    }

    pub(super) fn camera_trouble(&mut self, kind: EventKind, trouble: Trouble, at: Moment, detail: String) {
        self.tell_trouble(kind, trouble, at, detail, 0);
    }

    /// Tells the sinks about a trouble with the camera. What is still wrong when the program ends stays open.
    fn tell_trouble(&mut self, kind: EventKind, trouble: Trouble, at: Moment, detail: String, attempts: u32) {
        let place = self.troubles.iter().position(|open| open.trouble == trouble);
        let open = match (kind, place) {
            (EventKind::New, _) => {
                let open = OpenTrouble { trouble, id: new_id(at.wall), started: at };
                self.troubles.push(open.clone());
                open
            }
            (_, None) => return,
            (EventKind::Update, Some(place)) => self.troubles[place].clone(),
            (EventKind::End, Some(place)) => self.troubles.remove(place),
        };
        self.summary.trouble = self.troubles.last().map(|open| open.trouble);
        self.sinks.send(&Message::Camera(TroubleEvent {
            kind,
            id: open.id,
            time: at.wall,
            started: open.started.wall,
            trouble,
            detail,
            attempts,
        }));
    }
}
