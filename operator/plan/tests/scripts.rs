//! Scripts with golden output: "world / plan / apply / plan again: no steps". The file's name is the
//! claim. `UPDATE=1` writes the output anew.
//!
//! A line that begins with `> ` is a command, one that begins with `#` a comment; the rest is what
//! came out. Every script is also run with an operator that dies before, and one that dies after,
//! each of its steps: it must end in the same place.

mod world;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kontiki_plan::{
    ClusterId, ConditionKind, Identity, IdentityCopy, OnTotalLoss, Plan, SettingsWarning, Versions,
    plan, verdict,
};

use world::World;

/// Passes after which a world that still wants steps is said not to converge.
const PASSES_MAX: usize = 60;

/// At which step, counted over the whole script, the operator dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    Never,
    Before(usize),
    After(usize),
}

struct Run {
    world: World,
    death: Death,
    steps: usize,
}

impl Run {
    fn new(death: Death) -> Self {
        Self {
            world: World::new(),
            death,
            steps: 0,
        }
    }

    fn plan(&mut self) -> Plan {
        let inventory = self.world.inventory();
        let first = plan(&self.world.wanted, &inventory);
        assert_eq!(first, plan(&self.world.wanted, &inventory), "not pure");
        first
    }

    /// Plans and performs; an operator that dies is started again, and looks anew.
    fn pass(&mut self, out: &mut String) {
        loop {
            let plan = self.plan();
            if self.apply(&plan, out) {
                break;
            }
        }
        self.world.tick();
    }

    /// Performs a plan; `false` if the operator dies on the way.
    fn apply(&mut self, plan: &Plan, out: &mut String) -> bool {
        let mut failed = vec![false; plan.steps.len()];
        for (at, planned) in plan.steps.iter().enumerate() {
            assert!(planned.after.iter().all(|before| *before < at));
            if planned.after.iter().any(|before| failed[*before]) {
                failed[at] = true;
                continue;
            }
            self.steps += 1;
            if self.death == Death::Before(self.steps) {
                return false;
            }
            match self.world.apply(&planned.step) {
                Ok(()) => writeln!(out, "{}", planned.step).unwrap(),
                Err(error) => {
                    failed[at] = true;
                    writeln!(out, "{}: {error}", planned.step).unwrap();
                }
            }
            if self.death == Death::After(self.steps) {
                return false;
            }
        }
        true
    }

    fn converge(&mut self, out: &mut String) {
        let mut quiet = 0;
        let mut said = None;
        for _ in 0..PASSES_MAX {
            let plan = self.plan();
            // Something may still come by itself: pods start, learners catch up. And a status that
            // changes although nothing happens would be written for ever.
            let inventory = self.world.inventory();
            let still = || verdict(&self.world.wanted, &inventory, &plan);
            let verdict = plan.steps.is_empty().then(still);
            let is_still = verdict.is_some() && said == verdict;
            said = verdict;
            quiet = if is_still { quiet + 1 } else { 0 };
            if quiet == 4 {
                writeln!(out, "plan again: no steps").unwrap();
                blocked(&plan, out);
                return;
            }
            self.pass(out);
        }
        writeln!(out, "does not converge").unwrap();
    }

    fn command(&mut self, line: &str, out: &mut String) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = || rest.parse::<u32>().expect("a number");
        let now = self.world.now;
        match verb {
            "replicas" => self.world.wanted.replicas = number(),
            "min-majority" => self.world.wanted.min_majority = number(),
            "election-timeout" => {
                self.world.wanted.election_timeout = Duration::from_secs(number().into());
            }
            "pause" => self.world.wanted.paused = true,
            "resume" => self.world.wanted.paused = false,
            "custom-machine" => self.world.wanted.machine = None,
            "start-empty" => self.world.wanted.on_total_loss = OnTotalLoss::StartEmpty,
            // What pods are made from that start from now on: "MACHINE MIN MAX".
            "image" => self.world.image = image(rest),
            // What happens in the world.
            "tick" => self.world.tick(),
            "wait" => self.world.now += u64::from(number()) * 1000,
            "delete" => drop(self.world.pods.remove(&number())),
            "restart" => self.world.start(number()),
            "going" => self.pod(number()).going = true,
            "silence" => self.pod(number()).silent_since = Some(now),
            "answer" => {
                let pod = self.pod(number());
                (pod.silent_since, pod.stuck) = (None, false);
            }
            "stick" => {
                let pod = self.pod(number());
                (pod.silent_since, pod.stuck) = (Some(now), true);
            }
            // ORDINAL REASON MESSAGE: what its server says of settings.
            "warn" => {
                let (ordinal, said) = rest.split_once(' ').expect("an ordinal and what it says");
                let (reason, message) = said.split_once(' ').expect("a reason and a message");
                let warning = SettingsWarning {
                    reason: reason.to_owned(),
                    message: message.to_owned(),
                };
                let pod = self.pod(ordinal.parse().expect("an ordinal"));
                pod.settings_warnings.push(warning);
            }
            "quarantine" => {
                self.pod(number()).quarantine = Some("apply panicked".to_owned());
            }
            "cannot-start" => {
                let pod = self.pod(number());
                (pod.silent_since, pod.stuck) = (Some(now), true);
                pod.trouble = Some("image bank:3 cannot be pulled".to_owned());
            }
            "foreign" => {
                let foreign = ClusterId(0xf0);
                self.world.groups.entry(foreign).or_default();
                self.pod(number()).cluster = Some(foreign);
            }
            "lead" => self.world.lead(number()),
            "no-leader" => self
                .world
                .groups
                .values_mut()
                .for_each(|group| group.leader = None),
            "no-catch-up" => self.world.catching_up = false,
            "catch-up" => self.world.catching_up = true,
            "no-controller" => self.world.controller = false,
            "controller" => self.world.controller = true,
            // Its pods are left.
            "delete-statefulset" => self.world.desired = None,
            "scale-statefulset" => self.world.desired = Some(number()),
            "drift" => self.world.objects = false,
            "identity-unreadable" => {
                self.world.identity = Identity::Unreadable {
                    place: "ConfigMap demo-identity".to_owned(),
                    reason: "forbidden".to_owned(),
                };
            }
            "identity-absent" => self.world.identity = Identity::Absent,
            "copy-names" => {
                self.world.copy = Some(IdentityCopy {
                    place: "StatefulSet demo".to_owned(),
                    cluster: rest.parse().expect("an id"),
                    initialized: true,
                });
            }
            // What is looked at.
            "world" => out.push_str(&self.world.describe()),
            "plan" => {
                let plan = self.plan();
                for planned in &plan.steps {
                    writeln!(out, "{}", planned.step).unwrap();
                }
                if plan.steps.is_empty() {
                    writeln!(out, "no steps").unwrap();
                }
                blocked(&plan, out);
            }
            "apply" => self.pass(out),
            "converge" => self.converge(out),
            "verdict" => self.verdict(out),
            other => panic!("{other} is no command"),
        }
    }

    fn pod(&mut self, ordinal: u32) -> &mut world::Pod {
        self.world.pods.get_mut(&ordinal).expect("a pod")
    }

    fn verdict(&mut self, out: &mut String) {
        let plan = self.plan();
        let inventory = self.world.inventory();
        let verdict = verdict(&self.world.wanted, &inventory, &plan);
        for condition in &verdict.conditions {
            let status = match condition.status {
                Some(true) => "True",
                Some(false) => "False",
                None => "Unknown",
            };
            let (kind, reason, message) = (condition.kind, condition.reason, &condition.message);
            writeln!(out, "{kind:?}={status} {reason}: {message}").unwrap();
        }
        assert_eq!(verdict.conditions.len(), 9);
        assert_eq!(verdict.conditions[0].kind, ConditionKind::Ready);
        let quorum = verdict.quorum;
        writeln!(
            out,
            "voters {} healthy {} margin {}",
            quorum.voters, quorum.healthy_voters, quorum.margin
        )
        .unwrap();
        if let Some(machine) = &verdict.machine {
            let version = machine.version.map_or("none".to_owned(), |v| v.to_string());
            writeln!(out, "machine {} in version {version}", machine.name).unwrap();
        }
        for member in &verdict.members {
            if let Some(reason) = &member.quarantine {
                writeln!(out, "{:?} is {:?}: {reason}", member.server, member.state).unwrap();
            }
        }
        if let Some(operation) = &verdict.operation {
            writeln!(out, "{:?} to {}", operation.kind, operation.target).unwrap();
        }
    }
}

fn image(text: &str) -> world::Image {
    let words: Vec<&str> = text.split(' ').collect();
    let [machine, min, max] = words[..] else {
        panic!("{text:?} is not MACHINE MIN MAX");
    };
    let number = |word: &str| word.parse().expect("a number");
    world::Image {
        machine: machine.to_owned(),
        versions: Versions {
            min: number(min),
            max: number(max),
        },
    }
}

fn blocked(plan: &Plan, out: &mut String) {
    for blocked in &plan.blocked {
        writeln!(out, "  {blocked}").unwrap();
    }
}

/// Runs the commands of a script; gives the script with its output.
fn run(script: &str, death: Death) -> (String, Run) {
    let mut run = Run::new(death);
    let mut text = String::new();
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(text, "{line}").unwrap();
            run.command(command, &mut text);
        } else if line.starts_with('#') {
            writeln!(text, "{line}").unwrap();
        }
    }
    (text, run)
}

fn scripts() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let entries = std::fs::read_dir(folder).expect("testdata");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("readable");
            (path, text)
        })
        .collect()
}

#[test]
fn scripts_give_their_golden_output() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut stale = Vec::new();
    let scripts = scripts();
    assert!(scripts.len() >= 30, "{} scripts", scripts.len());
    for (path, script) in scripts {
        let (output, _) = run(&script, Death::Never);
        if update {
            std::fs::write(&path, &output).expect("written");
        } else if output != script {
            stale.push(format!("{}:\n{output}", path.display()));
        }
        assert!(!output.contains("does not converge"), "{}", path.display());
    }
    assert!(
        stale.is_empty(),
        "not as in the files:\n{}",
        stale.join("\n")
    );
}

#[test]
fn an_operator_that_dies_at_any_step_ends_in_the_same_place() {
    let mut deaths = 0;
    for (path, script) in scripts() {
        let (_, calm) = run(&script, Death::Never);
        let last_is_converge = script
            .lines()
            .rfind(|line| line.starts_with("> ") && *line != "> verdict" && *line != "> world")
            == Some("> converge");
        for at in 1..=calm.steps {
            for death in [Death::Before(at), Death::After(at)] {
                let (_, mut killed) = run(&script, death);
                if !last_is_converge {
                    continue;
                }
                let mut rest = String::new();
                killed.converge(&mut rest);
                assert_eq!(
                    killed.world.outcome(),
                    calm.world.outcome(),
                    "{} with {death:?}: {rest}",
                    path.display()
                );
                deaths += 1;
            }
        }
    }
    assert!(deaths > 100, "only {deaths} deaths");
}
