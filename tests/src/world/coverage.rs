//! Which of the named states a server is in after a turn ([`crate::states`]).

use super::World;
use super::places::Process;
use crate::invariants::{Ledger, Turn};
use crate::network::{Network, Place};
use crate::states::{Other, STATES, View};

/// One bit for each state.
pub(super) type States = u128;

const _: () = assert!(STATES.len() <= States::BITS as usize);

/// Those that hold for the server in a place, after a turn that was checked.
pub(super) fn states_of(
    place: Place,
    turn: &Turn<'_>,
    places: &[Option<Process>],
    network: &Network,
    ledger: &Ledger,
) -> States {
    let others = places.iter().enumerate();
    let others = others.filter(|(other, _)| *other != place);
    let others: Vec<Other<'_>> = others
        .filter_map(|(other, process)| {
            let process = process.as_ref()?;
            Some(Other {
                status: &process.status,
                is_paused: process.paused,
                is_cut_off: network.is_cut(place, other) || network.is_cut(other, place),
            })
        })
        .collect();
    let view = View {
        turn,
        others: &others,
        ledger,
    };
    let mut states = 0;
    for (number, state) in STATES.iter().enumerate() {
        states |= States::from((state.holds)(&view)) << number;
    }
    states
}

impl World {
    /// Counts what became true of a server.
    pub(super) fn count_states(&mut self, place: Place, states: States) {
        let Some(process) = self.places[place].as_mut() else {
            return;
        };
        let mut entered = states & !std::mem::replace(&mut process.states, states);
        while entered != 0 {
            let number = entered.trailing_zeros() as usize;
            self.tally.add(STATES[number].name);
            entered &= entered - 1;
        }
    }
}
