//! Registries that ask for tokens, and a token server of our own.

mod common;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::fake::Fake;
use common::server::{Answer, Handler, Request, Server};
use common::*;
use koskit_registry::{Client, Credential, Credentials, Options, Secret};

/// Gives `token` to the user `me` with the password `secret`, and for the identity token `id`.
fn token_server() -> Server {
    Server::start(|request: &Request| {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let basic = format!("Basic {}", STANDARD.encode("me:secret"));
        let known = match request.method.as_str() {
            "GET" => request.header("authorization") == Some(basic.as_str()),
            _ => {
                form.contains("grant_type=refresh_token&refresh_token=id&")
                    || form.contains("grant_type=password&username=me&password=secret&")
            }
        };
        if !known {
            return Answer::new(401).body("{\"details\":\"incorrect username or password\"}");
        }
        let refresh = match form.contains("access_type=offline") {
            true => ",\"refresh_token\":\"id\"",
            false => "",
        };
        Answer::new(200).body(format!("{{\"token\":\"tok.en\",\"expires_in\":300{refresh}}}"))
    })
}

/// A registry that takes this server's tokens.
fn registry(tokens: &Server) -> (Arc<Fake>, Server) {
    let fake = Arc::new(Fake::default());
    fake.state().authorization = Some("Bearer tok.en".into());
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"registry.example\",scope=\"repository:x:pull\"",
        tokens.host()
    );
    fake.state().challenge = Some(challenge);
    let server = Server::with(Arc::clone(&fake));
    (fake, server)
}

fn client(server: &Server, credential: Option<&Credential>) -> (tempfile::TempDir, Client) {
    let folder = tempfile::tempdir().unwrap();
    let credentials = Credentials::file(folder.path().join("config.json"));
    if let Some(credential) = credential {
        credentials.set(&server.host(), credential).unwrap();
    }
    (folder, Client::new(Options { credentials, ..options() }))
}

fn password(password: &str) -> Credential {
    Credential::Password { user: "me".into(), password: Secret::from(password.to_owned()) }
}

#[test]
fn a_token_is_asked_for_once_for_all_that_it_allows() {
    let tokens = token_server();
    let (fake, server) = registry(&tokens);
    fake.image("1", &noise(1, 10_000));
    let (_folder, client) = client(&server, Some(&password("secret")));
    let (_store_folder, store) = store();
    let pulled = client.pull(&name(&server.name("team/a:1")), Some(&arm64()), &store, &|_| {});
    assert!(is_whole(&store, &pulled.unwrap().images[0]));
    let seen = tokens.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].query("service").as_deref(), Some("registry.example"));
    assert_eq!(seen[0].query("scope").as_deref(), Some("repository:team/a:pull"));
    assert_eq!(seen[0].query("account").as_deref(), Some("me"));
    // The password went to the token server only.
    let sent =
        server.seen().into_iter().filter_map(|r| r.header("authorization").map(str::to_owned));
    assert!(sent.into_iter().all(|sent| sent == "Bearer tok.en"));

    let image = image(&store, "arm64", 2, 1000);
    client.push(&store, &image.descriptor, &name(&server.name("team/a:2")), &|_| {}).unwrap();
    let seen = tokens.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1].query("scope").as_deref(), Some("repository:team/a:pull,push"));
}

#[test]
fn a_mount_asks_for_the_right_to_read_there() {
    let tokens = token_server();
    let (fake, server) = registry(&tokens);
    let (_store_folder, store) = store();
    let image = image(&store, "arm64", 1, 1000);
    let bytes = std::fs::read(store.blob_path(&image.layers[0].digest)).unwrap();
    fake.blob(&bytes);
    store.tag(&name(&server.name("mountable:1")), &image.descriptor).unwrap();
    // It is in the registry, but not for who asks for it in another repository.
    let hidden = image.layers[0].digest.to_string();
    let hiding = Arc::new(Hiding { fake: Arc::clone(&fake), hidden });
    let server = Server::with(hiding);
    store.tag(&name(&server.name("mountable:1")), &image.descriptor).unwrap();
    let (_folder, client) = client(&server, Some(&password("secret")));
    client.push(&store, &image.descriptor, &name(&server.name("other:1")), &|_| {}).unwrap();
    let scopes: Vec<_> = tokens.seen().iter().map(|r| r.query.clone()).collect();
    let both = scopes.iter().find(|query| query.matches("scope=").count() == 2).unwrap();
    assert!(both.contains("repository%3Aother%3Apull%2Cpush"), "{both}");
    assert!(both.contains("repository%3Amountable%3Apull"), "{both}");
    assert_eq!(server.count("PUT", "/uploads/"), 1, "only the configuration is sent");
}

struct Hiding {
    fake: Arc<Fake>,
    hidden: String,
}

impl Handler for Hiding {
    fn answer(&self, request: &Request) -> Answer {
        match request.method == "HEAD" && request.path.ends_with(&self.hidden) {
            true => Answer::error(404, "BLOB_UNKNOWN"),
            false => self.fake.answer(request),
        }
    }
}

#[test]
fn a_wrong_password_and_none_are_told_with_what_to_do() {
    let tokens = token_server();
    let (_fake, server) = registry(&tokens);
    for (credential, hint) in [(None, "if it exists"), (Some(password("wrong")), "other rights")] {
        let (_folder, client) = client(&server, credential.as_ref());
        let error = client.document(&name(&server.name("a:1"))).unwrap_err().to_string();
        assert!(error.contains("incorrect username or password"), "{error}");
        assert!(error.contains(hint) && error.contains("koskit login 127.0.0.1:"), "{error}");
    }
}

#[test]
fn a_login_gets_an_identity_token_that_is_used_instead_of_the_password() {
    let tokens = token_server();
    let (fake, server) = registry(&tokens);
    fake.image("1", b"layer");
    let (_folder, first) = client(&server, None);
    let secret = |text: &str| Secret::from(text.to_owned());
    let kept = first.check(&server.host(), "me", secret("secret")).unwrap();
    assert_eq!(kept, Credential::IdentityToken(secret("id")));
    assert!(first.check(&server.host(), "me", secret("wrong")).is_err());

    let before = tokens.seen().len();
    let (_folder, second) = client(&server, Some(&kept));
    second.document(&name(&server.name("a:1"))).unwrap();
    let seen = tokens.seen();
    assert_eq!(seen.len(), before + 1);
    assert_eq!(seen[before].method, "POST");
    assert!(seen[before].header("authorization").is_none());
}

#[test]
fn a_registry_token_is_sent_as_it_is() {
    let tokens = token_server();
    let (fake, server) = registry(&tokens);
    fake.image("1", b"layer");
    let token = Credential::RegistryToken(Secret::from("tok.en".to_owned()));
    let (_folder, client) = client(&server, Some(&token));
    client.document(&name(&server.name("a:1"))).unwrap();
    assert!(tokens.seen().is_empty());
}

#[test]
fn a_token_that_has_ended_is_asked_for_again() {
    let tokens = token_server();
    let (fake, server) = registry(&tokens);
    fake.image("1", b"layer");
    let (_folder, client) = client(&server, Some(&password("secret")));
    client.document(&name(&server.name("a:1"))).unwrap();
    // Another token counts from now on, which the server does not give: asked once more, no more.
    fake.state().authorization = Some("Bearer other".into());
    let error = client.document(&name(&server.name("a:1"))).unwrap_err();
    assert!(error.to_string().contains("does not let us have"), "{error}");
    assert_eq!(tokens.seen().len(), 2);
    fake.state().authorization = Some("Bearer tok.en".into());
    client.document(&name(&server.name("a:1"))).unwrap();
}

#[test]
fn a_token_server_that_answers_badly_gives_a_clear_error() {
    for (body, expected) in [
        ("{", "the token is not valid JSON"),
        ("{}", "there is no token in it"),
        ("{\"token\":\"a b\"}", "characters that no token has"),
    ] {
        let tokens = Server::start(move |_: &Request| Answer::new(200).body(body));
        let (_fake, server) = registry(&tokens);
        let (_folder, client) = client(&server, Some(&password("secret")));
        let error = client.document(&name(&server.name("a:1"))).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let fake = Arc::new(Fake::default());
    fake.state().authorization = Some("Bearer x".into());
    for challenge in
        ["Bearer realm=\"file:///etc/passwd\"", "Bearer realm=\"nonsense\"", "Negotiate"]
    {
        fake.state().challenge = Some(challenge.into());
        let server = Server::with(Arc::clone(&fake));
        let (_folder, client) = client(&server, Some(&password("secret")));
        assert!(client.document(&name(&server.name("a:1"))).is_err(), "{challenge}");
    }
}
