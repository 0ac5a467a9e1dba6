//! The rules of the extended Raft paper (Ongaro and Ousterhout 2014) and of Ongaro's thesis (2014),
//! each as a test whose name begins with its section. `docs/paper.md` lists them; `table` holds the
//! list to what is here.

mod elections;
mod figure_2;
mod harness;
mod learners;
mod leases;
mod membership;
mod reads;
mod replication;
mod safety;
mod snapshots;
mod table;
mod transfer;

#[path = "../scripts/words.rs"]
mod words;
#[allow(dead_code)] // the scripts use all of it
#[path = "../scripts/world.rs"]
mod world;
