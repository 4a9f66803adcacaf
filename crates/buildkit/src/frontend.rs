//! koskit as BuildKit's frontend.
//!
//! Where a Dockerfile begins with `# syntax=IMAGE`, or a build is given the argument
//! `BUILDKIT_SYNTAX=IMAGE`, BuildKit does not read the Dockerfile itself: it starts a container of
//! that image and lets it say what to build. The container talks to BuildKit by gRPC over its
//! standard input and output (`gateway`), reads the options of the build from its environment
//! (`options`), fetches the Dockerfile and what it must know of images through BuildKit
//! (`sources`), and answers with a graph for each platform and the configurations of the images
//! (`build`). A bill of materials is written by a command behind the build (`sbom`). So `docker buildx build` makes what `koskit build` makes, with its own cache and
//! its own way of telling about it.

use std::process::ExitCode;

use bollard_buildkit_proto::google::rpc;
use thiserror::Error;

use crate::error::chain;

mod build;
mod files;
mod gateway;
mod options;
mod requests;
mod sbom;
mod sources;

use gateway::Gateway;
use options::Given;

/// Why there is nothing to build.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// What BuildKit says to a call.
    #[error("{0}")]
    Call(String),
    /// An option that makes no sense, or of which this frontend knows nothing.
    #[error("{0}")]
    Option(String),
    #[error(transparent)]
    Dockerfile(#[from] koskit_frontend::FrontendError),
    #[error(transparent)]
    Adapt(#[from] koskit_transform::AdaptError),
    #[error(transparent)]
    Graph(#[from] koskit_llb::GraphError),
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        Self::Call(status.message().to_owned())
    }
}

type Result<T, E = Failure> = std::result::Result<T, E>;

/// Says to the BuildKit that has started this process what to build: the whole of what a
/// container of the frontend's image does.
///
/// Nobody reads what it prints. What is wrong with the build is told to BuildKit; the exit code
/// tells only whether that was possible.
pub fn serve() -> ExitCode {
    let Some(given) = Given::of_environment() else {
        eprintln!(
            "koskit frontend is started by BuildKit, in a container of an image that a Dockerfile \
             names by # syntax= or a build by --build-arg BUILDKIT_SYNTAX="
        );
        return ExitCode::FAILURE;
    };
    let gateway = match Gateway::open() {
        Ok(gateway) => gateway,
        Err(error) => {
            eprintln!("koskit frontend cannot talk to BuildKit: {error}");
            return ExitCode::FAILURE;
        }
    };
    let answered = match build::build(&gateway, &given) {
        Ok(result) => gateway.answer(Ok(result)),
        Err(failure) => gateway.answer(Err(rpc::Status {
            // What a user has to mend is no fault of the server's.
            code: tonic::Code::InvalidArgument.into(),
            message: chain(&failure),
            details: Vec::new(),
        })),
    };
    gateway.leave();
    match answered {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("koskit frontend cannot answer: {failure}");
            ExitCode::FAILURE
        }
    }
}
