//! The operator's side of `kontiki.v1.Admin`: every call has a timeout, connections are shared and
//! bounded, and an error says whether the call *failed* or its outcome is *unknown*.

mod channels;

use std::time::Duration;

use kontiki_proto::v1::admin_client::AdminClient;
use kontiki_proto::{metadata, v1};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use self::channels::Channels;

/// How long a server may take to say how it is. Past it the server is *unknown*, never absent.
pub const STATUS_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a call that changes something may take. Past it the outcome is unknown, and the next
/// look at the servers decides.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The server said no; nothing happened.
    #[error("{address} refused {call}: {reason}: {message}")]
    Refused {
        /// Whom.
        address: String,
        /// Which method.
        call: &'static str,
        /// `ErrorInfo.reason`.
        reason: String,
        /// For people.
        message: String,
    },
    /// Whether it happened is not known: no answer in time, or a broken connection.
    #[error("{address} did not answer {call}: {message}")]
    Unknown {
        /// Whom.
        address: String,
        /// Which method.
        call: &'static str,
        /// For people.
        message: String,
    },
}

impl CallError {
    /// The `ErrorInfo.reason` of a refusal.
    pub fn reason(&self) -> Option<&str> {
        match self {
            CallError::Refused { reason, .. } => Some(reason),
            CallError::Unknown { .. } => None,
        }
    }
}

/// Calls to servers by their peer address (HOST:PORT). Cheap to clone; clones share connections.
#[derive(Clone, Default)]
pub struct Admin {
    channels: Channels,
}

/// Calls one method, with its name for errors.
macro_rules! call {
    ($self:ident, $address:expr, $timeout:expr, $method:ident, $request:expr) => {{
        let mut client = $self.client($address, stringify!($method))?;
        let answer = tokio::time::timeout($timeout, client.$method($request)).await;
        $self.settle($address, stringify!($method), answer)
    }};
}

impl Admin {
    /// How the server is. Never waits for consensus.
    pub async fn status(&self, address: &str) -> Result<v1::StatusResponse, CallError> {
        call!(self, address, STATUS_TIMEOUT, status, v1::StatusRequest {})
    }

    /// Gives a fresh server its cluster.
    pub async fn bootstrap(
        &self,
        address: &str,
        request: v1::BootstrapRequest,
    ) -> Result<(), CallError> {
        call!(self, address, CALL_TIMEOUT, bootstrap, request).map(|_| ())
    }

    /// Opens the cluster for client writes; to the leader.
    pub async fn activate(&self, address: &str, cluster_id: String) -> Result<(), CallError> {
        let request = v1::ActivateRequest { cluster_id };
        call!(self, address, CALL_TIMEOUT, activate, request).map(|_| ())
    }

    /// Adds servers; to the leader.
    pub async fn add_server(
        &self,
        address: &str,
        request: v1::AddServerRequest,
    ) -> Result<(), CallError> {
        call!(self, address, CALL_TIMEOUT, add_server, request).map(|_| ())
    }

    /// Takes servers out; to the leader.
    pub async fn remove_server(
        &self,
        address: &str,
        request: v1::RemoveServerRequest,
    ) -> Result<(), CallError> {
        call!(self, address, CALL_TIMEOUT, remove_server, request).map(|_| ())
    }

    /// Puts a server in the place of a lost one; to the leader.
    pub async fn replace_server(
        &self,
        address: &str,
        request: v1::ReplaceServerRequest,
    ) -> Result<(), CallError> {
        call!(self, address, CALL_TIMEOUT, replace_server, request).map(|_| ())
    }

    /// Hands leadership to `target` (empty: whoever is furthest); to the leader.
    pub async fn transfer(
        &self,
        address: &str,
        cluster_id: String,
        target: String,
    ) -> Result<(), CallError> {
        let request = v1::TransferLeadershipRequest { cluster_id, target };
        call!(self, address, CALL_TIMEOUT, transfer_leadership, request).map(|_| ())
    }

    /// Makes exactly this server campaign.
    pub async fn trigger_election(
        &self,
        address: &str,
        cluster_id: String,
        server_id: String,
    ) -> Result<(), CallError> {
        let request = v1::TriggerElectionRequest {
            cluster_id,
            server_id,
        };
        call!(self, address, CALL_TIMEOUT, trigger_election, request).map(|_| ())
    }

    /// Has exactly this server stop for good, its memory kept.
    pub async fn quarantine(
        &self,
        address: &str,
        cluster_id: String,
        server_id: String,
        why: String,
    ) -> Result<(), CallError> {
        let request = v1::QuarantineRequest {
            cluster_id,
            server_id,
            why,
        };
        call!(self, address, CALL_TIMEOUT, quarantine, request).map(|_| ())
    }

    /// Tells a server where others are.
    pub async fn introduce(
        &self,
        address: &str,
        cluster_id: String,
        servers: Vec<v1::Server>,
    ) -> Result<(), CallError> {
        let request = v1::IntroduceRequest {
            cluster_id,
            servers,
        };
        call!(self, address, STATUS_TIMEOUT, introduce, request).map(|_| ())
    }

    fn client(&self, address: &str, call: &'static str) -> Result<AdminClient<Channel>, CallError> {
        let channel = self
            .channels
            .get(address)
            .map_err(|error| CallError::Refused {
                address: address.to_owned(),
                call,
                reason: "INVALID".to_owned(),
                message: error.to_string(),
            })?;
        Ok(AdminClient::new(channel))
    }

    /// Sorts answers from refusals from silence. After silence the connection is given up, so that
    /// a stuck one cannot hide a healthy server for longer than one look.
    fn settle<T>(
        &self,
        address: &str,
        call: &'static str,
        answer: Result<Result<Response<T>, Status>, tokio::time::error::Elapsed>,
    ) -> Result<T, CallError> {
        let error = match answer {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => from_status(address, call, &status),
            Err(_elapsed) => CallError::Unknown {
                address: address.to_owned(),
                call,
                message: "no answer in time".to_owned(),
            },
        };
        if matches!(error, CallError::Unknown { .. }) {
            self.channels.forget(address);
        }
        Err(error)
    }
}

/// A status with our detail is the server's own word; without it nothing is known.
fn from_status(address: &str, call: &'static str, status: &Status) -> CallError {
    let unknown = |message: &str| CallError::Unknown {
        address: address.to_owned(),
        call,
        message: message.to_owned(),
    };
    let Some(info) = status.get_details_error_info() else {
        return unknown(&format!("{:?}: {}", status.code(), status.message()));
    };
    let outcome = info.metadata.get(metadata::OUTCOME).map(String::as_str);
    if info.domain != kontiki_proto::ERROR_DOMAIN
        || outcome == Some("UNKNOWN")
        || status.code() == Code::DeadlineExceeded
    {
        return unknown(status.message());
    }
    CallError::Refused {
        address: address.to_owned(),
        call,
        reason: info.reason,
        message: status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn detailed(code: Code, reason: &str, outcome: &str) -> Status {
        let metadata = HashMap::from([(metadata::OUTCOME.to_owned(), outcome.to_owned())]);
        let details = ErrorDetails::with_error_info(reason, kontiki_proto::ERROR_DOMAIN, metadata);
        Status::with_error_details(code, "not here", details)
    }

    #[test]
    fn a_refusal_in_our_own_words_failed() {
        let status = detailed(Code::FailedPrecondition, "NOT_LEADER", "FAILED");
        let error = from_status("10.0.0.1:7401", "add_server", &status);
        assert_eq!(error.reason(), Some("NOT_LEADER"));
        assert_eq!(
            error.to_string(),
            "10.0.0.1:7401 refused add_server: NOT_LEADER: not here"
        );
    }

    #[test]
    fn a_broken_connection_or_a_wait_given_up_is_unknown() {
        let broken = Status::unavailable("connection reset");
        let waited = detailed(Code::DeadlineExceeded, "TIMED_OUT", "UNKNOWN");
        let said = detailed(Code::Unknown, "OUTCOME_UNKNOWN", "UNKNOWN");
        for status in [broken, waited, said] {
            let error = from_status("10.0.0.1:7401", "activate", &status);
            assert!(matches!(error, CallError::Unknown { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unknown() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = Admin::default().status(&address).await.unwrap_err();
        assert!(matches!(error, CallError::Unknown { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_unknown_within_the_timeout() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let started = std::time::Instant::now();
        let error = Admin::default().status(&address).await.unwrap_err();
        assert!(matches!(error, CallError::Unknown { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[tokio::test]
    async fn an_address_that_is_none_names_itself() {
        let error = Admin::default().status("not an address").await.unwrap_err();
        assert!(error.to_string().contains("not an address"), "{error}");
    }
}
