//! Machines that panic: in which call, and once it has happened.

use std::sync::{Arc, Mutex};

/// A call of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `apply`.
    Apply,
    /// `snapshot`, for another server or for a digest.
    Snapshot,
    /// `restore`.
    Restore,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Plan {
    #[default]
    Nothing,
    PanicsIn(Call),
    Panicked(Call),
}

/// What one machine will do; shared with the simulator.
#[derive(Clone, Debug, Default)]
pub struct Sabotage(Arc<Mutex<Plan>>);

impl Sabotage {
    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.0.lock().expect("nobody panics with it")
    }

    /// The next call of this kind panics.
    pub fn arm(&self, call: Call) {
        *self.plan() = Plan::PanicsIn(call);
    }

    /// A panic that has not happened does not happen. `false`: it has happened.
    pub fn disarm(&self) -> bool {
        let mut plan = self.plan();
        let is_over = matches!(*plan, Plan::Panicked(_));
        if !is_over {
            *plan = Plan::Nothing;
        }
        !is_over
    }

    /// In which call it panicked.
    pub fn panicked(&self) -> Option<Call> {
        match *self.plan() {
            Plan::Panicked(call) => Some(call),
            Plan::Nothing | Plan::PanicsIn(_) => None,
        }
    }

    /// The machine is in this call.
    ///
    /// # Panics
    /// If that was the plan.
    pub fn strike(&self, call: Call) {
        let mut plan = self.plan();
        if *plan == Plan::PanicsIn(call) {
            *plan = Plan::Panicked(call);
            drop(plan); // or it would be poisoned
            panic!("a machine that panics on purpose");
        }
    }
}
