//! What stands before every page: the host's name, the session or token, and for what changes something the session's own token.

use super::Page;
use axum::Form;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, LOCATION, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// The session's cookie.
pub const COOKIE_NAME: &str = "salad_session";

/// Pages load what is their own and nothing else.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; style-src 'self'; form-action 'self'; frame-ancestors 'none'; \
                      base-uri 'none'; object-src 'none'";

/// Who asks.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Somebody with a browser; forms carry this.
    Session(String),
    /// A program with a token.
    Token,
}

impl Caller {
    /// What a form has to carry.
    pub fn csrf(&self) -> &str {
        if let Caller::Session(csrf) = self { csrf } else { "" }
    }
}

/// A form that was sent from a page of ours.
pub struct Posted<T>(pub T);

#[derive(Deserialize)]
struct Signed {
    #[serde(default)]
    csrf: String,
}

impl<T: DeserializeOwned> FromRequest<Arc<Page>> for Posted<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &Arc<Page>) -> Result<Posted<T>, Response> {
        let caller = request.extensions().get::<Caller>().cloned();
        let bytes = axum::body::Bytes::from_request(request, state).await.map_err(IntoResponse::into_response)?;
        let bad = || (StatusCode::BAD_REQUEST, "the form is not complete").into_response();
        let form = |bytes: &[u8]| Request::builder().method(Method::POST).body(axum::body::Body::from(bytes.to_vec()));
        if let Some(Caller::Session(csrf)) = &caller {
            let Form(signed) = parse::<Signed>(form(&bytes).map_err(|_| bad())?, state).await.ok_or_else(bad)?;
            if signed.csrf != *csrf {
                return Err(
                    (StatusCode::FORBIDDEN, "the form is of another session: load the page again").into_response()
                );
            }
        }
        let Form(value) = parse::<T>(form(&bytes).map_err(|_| bad())?, state).await.ok_or_else(bad)?;
        Ok(Posted(value))
    }
}

async fn parse<T: DeserializeOwned>(mut request: Request, state: &Arc<Page>) -> Option<Form<T>> {
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(axum::http::header::CONTENT_TYPE, kind);
    Form::<T>::from_request(request, state).await.ok()
}

/// Where a request comes from.
pub struct From(pub IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for From {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<From, Self::Rejection> {
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(From(address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(address)| address.ip())))
    }
}

/// Headers that every answer has.
pub async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Refuses foreign names, under which another site's script could ask for pages here, and what another site's page posts.
pub async fn host(State(page): State<Arc<Page>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = text(headers, &HOST);
    if !is_own(host, &page.names) {
        let words = "this name is not known here: add it to web.names in the configuration\n";
        return (StatusCode::MISDIRECTED_REQUEST, words).into_response();
    }
    let origin = headers.get(ORIGIN).map(|_| text(headers, &ORIGIN));
    let elsewhere = origin.is_some_and(|origin| origin.split_once("://").is_none_or(|(_, from)| from != host));
    if elsewhere && request.method() != Method::GET && request.method() != Method::HEAD {
        return (StatusCode::FORBIDDEN, "sent from another site\n").into_response();
    }
    next.run(request).await
}

/// Lets in who has a session or a token; pages send others to log in, the API answers 401.
pub async fn known(State(page): State<Arc<Page>>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let cookie = cookie(headers);
    let session = cookie.as_deref().and_then(|cookie| page.access.session(cookie, Instant::now()));
    let token = text(headers, &AUTHORIZATION).strip_prefix("Bearer ").unwrap_or_default().trim().to_owned();
    let caller = match session {
        Some(csrf) => Some(Caller::Session(csrf)),
        None if !token.is_empty() => match page.access.is_token(&token) {
            Ok(known) => known.then_some(Caller::Token),
            Err(error) => return failed(&error),
        },
        None => None,
    };
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
        return next.run(request).await;
    }
    let path = request.uri().path();
    if path.starts_with("/api/") || path == "/metrics" || !accepts_pages(headers) {
        let words = "log in, or send a token: Authorization: Bearer TOKEN\n";
        return (StatusCode::UNAUTHORIZED, [(axum::http::header::WWW_AUTHENTICATE, "Bearer")], words).into_response();
    }
    let to = match page.access.has_password() {
        Ok(true) => "/login",
        Ok(false) => "/first",
        Err(error) => return failed(&error),
    };
    see(to)
}

/// Sends a browser to another page.
pub fn see(to: &str) -> Response {
    let location = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response()
}

/// Something of ours has failed.
pub fn failed(error: &dyn std::error::Error) -> Response {
    log::error!("page: {error}");
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
}

/// The session's cookie of a request.
pub fn cookie(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value.to_owned())
}

/// Whether a host's name, perhaps with a port, is one that only this device has.
fn is_own(host: &str, names: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".local") || names.contains(&name)
}

fn accepts_pages(headers: &HeaderMap) -> bool {
    text(headers, &axum::http::header::ACCEPT).contains("text/html")
}

fn text<'a>(headers: &'a HeaderMap, name: &axum::http::HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_device_are_its_own() {
        let names = ["camera.example.org".to_owned()];
        for host in ["127.0.0.1:8080", "[::1]:8080", "localhost", "line-3.local:80", "Camera.Example.org", "10.0.0.1"] {
            assert!(is_own(host, &names), "{host}");
        }
        for host in ["", "evil.example.org", "localhost.evil.org:8080", "127.0.0.1.evil.org", "[evil.org]"] {
            assert!(!is_own(host, &names), "{host}");
        }
    }
}
