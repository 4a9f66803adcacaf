//! The service that hands over credentials for registries: `moby.filesync.v1.Auth`.

use std::collections::BTreeSet;

use bollard_buildkit_proto::moby::filesync::v1::auth_server::Auth;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse,
    GetTokenAuthorityRequest, GetTokenAuthorityResponse, VerifyTokenAuthorityRequest,
    VerifyTokenAuthorityResponse,
};
use tonic::{Request, Response, Status};

use crate::client::Credentials;

/// Those of the registries that the build names. A server that asks for others does not get
/// them, nor is it told whether we have any.
pub(crate) struct Registries {
    pub hosts: BTreeSet<String>,
    pub credentials: Option<Credentials>,
}

/// Docker Hub's names.
const HUB: &[&str] = &["docker.io", "registry-1.docker.io", "index.docker.io"];

/// The name of a registry as images have it.
fn canonical(host: &str) -> &str {
    if HUB.contains(&host) { HUB[0] } else { host }
}

#[tonic::async_trait]
impl Auth for Registries {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        let host = canonical(&host).to_owned();
        let Some(ask) = self.credentials.clone().filter(|_| self.hosts.contains(&host)) else {
            return Ok(Response::new(CredentialsResponse::default()));
        };
        // A credential helper is a program that takes its time.
        let known = tokio::task::spawn_blocking(move || ask(&host)).await;
        let known = known.map_err(|error| Status::internal(error.to_string()))?;
        let (username, secret) = known.unwrap_or_default();
        Ok(Response::new(CredentialsResponse { username, secret }))
    }

    // Without these, a server fetches tokens itself, with the credentials.

    async fn fetch_token(
        &self,
        _: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("ask for credentials"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("ask for credentials"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("ask for credentials"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn only_registries_that_the_build_names_get_credentials() {
        let registries = Registries {
            hosts: BTreeSet::from(["docker.io".into(), "named:5000".into()]),
            credentials: Some(Arc::new(|host: &str| Some((host.to_owned(), "secret".to_owned())))),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let ask = |host: &str| {
            let request = Request::new(CredentialsRequest { host: host.into() });
            runtime.block_on(registries.credentials(request)).unwrap().into_inner()
        };
        assert_eq!(ask("named:5000").username, "named:5000");
        assert_eq!(ask("registry-1.docker.io").username, "docker.io");
        assert_eq!(ask("other:5000"), CredentialsResponse::default());
    }
}
