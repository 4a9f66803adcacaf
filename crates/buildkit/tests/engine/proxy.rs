//! Other ways to the BuildKit of a docker daemon: as a server by itself, which no Debian package
//! has, and by TLS. Each connection is handed through; what is tested is the other side's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// A running proxy; dropping it ends it.
pub struct Proxy {
    /// What to give as `--builder`.
    pub builder: String,
    _runtime: Runtime,
}

/// Certificates of an authority, a server and a client.
pub struct Certificates {
    folder: tempfile::TempDir,
    config: Arc<ServerConfig>,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

impl Proxy {
    /// A BuildKit server by itself, on a socket of its own.
    pub fn buildkitd(docker: &Path, socket: &Path) -> Self {
        let (docker, runtime) = (docker.to_owned(), runtime());
        let listener = runtime.block_on(async { UnixListener::bind(socket) }).unwrap();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(hand_through(stream, docker.clone(), true));
            }
        });
        Self { builder: format!("unix://{}", socket.display()), _runtime: runtime }
    }

    /// By TCP and TLS: a BuildKit server by itself, or a docker daemon.
    pub fn tls(docker: &Path, certificates: &Certificates, as_docker: bool) -> Self {
        let (docker, runtime) = (docker.to_owned(), runtime());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut config = ServerConfig::clone(&certificates.config);
        if !as_docker {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        let acceptor = TlsAcceptor::from(Arc::new(config));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, docker) = (acceptor.clone(), docker.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        hand_through(stream, docker, !as_docker).await;
                    }
                });
            }
        });
        let scheme = if as_docker { "docker" } else { "tcp" };
        Self { builder: format!("{scheme}://127.0.0.1:{port}"), _runtime: runtime }
    }
}

async fn hand_through(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    docker: PathBuf,
    upgrade: bool,
) {
    let mut daemon = UnixStream::connect(docker).await.unwrap();
    if upgrade {
        let request =
            "POST /grpc HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
        daemon.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(daemon.read_u8().await.unwrap());
        }
    }
    // How it ends is for both sides to say.
    let _ = copy_bidirectional(&mut stream, &mut daemon).await;
}

impl Certificates {
    /// New ones, for 127.0.0.1. The server asks for the client's.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        write("ca.pem", ca.pem());
        let signed = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &ca).unwrap(), key)
        };
        let (client, key) = signed("client");
        write("cert.pem", client.pem());
        write("key.pem", key.serialize_pem());
        let (server, key) = signed("127.0.0.1");
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![server.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        Self { folder, config: Arc::new(config) }
    }

    /// `cacert=…`, and with the client's certificate.
    pub fn query(&self, with_client: bool) -> String {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mut query = format!("cacert={}", path("ca.pem"));
        if with_client {
            query += &format!("&cert={}&key={}", path("cert.pem"), path("key.pem"));
        }
        query
    }
}
