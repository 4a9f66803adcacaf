//! The connection to a builder: a socket or TCP, TLS where it is asked for, and then HTTP/2.
//!
//! A BuildKit server speaks HTTP/2 from the first byte. A docker daemon speaks HTTP/1.1; its
//! BuildKit is behind `POST /grpc`, after which the same connection speaks HTTP/2 (`h2c`).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint as Grpc};

use crate::Error;
use crate::address::{Address, Endpoint, Tls};
use crate::error::chain;

/// How long a connection may take to come about.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a server may be silent when it is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(60);
/// What may be under way without being taken: all of the build's files go through one stream.
const WINDOW: u32 = 4 << 20;
/// More than this is no head of an HTTP response.
const MAX_HEAD: usize = 16 << 10;

/// A connection, whatever it is made of.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(crate) type Connection = Box<dyn Stream>;

/// Connects, so far that calls can be made.
pub(crate) async fn connect(address: &Address) -> Result<Channel, Error> {
    let stream = tokio::time::timeout(PATIENCE, open(address)).await;
    let stream = stream.unwrap_or_else(|_| {
        Err(Error::NotThere {
            what: address.what(),
            address: address.shown.clone(),
            source: io::ErrorKind::TimedOut.into(),
        })
    })?;
    channel(stream).await.map_err(|error| broken(address, chain(&error)))
}

/// Speaks HTTP/2 through a connection.
pub(crate) async fn channel(stream: Connection) -> Result<Channel, tonic::transport::Error> {
    Grpc::from_static("http://buildkit")
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .http2_keep_alive_interval(SILENCE)
        .keep_alive_timeout(SILENCE)
        .connect_with_connector(Once(Mutex::new(Some(stream))))
        .await
}

fn broken(address: &Address, why: impl Into<String>) -> Error {
    Error::Connection { what: address.what(), address: address.shown.clone(), why: why.into() }
}

async fn open(address: &Address) -> Result<Connection, Error> {
    let failed = |source: io::Error| {
        let (what, address) = (address.what(), address.shown.clone());
        match source.kind() {
            io::ErrorKind::PermissionDenied => Error::NotAllowed { address, source },
            _ => Error::NotThere { what, address, source },
        }
    };
    let stream: Connection = match &address.endpoint {
        Endpoint::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(failed)?),
        Endpoint::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
            // Small messages wait for answers.
            stream.set_nodelay(true).map_err(failed)?;
            match &address.tls {
                Some(tls) => secure(stream, host, tls, address).await?,
                None => Box::new(stream),
            }
        }
    };
    match address.docker {
        true => upgrade(stream, address).await,
        false => Ok(stream),
    }
}

async fn secure(
    stream: TcpStream,
    host: &str,
    tls: &Tls,
    address: &Address,
) -> Result<Connection, Error> {
    let mut config = configuration(tls)?;
    if !address.docker {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    let name = tls.server_name.as_deref().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name.clone())
        .map_err(|_| broken(address, format!("{name:?} is no name of a server")))?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await;
    Ok(Box::new(stream.map_err(|error| broken(address, chain(&error)))?))
}

fn configuration(tls: &Tls) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3");
    let builder = if tls.any {
        let any = Arc::new(Any(provider));
        builder.dangerous().with_custom_certificate_verifier(any)
    } else {
        builder.with_root_certificates(roots(tls)?)
    };
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let bad = |what, path: &std::path::Path, why: String| Error::Certificate {
        what,
        path: path.to_owned(),
        why,
    };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
    let chain: Vec<_> = chain.map_err(|e| bad("certificate", cert, e.to_string()))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| bad("key", key, e.to_string()))?;
    builder.with_client_auth_cert(chain, secret).map_err(|e| bad("key", key, e.to_string()))
}

fn roots(tls: &Tls) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(path) => {
            let bad = |why: String| Error::Certificate {
                what: "certificate of an authority",
                path: path.clone(),
                why,
            };
            let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
            let certificates: Vec<_> = certificates.map_err(|e| bad(e.to_string()))?;
            if certificates.is_empty() {
                return Err(bad("there is none in it".into()));
            }
            for certificate in certificates {
                roots.add(certificate).map_err(|e| bad(e.to_string()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

/// Lets a docker daemon hand over to its BuildKit.
async fn upgrade(mut stream: Connection, address: &Address) -> Result<Connection, Error> {
    let request = "POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\n\
                   Upgrade: h2c\r\nContent-Length: 0\r\n\r\n";
    let lost = |error: io::Error| broken(address, error.to_string());
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // Byte by byte: what follows is no longer HTTP/1.1.
        let byte = stream.read_u8().await.map_err(|_| {
            broken(address, "it answers with no HTTP; is it a BuildKit server (unix://, tcp://)?")
        })?;
        head.push(byte);
        if head.len() > MAX_HEAD {
            return Err(broken(address, "its answer has no end"));
        }
    }
    let status = String::from_utf8_lossy(&head);
    let status = status.lines().next().unwrap_or_default().to_owned();
    match status.split(' ').nth(1) {
        Some("101") => Ok(stream),
        Some("400") if address.tls.is_none() && !matches!(address.endpoint, Endpoint::Unix(_)) => {
            Err(broken(address, "it wants TLS"))
        }
        Some("404" | "405" | "501") => Err(Error::Capability {
            address: address.shown.clone(),
            why: "this docker daemon has no BuildKit that others can use (POST /grpc)".into(),
        }),
        _ => Err(broken(address, format!("it answers {status:?}"))),
    }
}

/// Gives the one connection that there is; when that breaks, there is no other.
struct Once(Mutex<Option<Connection>>);

impl Service<Uri> for Once {
    type Response = TokioIo<Connection>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let stream = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let stream = stream.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset));
        Box::pin(async { stream.map(TokioIo::new) })
    }
}

/// Takes any certificate, as docker's `SkipTLSVerify` asks.
#[derive(Debug)]
struct Any(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
