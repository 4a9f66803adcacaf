//! What a server says went wrong, in words that help.

use bollard_buildkit_proto::google::rpc;
use koskit_llb::Digest;
use prost::Message as _;
use serde_json::Value;
use tonic::{Code, Status};

use crate::Error;
use crate::address::Address;
use crate::error::chain;

/// The error of a call.
pub(crate) fn of_call(status: &Status, address: &Address) -> Error {
    let message = status.message();
    let lacks = |why: &str| Error::Capability { address: address.shown.clone(), why: why.into() };
    let lost = |why: String| Error::Connection {
        what: address.what(),
        address: address.shown.clone(),
        why,
    };
    // A status with a cause was made here: the connection has failed, and not a call.
    if let Some(source) = std::error::Error::source(status) {
        return lost(format!("the connection broke: {}", chain(source)));
    }
    if status.code() == Code::Unimplemented {
        return lost("it is no BuildKit server, as it does not know its calls".into());
    }
    if message.contains("exporter") && message.contains("could not be found") {
        return lacks(
            "it has no exporter for OCI images; let a docker daemon keep its images in containerd \
             (\"features\": {\"containerd-snapshotter\": true} in its daemon.json)",
        );
    }
    // A docker daemon that keeps images by itself writes caches within images alone.
    for (words, what) in
        [("unknown cache exporter: ", "write"), ("unknown cache importer: ", "read")]
    {
        if let Some((_, kind)) = message.split_once(words) {
            let kind = kind.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            return lacks(&format!(
                "it does not {what} caches of the type {kind}; let a docker daemon keep its \
                 images in containerd (\"features\": {{\"containerd-snapshotter\": true}} in its \
                 daemon.json), or use another builder"
            ));
        }
    }
    if let Some((_, what)) = message.split_once("entitlement ") {
        if let Some(what) = what.split(' ').next().filter(|_| message.contains("not allowed")) {
            return Error::Step {
                vertex: vertex(status),
                message: format!("a step asks for {what}; allow it by --allow {what}"),
            };
        }
    }
    if message.contains("unknown API capability") || message.contains("unsupported") {
        return lacks(message);
    }
    Error::Step { vertex: vertex(status), message: message.to_owned() }
}

/// The step that failed: servers say it in a detail of the status, as JSON.
fn vertex(status: &Status) -> Option<Digest> {
    let details = rpc::Status::decode(status.details()).ok()?.details;
    let vertex = details.iter().find(|detail| detail.type_url.contains("errdefs.Vertex"))?;
    let vertex: Value = serde_json::from_slice(&vertex.value).ok()?;
    vertex["digest"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard_buildkit_proto::google::protobuf::Any;

    fn error(code: Code, message: &str) -> String {
        let address = Address::parse("unix:///x.sock").unwrap();
        of_call(&Status::new(code, message), &address).to_string()
    }

    #[test]
    fn what_a_server_lacks_is_said_with_what_helps() {
        let exporter = error(Code::Unknown, "exporter \"oci\" could not be found");
        assert!(exporter.contains("containerd-snapshotter"), "{exporter}");
        let entitlement = error(Code::Unknown, "entitlement network.host is not allowed");
        assert!(entitlement.ends_with("--allow network.host"), "{entitlement}");
        let cache = error(Code::Unknown, "unknown cache exporter: \"local\"");
        assert!(cache.contains("does not write caches of the type local;"), "{cache}");
        let call = error(Code::Unimplemented, "unknown service");
        assert!(call.contains("no BuildKit server"), "{call}");
    }

    #[test]
    fn a_failed_step_is_found_again() {
        let digest = Digest::of(b"op");
        let detail = Any {
            type_url: "github.com/moby/buildkit/errdefs.Vertex+json".into(),
            value: format!(r#"{{"digest":"{digest}"}}"#).into_bytes(),
        };
        let details = rpc::Status { code: 2, message: "no".into(), details: vec![detail] };
        let status = Status::with_details(Code::Unknown, "no", details.encode_to_vec().into());
        let address = Address::parse("unix:///x.sock").unwrap();
        let Error::Step { vertex, message } = of_call(&status, &address) else { panic!() };
        assert_eq!((vertex, message.as_str()), (Some(digest), "no"));
    }
}
