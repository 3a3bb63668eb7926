//! A line of the board's pins: active while an event goes on, or for a moment when one begins.

use super::{Failure, Sink};
use crate::event::{EventKind, Message};
use std::collections::HashSet;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// Which line, and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpioSpec {
    /// The chip, `/dev/gpiochipN`.
    pub chip: PathBuf,
    /// The line's number on the chip.
    pub line: u32,
    /// Whether a low voltage is active.
    pub active_low: bool,
    /// Active for so long from an event's beginning; `None`: until the last open event is over.
    pub pulse: Option<Duration>,
}

/// What can be switched.
pub trait Line: Send {
    /// Makes it active or inactive.
    fn set(&mut self, active: bool) -> Result<(), String>;
}

/// A GPIO sink. The line is taken with the first message and given back when the program ends.
pub struct Gpio<L> {
    spec: GpioSpec,
    line: L,
    open: HashSet<String>,
}

impl Gpio<CharacterDevice> {
    /// The kernel's line.
    pub fn new(spec: GpioSpec) -> Gpio<CharacterDevice> {
        let line = CharacterDevice { spec: spec.clone(), request: None };
        Gpio { spec, line, open: HashSet::new() }
    }
}

impl<L: Line> Sink for Gpio<L> {
    fn deliver(&mut self, message: &Message) -> Result<String, Failure> {
        let is_over = message.kind() == EventKind::End;
        match (self.spec.pulse, message.kind()) {
            (Some(pulse), EventKind::New) => {
                self.line.set(true).map_err(Failure::Later)?;
                thread::sleep(pulse);
                self.line.set(false).map_err(Failure::Later)?;
                return Ok("pulsed".to_owned());
            }
            (Some(_), _) => return Ok("nothing to do".to_owned()),
            (None, _) if is_over => self.open.remove(message.id()),
            (None, _) => self.open.insert(message.id().to_owned()),
        };
        let active = !self.open.is_empty();
        self.line.set(active).map_err(Failure::Later)?;
        Ok(if active { "active" } else { "inactive" }.to_owned())
    }
}

/// A line of the kernel's GPIO character device.
pub struct CharacterDevice {
    spec: GpioSpec,
    request: Option<gpiocdev::Request>,
}

impl CharacterDevice {
    fn try_set(&mut self, active: bool) -> gpiocdev::Result<()> {
        use gpiocdev::line::Value;
        let value = if active { Value::Active } else { Value::Inactive };
        if let Some(request) = &self.request {
            return request.set_lone_value(value).map(drop);
        }
        let mut builder = gpiocdev::Request::builder();
        builder.with_consumer("salad-edge").on_chip(&self.spec.chip).with_line(self.spec.line);
        if self.spec.active_low {
            builder.as_active_low();
        }
        self.request = Some(builder.as_output(value).request()?);
        Ok(())
    }
}

impl Line for CharacterDevice {
    fn set(&mut self, active: bool) -> Result<(), String> {
        self.try_set(active).map_err(|e| {
            // A chip that went and came back has to be asked for its line anew.
            self.request = None;
            format!("line {} of {}: {e}", self.spec.line, self.spec.chip.display())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::{anomaly, ended};
    use jiff::Timestamp;

    /// Notes what it is set to; fails as often as it is told.
    #[derive(Default)]
    struct Noted {
        values: Vec<bool>,
        failures: u32,
    }

    impl Line for Noted {
        fn set(&mut self, active: bool) -> Result<(), String> {
            if self.failures > 0 {
                self.failures -= 1;
                return Err("busy".into());
            }
            self.values.push(active);
            Ok(())
        }
    }

    fn sink(pulse: Option<Duration>, failures: u32) -> Gpio<Noted> {
        let spec = GpioSpec { chip: "/dev/gpiochip0".into(), line: 17, active_low: false, pulse };
        Gpio { spec, line: Noted { failures, ..Noted::default() }, open: HashSet::new() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_line_is_active_until_the_last_open_event_is_over() {
        let mut sink = sink(None, 0);
        let (a, b) = (anomaly(at(1), 0.5), anomaly(at(2), 0.5));
        for message in [&a, &b, &ended(&a, at(3)), &ended(&b, at(4))] {
            sink.deliver(message).unwrap();
        }
        assert_eq!(sink.line.values, [true, true, true, false]);
    }

    #[test]
    fn a_pulse_comes_with_the_beginning_alone_and_a_failure_is_tried_again() {
        let mut sink = sink(Some(Duration::from_millis(1)), 1);
        let event = anomaly(at(1), 0.5);
        assert_eq!(sink.deliver(&event), Err(Failure::Later("busy".into())));
        sink.deliver(&event).unwrap();
        sink.deliver(&ended(&event, at(3))).unwrap();
        assert_eq!(sink.line.values, [true, false]);
    }

    #[test]
    fn a_chip_that_is_not_there_is_named() {
        let spec = GpioSpec { chip: "/dev/gpiochip-none".into(), line: 4, active_low: true, pulse: None };
        let Err(Failure::Later(problem)) = Gpio::new(spec).deliver(&anomaly(at(1), 0.5)) else { unreachable!() };
        assert!(problem.contains("line 4 of /dev/gpiochip-none"), "{problem}");
    }
}
