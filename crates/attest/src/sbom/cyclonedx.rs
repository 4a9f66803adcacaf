//! CycloneDX 1.5: <https://cyclonedx.org/docs/1.5/json/>.

use super::Subject;
use crate::{Package, Role, TOOL, VERSION};
use koskit_llb::Digest;
use serde_json::{Value, json};

pub fn document(subject: &Subject, packages: &[&Package]) -> Value {
    let purl = subject.purl();
    let image = purl.clone().unwrap_or_else(|| "image".to_owned());
    let components: Vec<Value> = packages
        .iter()
        .enumerate()
        .map(|(number, package)| component(&reference(number, package), package))
        .collect();
    let all: Vec<&Value> = components.iter().map(|component| &component["bom-ref"]).collect();
    let mut itself = json!({ "bom-ref": image, "type": "container", "name": subject.title() });
    if let (Some(digest), Some(purl)) = (&subject.digest, purl) {
        itself["version"] = digest.as_str().into();
        itself["purl"] = purl.into();
    }
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": format!("urn:uuid:{}", uuid(&subject.identity(packages))),
        "version": 1,
        "metadata": {
            "timestamp": subject.created,
            "tools": { "components": [
                { "type": "application", "name": TOOL, "version": VERSION },
            ] },
            "component": itself,
        },
        "components": components,
        "dependencies": [{ "ref": image, "dependsOn": all }],
    })
}

/// A name within the document.
fn reference(number: usize, package: &Package) -> String {
    package.purl().map_or_else(|| format!("package-{number}"), |purl| format!("{number}-{purl}"))
}

fn component(reference: &str, package: &Package) -> Value {
    let mut component = json!({
        "bom-ref": reference,
        "type": "library",
        "name": package.name,
        "version": package.version,
    });
    if !package.namespace.is_empty() {
        component["group"] = package.namespace.as_str().into();
    }
    if let Some(purl) = package.purl() {
        component["purl"] = purl.into();
    }
    if let Some(license) = package.spdx_license() {
        component["licenses"] = json!([{ "expression": license }]);
    } else if let Some(text) = &package.license {
        component["licenses"] = json!([{ "license": { "name": text } }]);
    }
    if let Some(sha256) = &package.sha256 {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
    }
    let mut properties = Vec::new();
    if !package.found_in.as_os_str().is_empty() {
        let value = format!("/{}", package.found_in.display());
        properties.push(json!({ "name": "koskit:location", "value": value }));
    }
    let role = match package.role {
        Role::Contained => None,
        Role::MayBeLinked => Some("may-be-linked"),
        Role::Linked => Some("linked"),
    };
    if let (Some(role), Some(comment)) = (role, package.role.comment()) {
        properties.push(json!({ "name": "koskit:role", "value": role }));
        properties.push(json!({ "name": "koskit:comment", "value": comment }));
    }
    if !properties.is_empty() {
        component["properties"] = properties.into();
    }
    component
}

/// A UUID of version 8, RFC 9562: of the image, so that the same one has the same number.
fn uuid(digest: &Digest) -> String {
    let hex = Digest::of(format!("CycloneDX {digest}").as_bytes()).hex().to_owned();
    format!("{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}
