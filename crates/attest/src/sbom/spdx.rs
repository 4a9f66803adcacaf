//! SPDX 2.3: <https://spdx.github.io/spdx-spec/v2.3/>.

use super::Subject;
use crate::{Package, Role, Scan, TOOL, VERSION};
use serde_json::{Value, json};

const NONE: &str = "NOASSERTION";

pub fn document(subject: &Subject, scan: &Scan, packages: &[&Package]) -> Value {
    let image = "SPDXRef-image";
    let mut itself = json!({
        "SPDXID": image,
        "name": subject.title(),
        "downloadLocation": NONE,
        "filesAnalyzed": false,
        "licenseConcluded": NONE,
        "licenseDeclared": NONE,
        "copyrightText": NONE,
        "primaryPackagePurpose": "CONTAINER",
    });
    if let (Some(digest), Some(locator)) = (&subject.digest, subject.purl()) {
        itself["versionInfo"] = digest.as_str().into();
        itself["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": digest.hex() }]);
        itself["externalRefs"] = json!([purl(&locator)]);
    }
    let mut listed = vec![itself];
    let identity = subject.identity(packages);
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", image)];
    for (number, package) in packages.iter().enumerate() {
        let id = id(number, package);
        let mut relation = match package.role {
            Role::Contained => relation(image, "CONTAINS", &id),
            Role::MayBeLinked | Role::Linked => relation(image, "STATIC_LINK", &id),
        };
        if let Some(comment) = package.role.comment() {
            relation["comment"] = comment.into();
        }
        relations.push(relation);
        listed.push(entry(&id, package));
    }
    if let Some(distribution) = &scan.distribution {
        let id = "SPDXRef-distribution";
        relations.push(relation(image, "CONTAINS", id));
        listed.push(json!({
            "SPDXID": id,
            "name": distribution,
            "downloadLocation": NONE,
            "filesAnalyzed": false,
            "licenseConcluded": NONE,
            "licenseDeclared": NONE,
            "copyrightText": NONE,
            "primaryPackagePurpose": "OPERATING-SYSTEM",
        }));
    }
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": subject.title(),
        // Clause 6.5: it need not lead anywhere, but be of this document only.
        "documentNamespace": format!("https://spdx.org/spdxdocs/{TOOL}-{}", identity.hex()),
        "creationInfo": {
            "created": subject.created,
            "creators": [format!("Tool: {TOOL}-{VERSION}")],
        },
        "packages": listed,
        "relationships": relations,
    })
}

fn entry(id: &str, package: &Package) -> Value {
    let license = package.spdx_license();
    let mut entry = json!({
        "SPDXID": id,
        "name": package.full_name(),
        "downloadLocation": NONE,
        "filesAnalyzed": false,
        "licenseConcluded": NONE,
        "licenseDeclared": license.unwrap_or(NONE),
        "copyrightText": NONE,
        "primaryPackagePurpose": "LIBRARY",
    });
    if !package.version.is_empty() {
        entry["versionInfo"] = package.version.as_str().into();
    }
    if let (None, Some(text)) = (license, &package.license) {
        entry["licenseComments"] = format!("The package says: {text}").into();
    }
    if !package.found_in.as_os_str().is_empty() {
        entry["sourceInfo"] = format!("found in /{}", package.found_in.display()).into();
    }
    if let Some(sha256) = &package.sha256 {
        entry["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": sha256 }]);
    }
    if let Some(locator) = package.purl() {
        entry["externalRefs"] = json!([purl(&locator)]);
    }
    entry
}

/// Clause 3.2: letters, digits, dots and dashes.
fn id(number: usize, package: &Package) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = package.full_name().chars().map(plain).collect();
    format!("SPDXRef-{number}-{}-{name}", package.kind)
}

fn purl(locator: &str) -> Value {
    json!({
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": locator,
    })
}

fn relation(element: &str, kind: &str, related: &str) -> Value {
    json!({
        "spdxElementId": element,
        "relationshipType": kind,
        "relatedSpdxElement": related,
    })
}
