//! Being let in: passwords, and tokens from the server that a registry names
//! (docker's "Token Authentication Specification" and its OAuth 2 variant).

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode, Url};

use crate::Error;
use crate::answer::{self, Challenge, Token};
use crate::credentials::{Credential, Secret};
use crate::host::{Call, Host};

/// Who asks, to a token server.
const CLIENT: &str = "koskit";
const FORM: &str = "application/x-www-form-urlencoded";

/// The tokens of one registry, by what they allow.
#[derive(Default)]
pub(crate) struct Tokens {
    known: Mutex<HashMap<String, (HeaderValue, Instant)>>,
    /// Who needs a token waits for whoever is asking for one.
    asking: tokio::sync::Mutex<()>,
}

impl Tokens {
    /// What to send with a request, as the challenge wants it.
    pub async fn get(
        &self,
        host: &Host,
        challenge: &Challenge,
        scopes: &[String],
        what: &str,
    ) -> Result<Option<HeaderValue>, Error> {
        let Challenge::Bearer { realm, service, scope, .. } = challenge else {
            return match host.credential()? {
                Some(Credential::Password { user, password }) => {
                    Ok(Some(basic(&user, password.reveal())))
                }
                Some(Credential::RegistryToken(token)) => {
                    Ok(Some(bearer(token.reveal(), host, what)?))
                }
                _ => Err(host.denied(what, None)),
            };
        };
        if let Some(Credential::RegistryToken(token)) = host.credential()? {
            return Ok(Some(bearer(token.reveal(), host, what)?));
        }
        // Without a repository, as for a login, what the registry itself asks for.
        let mut wanted = scopes.join(" ");
        if wanted.is_empty() {
            wanted = scope.clone().unwrap_or_default();
        }
        let _asking = self.asking.lock().await;
        if let Some(known) = self.known(&wanted) {
            return Ok(Some(known));
        }
        let token = ask(host, realm, service.as_deref(), &wanted, what).await?;
        let value = bearer(&token.token, host, what)?;
        // Not to the last second.
        let until = Instant::now() + token.lifetime.mul_f32(0.8);
        let mut all = self.known.lock().expect("no panic holds it");
        all.insert(wanted, (value.clone(), until));
        Ok(Some(value))
    }

    fn known(&self, scope: &str) -> Option<HeaderValue> {
        let known = self.known.lock().expect("no panic holds it");
        let (value, until) = known.get(scope)?;
        (*until > Instant::now()).then(|| value.clone())
    }

    /// Forgets all, as one of them was refused.
    pub fn forget(&self) {
        self.known.lock().expect("no panic holds it").clear();
    }
}

/// Asks the token server.
async fn ask(
    host: &Host,
    realm: &str,
    service: Option<&str>,
    scope: &str,
    what: &str,
) -> Result<Token, Error> {
    let url =
        Url::parse(realm).map_err(|e| host.wrong(what, &format_args!("its token server: {e}")))?;
    let (status, body) = match host.credential()? {
        Some(Credential::IdentityToken(token)) => {
            let refresh = [("grant_type", "refresh_token"), ("refresh_token", token.reveal())];
            form(host, url, service, scope, &refresh, what).await?
        }
        other => {
            let mut url = url;
            {
                let mut query = url.query_pairs_mut();
                if let Some(service) = service {
                    query.append_pair("service", service);
                }
                for one in scope.split(' ').filter(|one| !one.is_empty()) {
                    query.append_pair("scope", one);
                }
                if let Some(Credential::Password { user, .. }) = &other {
                    query.append_pair("account", user);
                }
            }
            let authorization = match &other {
                Some(Credential::Password { user, password }) => {
                    Some(basic(user, password.reveal()))
                }
                _ => None,
            };
            let call = Call::new(Method::GET, url, &[], what);
            host.ask_token_server(&call, authorization).await?
        }
    };
    answered(host, status, &body, what)
}

/// Asks for an identity token, which can be kept instead of the password. Servers that know none
/// give none.
pub(crate) async fn identity(
    host: &Host,
    realm: &str,
    service: Option<&str>,
    user: &str,
    password: &Secret,
) -> Result<Option<Secret>, Error> {
    let what = "a login";
    let Ok(url) = Url::parse(realm) else { return Ok(None) };
    let login = [
        ("grant_type", "password"),
        ("username", user),
        ("password", password.reveal()),
        ("access_type", "offline"),
    ];
    let (status, body) = form(host, url, service, "", &login, what).await?;
    if !status.is_success() {
        return Ok(None);
    }
    let token = answer::token(&body).ok();
    Ok(token.and_then(|token| token.refresh).map(Secret::from))
}

/// OAuth 2's way, with a form.
async fn form(
    host: &Host,
    url: Url,
    service: Option<&str>,
    scope: &str,
    fields: &[(&str, &str)],
    what: &str,
) -> Result<(StatusCode, Vec<u8>), Error> {
    // The address is only a place to have its encoding done.
    let mut encoded = Url::parse("http://localhost/").expect("it is an address");
    encoded
        .query_pairs_mut()
        .extend_pairs(fields)
        .append_pair("client_id", CLIENT)
        .append_pair("service", service.unwrap_or_default())
        .append_pair("scope", scope);
    let body = Bytes::from(encoded.query().unwrap_or_default().to_owned());
    let mut call = Call::new(Method::POST, url, &[], what);
    call.body = Some((FORM, body));
    host.ask_token_server(&call, None).await
}

fn answered(host: &Host, status: StatusCode, body: &[u8], what: &str) -> Result<Token, Error> {
    match status.as_u16() {
        200..=299 => answer::token(body)
            .map_err(|why| host.wrong(what, &format_args!("its token server: {why}"))),
        400..=403 => Err(host.denied(what, answer::errors(body))),
        code => {
            let why = answer::errors(body).unwrap_or_else(|| format!("status {code}"));
            Err(host.wrong(what, &format_args!("its token server gives no token: {why}")))
        }
    }
}

fn basic(user: &str, password: &str) -> HeaderValue {
    let text = STANDARD.encode(format!("{user}:{password}"));
    secret(&format!("Basic {text}")).expect("base64 can be a header field")
}

fn bearer(token: &str, host: &Host, what: &str) -> Result<HeaderValue, Error> {
    secret(&format!("Bearer {token}"))
        .ok_or_else(|| host.wrong(what, &"the token has characters that no token has"))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
