//! Hosts of the run's own: a network namespace each, joined by a bridge. Clients are in the run's
//! namespace, which has an address on the bridge, so what is cut between hosts is not cut for them.
//!
//! A cut is made where packets arrive, in the namespace of the host that is not to hear: so is what a
//! switch or a firewall in between does, and the sender learns nothing from its own kernel.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{run, run_with};

/// More than the largest cluster with what it grows by.
pub const HOSTS_MAX: usize = 9;

/// How packets do not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// They are dropped.
    Silent,
    /// They are answered with a reset.
    Reset,
}

/// The hosts, by their places, and the bridge that joins them.
#[derive(Debug)]
pub struct Network {
    hosts: usize,
}

/// Its namespace, and its port of the bridge.
pub fn host_name(place: usize) -> String {
    format!("n{place}")
}

/// Its address on the bridge.
pub fn address(place: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, 10 + as_byte(place))
}

/// An address of the run's namespace that stands for a host.
pub fn proxy_address(place: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, 110 + as_byte(place))
}

fn as_byte(place: usize) -> u8 {
    u8::try_from(place).expect("there are few hosts")
}

/// The file that stands for the namespace of a host.
pub fn namespace_file(place: usize) -> String {
    format!("/run/netns/{}", host_name(place))
}

impl Network {
    /// A bridge and so many hosts; nothing is cut.
    ///
    /// # Errors
    /// The machine lacks something of it.
    pub fn make(hosts: usize) -> Result<Self> {
        assert!(hosts <= HOSTS_MAX, "{hosts} hosts");
        let mut commands = vec![
            "link add bridge type bridge forward_delay 0 stp_state 0".to_owned(),
            "address add 10.9.0.1/24 dev bridge".into(),
            "link set bridge up".into(),
        ];
        for place in 0..hosts {
            let name = host_name(place);
            commands.push(format!("netns add {name}"));
            commands.push(format!(
                "link add {name} type veth peer name eth0 netns {name}"
            ));
            commands.push(format!("link set {name} master bridge up"));
            commands.push(format!(
                "address add {}/24 dev bridge",
                proxy_address(place)
            ));
        }
        ip(&commands)?;
        let network = Self { hosts };
        for place in 0..hosts {
            let commands = [
                format!("address add {}/24 dev eth0", address(place)),
                "link set eth0 up".into(),
                "link set lo up".into(),
            ];
            run_with(
                "ip",
                &["-n", &host_name(place), "-batch", "-"],
                &lines(&commands),
            )?;
            nft(
                place,
                "add table inet faults\n\
                 add chain inet faults input { type filter hook input priority 0; }\n",
            )?;
        }
        Ok(network)
    }

    /// From now on nothing that `from` sends arrives at `to`.
    ///
    /// # Errors
    /// The rule cannot be set.
    pub fn cut(&self, from: usize, to: usize, how: Cut) -> Result<()> {
        let from_address = address(from);
        let rules = match how {
            Cut::Silent => {
                format!("add rule inet faults input ip saddr {from_address} counter drop\n")
            }
            Cut::Reset => format!(
                "add rule inet faults input ip saddr {from_address} tcp flags & rst == rst counter accept\n\
                 add rule inet faults input ip saddr {from_address} ip protocol tcp counter reject with tcp reset\n"
            ),
        };
        nft(to, &rules).map(drop)
    }

    /// Both directions, between a host and each of the others that are told.
    ///
    /// # Errors
    /// A rule cannot be set.
    pub fn cut_off(&self, place: usize, others: &[usize], how: Cut) -> Result<()> {
        for other in others.iter().filter(|other| **other != place) {
            self.cut(place, *other, how)?;
            self.cut(*other, place, how)?;
        }
        Ok(())
    }

    /// Packets that the cuts have stopped so far, and resets that arrived at hosts.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn stopped(&self) -> Result<Stopped> {
        self.stopped_of(None)
    }

    /// As [`Network::stopped`], between this host and all others.
    ///
    /// # Errors
    /// As [`Network::stopped`].
    pub fn stopped_at(&self, place: usize) -> Result<Stopped> {
        self.stopped_of(Some(place))
    }

    fn stopped_of(&self, wanted: Option<usize>) -> Result<Stopped> {
        let mut stopped = Stopped::default();
        for place in 0..self.hosts {
            let listed = nft_list(place)?;
            let listed: Value = serde_json::from_str(&listed)?;
            let rules = listed["nftables"].as_array().context("nft lists objects")?;
            for rule in rules.iter().filter_map(|object| object.get("rule")) {
                let expressions = rule["expr"].as_array().context("a rule has expressions")?;
                let find = |name: &str| expressions.iter().find_map(|one| one.get(name));
                let from = find("match").and_then(|of| of["right"].as_str());
                let from = from.context("every rule is of one sender")?;
                if let Some(wanted) = wanted
                    && wanted != place
                    && from != address(wanted).to_string()
                {
                    continue;
                }
                let counter = find("counter").context("every rule counts")?;
                let packets = counter["packets"].as_u64().context("it counts packets")?;
                match (find("drop"), find("reject"), find("accept")) {
                    (Some(_), ..) => stopped.dropped += packets,
                    (_, Some(_), _) => stopped.reset += packets,
                    (.., Some(_)) => stopped.resets_arrived += packets,
                    _ => bail!("a rule of nobody's: {rule}"),
                }
            }
        }
        Ok(stopped)
    }

    /// Ends all cuts; what they stopped.
    ///
    /// # Errors
    /// The rules cannot be removed.
    pub fn heal(&self) -> Result<Stopped> {
        let stopped = self.stopped()?;
        for place in 0..self.hosts {
            nft(place, "flush chain inet faults input\n")?;
        }
        Ok(stopped)
    }

    /// Pulls the cable of a host, or plugs it in again; clients do not reach it either.
    ///
    /// # Errors
    /// It does not go into that state.
    pub fn set_cable(&self, place: usize, plugged: bool) -> Result<()> {
        let name = host_name(place);
        let state = if plugged { "up" } else { "down" };
        run("ip", &["link", "set", &name, state])?;
        let shown: Value = serde_json::from_str(&run("ip", &["-j", "link", "show", &name])?)?;
        let is_down = shown[0]["operstate"] == "DOWN";
        anyhow::ensure!(is_down != plugged, "{name} is set {state}, and is {shown}");
        Ok(())
    }

    /// Lets through only so much, in both directions.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn slow(&self, place: usize, kilobits_per_second: u64) -> Result<()> {
        let rate = format!("{kilobits_per_second}kbit");
        let name = host_name(place);
        for end in [Some(name.as_str()), None] {
            let device = if end.is_some() { "eth0" } else { &name };
            let mut words = of_namespace(end);
            words.extend(["qdisc", "add", "dev", device, "root", "tbf"]);
            words.extend(["rate", &rate, "burst", "16kbit", "latency", "400ms"]);
            run("tc", &words)?;
        }
        Ok(())
    }

    /// How often packets have had to wait since it is slow.
    ///
    /// # Errors
    /// It is not slow.
    pub fn waited(&self, place: usize) -> Result<u64> {
        let name = host_name(place);
        let mut waited = 0;
        for end in [Some(name.as_str()), None] {
            let device = if end.is_some() { "eth0" } else { &name };
            let mut words = of_namespace(end);
            words.extend(["-s", "-j", "qdisc", "show", "dev", device]);
            let shown: Value = serde_json::from_str(&run("tc", &words)?)?;
            waited += shown[0]["overlimits"].as_u64().context("tbf counts them")?;
        }
        Ok(waited)
    }

    /// Lets everything through again; how often packets had to wait.
    ///
    /// # Errors
    /// It was not slow.
    pub fn hurry(&self, place: usize) -> Result<u64> {
        let waited = self.waited(place)?;
        let name = host_name(place);
        for end in [Some(name.as_str()), None] {
            let device = if end.is_some() { "eth0" } else { &name };
            let mut words = of_namespace(end);
            words.extend(["qdisc", "del", "dev", device, "root"]);
            run("tc", &words)?;
        }
        Ok(waited)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // A namespace takes its end of a link away in its own time. Whatever is left goes with the run.
        let hosts = (0..self.hosts).map(host_name);
        let hosts = hosts.flat_map(|name| {
            [
                format!("link delete {name}"),
                format!("netns delete {name}"),
            ]
        });
        let commands: Vec<String> = hosts.chain(["link delete bridge".to_owned()]).collect();
        if let Err(error) = ip(&commands) {
            eprintln!("{error:#}");
        }
    }
}

/// What cuts have stopped, in packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Silently.
    pub dropped: u64,
    /// Answered with a reset.
    pub reset: u64,
    /// Resets that reached the host they were for.
    pub resets_arrived: u64,
}

fn of_namespace(namespace: Option<&str>) -> Vec<&str> {
    namespace.map_or(Vec::new(), |name| vec!["-n", name])
}

fn lines(commands: &[String]) -> String {
    commands.join("\n") + "\n"
}

fn ip(commands: &[String]) -> Result<()> {
    run_with("ip", &["-batch", "-"], &lines(commands)).map(drop)
}

fn nft(place: usize, commands: &str) -> Result<String> {
    let namespace = format!("--net={}", namespace_file(place));
    run_with("nsenter", &[&namespace, "nft", "-f", "-"], commands)
}

fn nft_list(place: usize) -> Result<String> {
    let namespace = format!("--net={}", namespace_file(place));
    run(
        "nsenter",
        &[&namespace, "nft", "-j", "list", "table", "inet", "faults"],
    )
}
