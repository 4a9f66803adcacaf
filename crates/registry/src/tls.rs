//! Whom an HTTPS connection trusts.
//!
//! The authorities are the system's (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others), the files
//! that the user names, and those of docker's folders for this registry alone:
//! `certs.d/HOST[:PORT]/*.crt`, where also `client.cert` and `client.key` say who we are.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use koskit_image::folders;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::Error;

/// The configuration for one registry.
///
/// # Errors
/// A file cannot be read, or has no certificate.
pub(crate) fn config(
    domain: &str,
    extra: &[PathBuf],
    insecure: bool,
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has the ciphers of both versions");
    let folders = folders(domain);
    let builder = if insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    } else {
        // What of the system's cannot be read is not trusted, which is safe.
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for path in extra {
            add(&mut roots, path)?;
        }
        for path in folders.iter().flat_map(|folder| files(folder, "crt")) {
            add(&mut roots, &path)?;
        }
        builder.with_root_certificates(roots)
    };
    let client = folders.iter().flat_map(|folder| files(folder, "cert")).next();
    let Some(certificate) = client else { return Ok(builder.with_no_client_auth()) };
    let key = certificate.with_extension("key");
    let chain = certificates(&certificate)?;
    let invalid =
        |path: &Path, why: &dyn ToString| Error::Config { path: path.into(), why: why.to_string() };
    let own = PrivateKeyDer::from_pem_file(&key).map_err(|e| invalid(&key, &e))?;
    builder.with_client_auth_cert(chain, own).map_err(|e| invalid(&certificate, &e))
}

/// Where certificates for a registry are, as docker and podman look for them.
fn folders(domain: &str) -> Vec<PathBuf> {
    let own = folders::config()
        .into_iter()
        .flat_map(|own| ["koskit", "docker", "containers"].map(|tool| own.join(tool)));
    let system = ["/etc/docker", "/etc/containers"].map(PathBuf::from);
    own.chain(system).map(|base| base.join("certs.d").join(domain)).filter(|p| p.is_dir()).collect()
}

/// The files of a folder with this ending, sorted.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> =
        entries.filter(|p| p.extension().is_some_and(|e| e == ending)).collect();
    files.sort();
    files
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), Error> {
    for certificate in certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|e| Error::Config { path: path.into(), why: e.to_string() })?;
    }
    Ok(())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = fs::read(path).map_err(Error::file("read", path))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => {
            Err(Error::Config { path: path.into(), why: "it has no certificate in PEM".into() })
        }
        Err(e) => Err(Error::Config { path: path.into(), why: e.to_string() }),
    }
}

/// Trusts anybody, as the user has asked for.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
