//! The methods as tonic calls them: each counted, each error a status.

use kontiki_proto::v1;
use kontiki_proto::v1::admin_server::Admin;
use tonic::{Request, Response, Status};

use super::super::data::finish;
use super::AdminService;
use crate::metrics::Method;

#[tonic::async_trait]
impl Admin for AdminService {
    async fn bootstrap(
        &self,
        request: Request<v1::BootstrapRequest>,
    ) -> Result<Response<v1::BootstrapResponse>, Status> {
        finish(
            &self.handle,
            Method::Bootstrap,
            self.bootstrap(request).await,
        )
    }

    async fn activate(
        &self,
        request: Request<v1::ActivateRequest>,
    ) -> Result<Response<v1::ActivateResponse>, Status> {
        finish(&self.handle, Method::Activate, self.activate(request).await)
    }

    async fn add_server(
        &self,
        request: Request<v1::AddServerRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        finish(&self.handle, Method::AddServer, self.add(request).await)
    }

    async fn remove_server(
        &self,
        request: Request<v1::RemoveServerRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        finish(
            &self.handle,
            Method::RemoveServer,
            self.remove(request).await,
        )
    }

    async fn replace_server(
        &self,
        request: Request<v1::ReplaceServerRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        finish(
            &self.handle,
            Method::ReplaceServer,
            self.replace(request).await,
        )
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        finish(
            &self.handle,
            Method::TransferLeadership,
            self.transfer(request).await,
        )
    }

    async fn trigger_election(
        &self,
        request: Request<v1::TriggerElectionRequest>,
    ) -> Result<Response<v1::TriggerElectionResponse>, Status> {
        finish(
            &self.handle,
            Method::TriggerElection,
            self.trigger(request).await,
        )
    }

    async fn quarantine(
        &self,
        request: Request<v1::QuarantineRequest>,
    ) -> Result<Response<v1::QuarantineResponse>, Status> {
        finish(
            &self.handle,
            Method::Quarantine,
            self.quarantine(request).await,
        )
    }

    async fn await_leader(
        &self,
        request: Request<v1::AwaitLeaderRequest>,
    ) -> Result<Response<v1::AwaitLeaderResponse>, Status> {
        finish(
            &self.handle,
            Method::AwaitLeader,
            self.await_leader(request).await,
        )
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        finish(&self.handle, Method::Status, self.status(request).await)
    }

    async fn introduce(
        &self,
        request: Request<v1::IntroduceRequest>,
    ) -> Result<Response<v1::IntroduceResponse>, Status> {
        let result = self.introduce(request.into_inner());
        finish(&self.handle, Method::Introduce, result)
    }

    async fn ping(
        &self,
        _request: Request<v1::PingRequest>,
    ) -> Result<Response<v1::PingResponse>, Status> {
        finish(&self.handle, Method::Ping, Ok(self.ping()))
    }

    async fn inspect(
        &self,
        request: Request<v1::InspectRequest>,
    ) -> Result<Response<v1::InspectResponse>, Status> {
        finish(&self.handle, Method::Inspect, self.inspect(request).await)
    }

    async fn stop_server(
        &self,
        request: Request<v1::StopServerRequest>,
    ) -> Result<Response<v1::StopServerResponse>, Status> {
        let result = self.stop_server(request.into_inner());
        finish(&self.handle, Method::StopServer, result)
    }
}
