//! Random histories: faults, changed specs, steps that fail or take effect without an answer. The
//! world refuses unsafe steps by panicking; and once the faults end, what is wanted comes about.

mod world;

use kontiki_plan::{OnTotalLoss, Refusal, Step, Versions, plan};
use proptest::prelude::*;

use world::World;

/// Passes in which a world without further faults has to come to rest.
const PASSES_MAX: usize = 80;

#[derive(Clone, Debug)]
enum Event {
    Replicas(u32),
    /// A pass of the operator; steps whose bit is set in the first fail, in the second take effect
    /// though they are said to fail, and it dies before the step at the last.
    Pass(u16, u16, usize),
    Tick,
    Wait,
    Delete(u32),
    RestartContainer(u32),
    Going(u32),
    Silence(u32),
    Hang(u32),
    Quarantine(u32),
    /// Pods that start from now on support these versions of the machine.
    Image(u32, u32),
    Answer(u32),
    NoLeader,
    Lead(u32),
    CatchUp(bool),
    Controller(bool),
    ScaleStatefulSet(u32),
    Pause(bool),
    Drift,
}

fn event() -> impl Strategy<Value = Event> {
    let ordinal = || 0_u32..6;
    prop_oneof![
        3 => (1_u32..=6).prop_map(Event::Replicas),
        20 => (any::<u16>(), any::<u16>(), 0_usize..12)
            .prop_map(|(fail, lose, die)| Event::Pass(fail & lose, lose, die)),
        20 => (0_usize..1).prop_map(|_| Event::Pass(0, 0, usize::MAX)),
        10 => Just(Event::Tick),
        1 => Just(Event::Wait),
        4 => ordinal().prop_map(Event::Delete),
        2 => ordinal().prop_map(Event::RestartContainer),
        2 => ordinal().prop_map(Event::Going),
        2 => ordinal().prop_map(Event::Silence),
        2 => ordinal().prop_map(Event::Hang),
        2 => ordinal().prop_map(Event::Quarantine),
        3 => (1_u32..=3, 0_u32..=1).prop_map(|(min, more)| Event::Image(min, min + more)),
        6 => ordinal().prop_map(Event::Answer),
        1 => Just(Event::NoLeader),
        3 => ordinal().prop_map(Event::Lead),
        3 => any::<bool>().prop_map(Event::CatchUp),
        2 => any::<bool>().prop_map(Event::Controller),
        1 => (1_u32..=6).prop_map(Event::ScaleStatefulSet),
        1 => any::<bool>().prop_map(Event::Pause),
        1 => Just(Event::Drift),
    ]
}

/// A pass of the operator. `fail` and `lose` name steps by bits, `die` the one before which it dies.
fn pass(world: &mut World, fail: u16, lose: u16, die: usize) -> usize {
    let inventory = world.inventory();
    let plan = plan(&world.wanted, &inventory);
    let is_set = |bits: u16, at: usize| bits >> (at % 16) & 1 == 1;
    let mut failed = vec![false; plan.steps.len()];
    let changes = plan.steps.iter().filter(|planned| {
        matches!(
            planned.step,
            Step::Add { .. }
                | Step::Replace { .. }
                | Step::Remove { .. }
                | Step::Transfer { .. }
                | Step::TriggerElection { .. }
        )
    });
    assert!(changes.count() <= 1, "{:?}", plan.steps);
    for (at, planned) in plan.steps.iter().enumerate() {
        if at == die {
            break;
        }
        if planned.after.iter().any(|before| failed[*before]) {
            failed[at] = true;
            continue;
        }
        let result = if is_set(fail, at) {
            Err(String::new())
        } else {
            world.apply(&planned.step)
        };
        failed[at] = result.is_err() || is_set(lose, at);
    }
    plan.steps.len()
}

fn happen(world: &mut World, event: &Event) {
    let now = world.now;
    let floor = world.wanted.min_majority;
    match event {
        Event::Replicas(replicas) => world.wanted.replicas = (*replicas).max(floor),
        Event::Pass(fail, lose, die) => {
            pass(world, *fail, *lose, *die);
        }
        Event::Image(min, max) => {
            world.image.versions = Versions {
                min: *min,
                max: *max,
            };
        }
        Event::Tick => world.tick(),
        Event::Wait => world.now += 60_000,
        Event::Delete(ordinal) => drop(world.pods.remove(ordinal)),
        Event::RestartContainer(ordinal) if world.pods.contains_key(ordinal) => {
            world.start(*ordinal);
        }
        Event::NoLeader => {
            for group in world.groups.values_mut() {
                group.leader = None;
            }
        }
        Event::Lead(ordinal) => world.lead(*ordinal),
        Event::CatchUp(on) => world.catching_up = *on,
        Event::Controller(on) => world.controller = *on,
        Event::ScaleStatefulSet(count) if world.desired.is_some() => {
            world.desired = Some(*count);
        }
        Event::Pause(on) => world.wanted.paused = *on,
        Event::Drift => world.objects = false,
        Event::Going(ordinal)
        | Event::Silence(ordinal)
        | Event::Hang(ordinal)
        | Event::Quarantine(ordinal)
        | Event::Answer(ordinal) => {
            if let Some(pod) = world.pods.get_mut(ordinal) {
                match event {
                    Event::Going(_) => pod.going = true,
                    Event::Answer(_) => (pod.silent_since, pod.stuck) = (None, false),
                    Event::Quarantine(_) => pod.quarantine = Some("apply panicked".to_owned()),
                    Event::Hang(_) => (pod.silent_since, pod.stuck) = (Some(now), true),
                    _ => pod.silent_since = Some(now),
                }
            }
        }
        Event::RestartContainer(_) | Event::ScaleStatefulSet(_) => {}
    }
}

/// Whether too few voters are left, not counting on the dead, for anything to be decided.
fn is_quorum_lost(world: &World) -> bool {
    world.configuration().is_some_and(|configuration| {
        let mut halves = [Some(&configuration.voters), configuration.outgoing.as_ref()]
            .into_iter()
            .flatten();
        halves.any(|voters| {
            let left = voters.iter().filter(|id| world.exists(**id)).count();
            left < world.quorum(voters.len())
        })
    })
}

/// The faults end.
fn heal(world: &mut World) {
    world.wanted.paused = false;
    world.controller = true;
    world.catching_up = true;
    for pod in world.pods.values_mut() {
        (pod.silent_since, pod.stuck) = (None, false);
    }
}

/// What only a person can do: an image that supports what is in force, and new pods in place of those
/// that are quarantined or refused, one by one.
fn attend(world: &mut World) {
    world.image.versions = Versions { min: 1, max: 4 };
    come_to_rest(world);
    for ordinal in 0..world.pods.len() {
        let ordinal = u32::try_from(ordinal).unwrap();
        let is_of_no_use = world.pods.get(&ordinal).is_some_and(|pod| {
            let votes = world
                .configuration()
                .is_some_and(|configuration| configuration.voters.contains(&pod.server));
            pod.quarantine.is_some() || (!votes && pod.image != world.image)
        });
        if is_of_no_use {
            world.pods.remove(&ordinal);
            come_to_rest(world);
        }
    }
}

fn come_to_rest(world: &mut World) {
    let mut quiet = 0;
    for _ in 0..PASSES_MAX {
        let steps = pass(world, 0, 0, usize::MAX);
        quiet = if steps == 0 { quiet + 1 } else { 0 };
        if quiet == 5 {
            return;
        }
        world.tick();
    }
    let inventory = world.inventory();
    let plan = plan(&world.wanted, &inventory);
    panic!("does not come to rest: {plan:#?}\n{}", world.describe());
}

proptest! {
    // As many cases as PROPTEST_CASES says, or 256.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_step_is_safe_and_what_is_wanted_comes_about(
        replicas in 1_u32..=5,
        min_majority in 1_u32..=2,
        start_empty in any::<bool>(),
        events in proptest::collection::vec(event(), 0..120),
    ) {
        let mut world = World::new();
        world.wanted.min_majority = min_majority;
        world.wanted.replicas = replicas.max(min_majority);
        if start_empty {
            world.wanted.on_total_loss = OnTotalLoss::StartEmpty;
        }
        for event in &events {
            happen(&mut world, event);
        }
        heal(&mut world);
        attend(&mut world);

        let inventory = world.inventory();
        let plan = plan(&world.wanted, &inventory);
        prop_assert!(plan.steps.is_empty());
        let is_halted = plan
            .blocked
            .iter()
            .any(|blocked| matches!(blocked.refusal, Refusal::QuorumLost { .. }));
        if is_halted {
            prop_assert!(is_quorum_lost(&world), "{}", world.describe());
        } else {
            let ordinals: Vec<u32> = (0..world.wanted.replicas).collect();
            let expected = format!(
                "desired Some({}), voters on {{{}}}, 0 learners, joint false, initialized true",
                world.wanted.replicas,
                ordinals.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
            );
            prop_assert_eq!(world.outcome(), expected, "{}", world.describe());
        }
    }
}
