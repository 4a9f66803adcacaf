//! The service that hands over secrets: `moby.buildkit.secrets.v1.Secrets`.

use std::collections::BTreeMap;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use koskit_llb::Secret;
use tonic::{Request, Response, Status};

use super::Failures;
use crate::Error;

/// The secrets of this build, and no others.
pub(crate) struct Secrets {
    pub known: BTreeMap<String, Secret>,
    pub failures: Failures,
}

#[tonic::async_trait]
impl secrets_server::Secrets for Secrets {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        // A step may do without: the server decides by this very code.
        let secret = self.known.get(&id).cloned();
        let secret = secret.ok_or_else(|| Status::not_found(format!("no secret {id:?}")))?;
        let read = tokio::task::spawn_blocking(move || secret.read()).await;
        match read.map_err(|error| Status::internal(error.to_string()))? {
            Ok(data) => Ok(Response::new(GetSecretResponse { data })),
            Err(source) => {
                let what = format!("the secret {id}");
                let status = Status::failed_precondition(format!("{what} cannot be read"));
                self.failures.add(Error::Input { what, source });
                Err(status)
            }
        }
    }
}
