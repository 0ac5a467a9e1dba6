//! `grpc.health.v1` and server reflection, on both ports.

use kontiki_proto::DESCRIPTORS;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

use crate::handle::Handle;

/// Names under which health is asked for; the empty one stands for the whole server.
const SERVICES: [&str; 5] = [
    "",
    "kontiki.v1.Data",
    "kontiki.kv.v1.Kv",
    "kontiki.v1.Admin",
    "kontiki.raft.v1.Peer",
];

/// Health and reflection of a node.
#[derive(Debug)]
pub struct Probes {
    reporter: HealthReporter,
    /// The services, to which others may be added.
    pub routes: Routes,
}

/// The standard services; health says NOT_SERVING until [`Probes::follow`] says otherwise.
///
/// # Errors
/// The descriptors that were compiled in do not decode.
pub fn probes() -> Result<Probes, tonic_reflection::server::Error> {
    let reporter = HealthReporter::new();
    let health = HealthService::from_health_reporter(reporter.clone());
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // So that grpcurl shows the details of an error as text.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let health = tonic_health::pb::health_server::HealthServer::new(health);
    let routes = Routes::new(health).add_service(reflection);
    Ok(Probes { reporter, routes })
}

impl Probes {
    /// A task that keeps health at what the node says: SERVING while it is ready and not stopping.
    /// Ends with the node.
    pub fn follow(&self, handle: Handle) -> impl Future<Output = ()> + Send + 'static {
        let reporter = self.reporter.clone();
        async move {
            let mut ready = handle.ready();
            loop {
                let serving = match *ready.borrow_and_update() {
                    true => ServingStatus::Serving,
                    false => ServingStatus::NotServing,
                };
                for service in SERVICES {
                    reporter.set_service_status(service, serving).await;
                }
                if ready.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}
