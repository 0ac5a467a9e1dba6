//! Answers that refuse: counted and logged, and those that the gRPC library gives by itself made
//! clear, with a reason and an outcome like all others.

use std::collections::HashMap;
use std::net::IpAddr;

use http::Response;
use kontiki_proto::{ERROR_DOMAIN, metadata, reason};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::handle::Handle;
use crate::metrics::{Face, Reason};

/// Where a request came from, for services that find out later what is wrong with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote(pub(crate) IpAddr);

/// Looks at an answer. Costs one look at a header unless it is an error.
pub(super) fn look(
    handle: &Handle,
    face: Face,
    peer: IpAddr,
    response: Response<Body>,
) -> Response<Body> {
    // Only an answer that is nothing but an error has its status in front.
    match response.headers().get("grpc-status") {
        Some(code) if code != "0" => {}
        _ => return response,
    }
    let Some(status) = Status::from_header_map(response.headers()) else {
        return response;
    };
    let details = status.get_error_details();
    if let Some(info) = details.error_info() {
        // The peers' face counts for itself.
        if face != Face::Peer
            && let Some(reason) = of_reason(&info.reason)
        {
            handle.refuse(face, reason, peer, &status.message());
        }
        return response;
    }
    let Some((reason, code, name)) = of_library(&status) else {
        return response;
    };
    handle.refuse(face, reason, peer, &status.message());
    clear(code, status.message(), name).into_http()
}

/// A refusal of which nothing was done.
pub(crate) fn clear(code: Code, message: &str, reason: &str) -> Status {
    let failed = HashMap::from([(metadata::OUTCOME.into(), "FAILED".into())]);
    let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, failed);
    Status::with_error_details(code, message, details)
}

/// What a status without details means that a service did not make itself: it was not called.
pub(crate) fn of_library(status: &Status) -> Option<(Reason, Code, &'static str)> {
    Some(match status.code() {
        Code::OutOfRange => (Reason::TooLarge, Code::InvalidArgument, reason::TOO_LARGE),
        Code::Internal => (Reason::Malformed, Code::InvalidArgument, reason::MALFORMED),
        Code::Unimplemented => (Reason::UnknownMethod, Code::Unimplemented, reason::INVALID),
        Code::ResourceExhausted => (Reason::TooMany, Code::ResourceExhausted, reason::QUEUE_FULL),
        _ => return None,
    })
}

/// What is the caller's fault, of all that `google.rpc.ErrorInfo` may say.
pub(crate) fn of_reason(name: &str) -> Option<Reason> {
    Some(match name {
        reason::INVALID | reason::BAD_CONTINUATION | reason::REFUSED_BY_MACHINE => Reason::Invalid,
        reason::TOO_LARGE => Reason::TooLarge,
        reason::TOO_LATE => Reason::Late,
        reason::WRONG_MACHINE => Reason::WrongMachine,
        reason::WRONG_CLUSTER => Reason::WrongCluster,
        reason::WRONG_SERVER => Reason::WrongServer,
        reason::QUEUE_FULL | reason::SESSION_WINDOW_FULL => Reason::TooMany,
        reason::SESSION_EXPIRED | reason::SEQUENCE_ALREADY_ACKNOWLEDGED => Reason::Repeated,
        _ => return None,
    })
}
