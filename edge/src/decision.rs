//! When scores become an event: a pure state machine, time passed in.
//!
//! ```text
//!            at least k of the last n frames over the threshold
//!   +------+ ------------------------- Open ------------------------> +------+
//!   | Calm |                                                          | Open | --+ Update: a new top score, and
//!   +------+ <--+                                                     +------+ <-+ update_interval since the last word
//!       |       | first frame at or after                                 |
//!       |       | cooldown since the end    +----------+                  | the last n frames all at or below
//!       +-------+-------------------------- | Cooldown | <------ End -----+ the release threshold
//!                                           +----------+
//! ```
//!
//! - A frame is *over* when its score is greater than the threshold, and *calm* when it is at or below the release
//!   threshold, which is not higher than the threshold. Between the two an open event stays open and no event begins.
//!   So it is with a frame whose score is not sure, when not all that it may be is over, and not all calm.
//! - The window of the last n frames goes on filling in `Cooldown`. If it holds k frames over the threshold at the first
//!   frame after the cooldown, the next event opens with that frame.
//! - The top score of an event counts from the first frame over the threshold before which the window held none, so that
//!   frames that led to the event are part of it.
//! - Frames that were lost or could not be scored are not in the window: n and k count scored frames. After a gap longer
//!   than `max_gap` between two scored frames, though, what was seen before says nothing about now: the window starts
//!   empty. An open event stays open through any gap, since nothing was seen that ends it, and needs n calm frames after
//!   it.
//! - Time is that of the frames, on a clock that never goes back; a frame that is older than the one before counts as
//!   taken together with it.

use std::collections::VecDeque;
use std::time::Duration;

/// The machine's parameters, checked by whoever reads them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecisionParams {
    /// A frame whose score is greater is over.
    pub threshold: f32,
    /// A frame whose score is not greater is calm; at most `threshold`.
    pub release_threshold: f32,
    /// n, at least 1.
    pub window_frames: usize,
    /// k, 1 to n.
    pub trigger_frames: usize,
    /// From the end of an event until another may open.
    pub cooldown: Duration,
    /// At least this long between two messages about an open event.
    pub update_interval: Duration,
    /// The longest time between two frames of one window.
    pub max_gap: Duration,
}

/// What an event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It begins.
    Open,
    /// Its top score has risen.
    Update,
    /// It is over.
    End,
}

/// What one frame meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The frame's score is greater than the threshold.
    pub over: bool,
    /// The frame has the highest score of the event, or of what may become one: keep it.
    pub peak: bool,
    /// What the event does with this frame, if anything.
    pub change: Option<Change>,
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Decision {
    params: DecisionParams,
    /// Of the release threshold to the threshold, as they were at first.
    release_ratio: f32,
    state: State,
    window: VecDeque<Verdict>,
    /// Highest score since the window last held no frame over the threshold, and of an open event.
    top: Option<f32>,
    last_frame: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Calm,
    Open { last_message: Duration, told_top: f32 },
    Cooldown { until: Duration },
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Verdict {
    over: bool,
    calm: bool,
}

impl Decision {
    /// A machine that has seen nothing.
    pub fn new(params: DecisionParams) -> Decision {
        let window = VecDeque::with_capacity(params.window_frames);
        let ratio = params.release_threshold / params.threshold;
        let release_ratio = if ratio.is_finite() { ratio } else { 1.0 };
        Decision { params, release_ratio, state: State::Calm, window, top: None, last_frame: None }
    }

    /// The parameters.
    pub fn params(&self) -> &DecisionParams {
        &self.params
    }

    /// Changes the threshold; the release threshold keeps its ratio to it. What the window holds stays as it was judged.
    pub fn set_threshold(&mut self, threshold: f32) {
        if threshold != self.params.threshold {
            self.params.release_threshold = threshold * self.release_ratio;
            self.params.threshold = threshold;
        }
    }

    /// Goes on with other parameters. An open event stays open, and what the window holds stays as it was judged; of a window
    /// that has become shorter the newest frames stay.
    pub fn set_params(&mut self, params: DecisionParams) {
        let Decision { release_ratio, .. } = Decision::new(params);
        (self.params, self.release_ratio) = (params, release_ratio);
        self.window.drain(..self.window.len().saturating_sub(params.window_frames));
    }

    /// Whether an event is open.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Takes in the score of a frame taken at `now`.
    pub fn step(&mut self, score: f32, now: Duration) -> Step {
        self.step_between(score, score, now)
    }

    /// Takes in that the score of a frame taken at `now` is `lowest` at least and `highest` at most.
    pub fn step_between(&mut self, lowest: f32, highest: f32, now: Duration) -> Step {
        let now = self.last_frame.map_or(now, |last| now.max(last));
        if self.last_frame.is_some_and(|last| now - last > self.params.max_gap) {
            self.window.clear();
        }
        self.last_frame = Some(now);
        if let State::Cooldown { until } = self.state
            && now >= until
        {
            self.state = State::Calm;
        }
        let over = lowest > self.params.threshold;
        let peak = self.take_in(Verdict { over, calm: highest <= self.params.release_threshold }, lowest);
        let change = match self.state {
            State::Calm => self.may_open(now),
            State::Open { last_message, told_top } => self.may_end_or_update(now, last_message, told_top),
            State::Cooldown { .. } => None,
        };
        Step { over, peak, change }
    }

    /// Ends an open event from outside; says whether there was one. No cooldown follows.
    pub fn close(&mut self) -> bool {
        let was_open = self.is_open();
        self.state = State::Calm;
        self.window.clear();
        self.top = None;
        was_open
    }

    /// Puts a frame into the window; says whether it is the highest of its run.
    fn take_in(&mut self, verdict: Verdict, score: f32) -> bool {
        while self.window.len() >= self.params.window_frames {
            self.window.pop_front();
        }
        if !self.is_open() && !self.window.iter().any(|v| v.over) {
            self.top = None;
        }
        self.window.push_back(verdict);
        let peak = verdict.over && self.top.is_none_or(|top| score > top);
        if peak {
            self.top = Some(score);
        }
        peak
    }

    fn may_open(&mut self, now: Duration) -> Option<Change> {
        let told_top = self.top?;
        let enough = self.window.iter().filter(|v| v.over).count() >= self.params.trigger_frames;
        if !enough {
            return None;
        }
        self.state = State::Open { last_message: now, told_top };
        Some(Change::Open)
    }

    fn may_end_or_update(&mut self, now: Duration, last_message: Duration, told_top: f32) -> Option<Change> {
        let full = self.window.len() == self.params.window_frames;
        if full && self.window.iter().all(|v| v.calm) {
            self.state = State::Cooldown { until: now.saturating_add(self.params.cooldown) };
            self.top = None;
            return Some(Change::End);
        }
        let top = self.top.filter(|&top| top > told_top)?;
        if now.saturating_sub(last_message) < self.params.update_interval {
            return None;
        }
        self.state = State::Open { last_message: now, told_top: top };
        Some(Change::Update)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMS: DecisionParams = DecisionParams {
        threshold: 0.5,
        release_threshold: 0.4,
        window_frames: 3,
        trigger_frames: 2,
        cooldown: Duration::from_secs(5),
        update_interval: Duration::from_secs(2),
        max_gap: Duration::from_secs(10),
    };

    /// Steps through scores one second apart and gives what changed at each.
    fn changes(decision: &mut Decision, start_secs: u64, scores: &[f32]) -> Vec<Option<Change>> {
        let at = |i: usize| Duration::from_secs(start_secs + i as u64);
        scores.iter().enumerate().map(|(i, &s)| decision.step(s, at(i)).change).collect()
    }

    fn opened() -> Decision {
        let mut decision = Decision::new(PARAMS);
        assert_eq!(changes(&mut decision, 0, &[0.6, 0.6]), [None, Some(Change::Open)]);
        decision
    }

    #[test]
    fn calm_opens_when_k_of_the_last_n_are_over() {
        let mut decision = Decision::new(PARAMS);
        assert_eq!(changes(&mut decision, 0, &[0.6, 0.1, 0.6]), [None, None, Some(Change::Open)]);
        assert!(decision.is_open());
    }

    #[test]
    fn calm_stays_calm_below_k_and_at_the_threshold_itself() {
        let mut decision = Decision::new(PARAMS);
        let scores = [0.6, 0.1, 0.1, 0.6, 0.1, 0.1, 0.5, 0.5, 0.5, 0.5];
        assert!(changes(&mut decision, 0, &scores).iter().all(Option::is_none));
    }

    #[test]
    fn open_ends_only_when_the_whole_window_is_calm() {
        let mut decision = opened();
        // 0.45 lies between release and threshold: it holds the event open.
        let expected = [None, None, None, None, None, Some(Change::End)];
        assert_eq!(changes(&mut decision, 2, &[0.1, 0.1, 0.45, 0.1, 0.4, 0.1]), expected);
        assert!(!decision.is_open());
    }

    #[test]
    fn a_score_that_is_not_sure_neither_begins_nor_ends_an_event() {
        let mut decision = Decision::new(PARAMS);
        let at = Duration::from_secs;
        let steps = |decision: &mut Decision, from: u64| {
            (from..from + 5).map(|t| decision.step_between(0.3, 0.6, at(t)).change).collect::<Vec<_>>()
        };
        assert_eq!(steps(&mut decision, 0), [None; 5]);
        assert_eq!(changes(&mut decision, 5, &[0.6, 0.6]), [None, Some(Change::Open)]);
        assert_eq!(steps(&mut decision, 7), [None; 5]);
        assert_eq!(changes(&mut decision, 12, &[0.1, 0.1, 0.1]), [None, None, Some(Change::End)]);
    }

    #[test]
    fn open_updates_with_a_higher_top_and_not_too_often() {
        let mut decision = opened();
        // Opened at 1 s with 0.6 told. 2 s: higher but too early; 3 s: not higher itself, but 0.8 is untold.
        let expected = [None, Some(Change::Update), None, None, None, Some(Change::Update)];
        assert_eq!(changes(&mut decision, 2, &[0.8, 0.7, 0.8, 0.8, 0.8, 0.9]), expected);
    }

    #[test]
    fn cooldown_keeps_calm_until_it_is_over() {
        let mut decision = opened();
        assert_eq!(changes(&mut decision, 2, &[0.1, 0.1, 0.1])[2], Some(Change::End)); // at 4 s
        // Over all the time: nothing at 5 to 8 s, open at 9 s, the first frame out of the cooldown.
        assert_eq!(changes(&mut decision, 5, &[0.6; 5]), [None, None, None, None, Some(Change::Open)]);
    }

    #[test]
    fn cooldown_gives_way_to_calm_when_nothing_is_over() {
        let mut decision = opened();
        changes(&mut decision, 2, &[0.1; 9]);
        assert_eq!(changes(&mut decision, 11, &[0.6, 0.6]), [None, Some(Change::Open)]);
    }

    #[test]
    fn without_cooldown_the_next_event_may_follow_at_once() {
        let mut decision = Decision::new(DecisionParams { cooldown: Duration::ZERO, ..PARAMS });
        let expected = [None, Some(Change::Open), None, None, Some(Change::End), None, Some(Change::Open)];
        assert_eq!(changes(&mut decision, 0, &[0.6, 0.6, 0.1, 0.1, 0.1, 0.6, 0.6]), expected);
    }

    #[test]
    fn one_of_one_opens_and_ends_frame_by_frame() {
        let params = DecisionParams { window_frames: 1, trigger_frames: 1, cooldown: Duration::ZERO, ..PARAMS };
        let expected = [Some(Change::Open), Some(Change::End), Some(Change::Open), Some(Change::End)];
        assert_eq!(changes(&mut Decision::new(params), 0, &[0.6, 0.1, 0.6, 0.1]), expected);
    }

    #[test]
    fn the_peak_counts_from_the_first_frame_that_led_to_the_event() {
        let mut decision = Decision::new(PARAMS);
        let peaks: Vec<bool> = [0.9, 0.1, 0.6, 0.7, 0.95]
            .iter()
            .enumerate()
            .map(|(i, &s)| decision.step(s, Duration::from_secs(i as u64)).peak)
            .collect();
        assert_eq!(peaks, [true, false, false, false, true]);
    }

    #[test]
    fn a_peak_that_led_to_nothing_is_forgotten() {
        let mut decision = Decision::new(PARAMS);
        changes(&mut decision, 0, &[0.9, 0.1, 0.1, 0.1]);
        assert!(decision.step(0.6, Duration::from_secs(4)).peak);
        // And the frames of an event that ended do not belong to the next.
        let mut decision = opened();
        changes(&mut decision, 2, &[0.9, 0.1, 0.1, 0.1]);
        assert!(decision.step(0.6, Duration::from_secs(30)).peak);
    }

    #[test]
    fn a_long_gap_empties_the_window() {
        let mut decision = Decision::new(PARAMS);
        assert_eq!(decision.step(0.6, Duration::from_secs(0)).change, None);
        assert_eq!(decision.step(0.6, Duration::from_millis(10_001)).change, None);
        assert_eq!(decision.step(0.6, Duration::from_secs(20)).change, Some(Change::Open));
    }

    #[test]
    fn a_gap_does_not_end_an_event_nor_count_as_calm() {
        let mut decision = opened();
        changes(&mut decision, 2, &[0.1, 0.1]);
        assert_eq!(changes(&mut decision, 100, &[0.1, 0.1, 0.1]), [None, None, Some(Change::End)]);
    }

    #[test]
    fn a_clock_that_goes_back_is_taken_as_standing_still() {
        let mut decision = opened();
        assert_eq!(decision.step(0.9, Duration::ZERO).change, None);
        assert_eq!(decision.step(0.9, Duration::from_secs(3)).change, Some(Change::Update));
    }

    #[test]
    fn a_new_threshold_takes_its_release_threshold_along() {
        let mut decision = opened();
        decision.set_threshold(1.0);
        assert_eq!((decision.params().threshold, decision.params().release_threshold), (1.0, 0.8));
        // 0.7 was over before and is calm now.
        assert_eq!(changes(&mut decision, 2, &[0.7, 0.9, 0.7, 0.8, 0.7]), [None, None, None, None, Some(Change::End)]);
        // Of nothing there is no share: both thresholds are the same.
        let mut decision = Decision::new(DecisionParams { threshold: 0.0, release_threshold: 0.0, ..PARAMS });
        decision.set_threshold(0.5);
        assert_eq!(decision.params().release_threshold, 0.5);
    }

    #[test]
    fn other_parameters_leave_an_open_event_open() {
        let mut decision = opened();
        decision.set_params(DecisionParams { threshold: 2.0, release_threshold: 1.0, window_frames: 2, ..PARAMS });
        assert!(decision.is_open());
        // Of the three frames before, the newest was not calm by what was asked then.
        assert_eq!(changes(&mut decision, 2, &[0.9, 0.9]), [None, Some(Change::End)]);
        decision.set_threshold(4.0);
        assert_eq!(decision.params().release_threshold, 2.0);
    }

    #[test]
    fn closing_says_whether_an_event_was_open() {
        let mut decision = opened();
        assert!(decision.close());
        assert!(!decision.close());
        assert_eq!(changes(&mut decision, 2, &[0.6, 0.6]), [None, Some(Change::Open)]);
    }
}
