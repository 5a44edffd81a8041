//! Loopback only: there is no access control yet, so nobody but this machine may reach the API, and no web page that
//! a browser on it shows may either.

use std::net::{IpAddr, SocketAddr};

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::{Refused, RequestFault};

/// A listen address that others can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} can be reached from other machines, and there is no access control yet; listen on 127.0.0.1 or [::1] instead."
)]
pub struct NotLoopback(pub SocketAddr);

/// Refuses an address that is not this machine's loopback.
pub fn check(address: SocketAddr) -> Result<(), NotLoopback> {
    if address.ip().to_canonical().is_loopback() { Ok(()) } else { Err(NotLoopback(address)) }
}

/// Refuses a request whose Host is another name (DNS rebinding), or that a page of another site sent.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    match look(&request) {
        Ok(()) => next.run(request).await,
        Err(fault) => Refused::from(fault).into_response(),
    }
}

fn look(request: &Request) -> Result<(), RequestFault> {
    let headers = request.headers();
    for host in headers.get_all(header::HOST) {
        let host = String::from_utf8_lossy(host.as_bytes());
        if !host.parse::<Authority>().is_ok_and(|authority| is_loopback(authority.host())) {
            return Err(RequestFault::ForeignHost { host: host.into_owned() });
        }
    }
    for origin in headers.get_all(header::ORIGIN) {
        let origin = String::from_utf8_lossy(origin.as_bytes());
        if !origin.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(is_loopback)) {
            return Err(RequestFault::ForeignOrigin { origin: origin.into_owned() });
        }
    }
    Ok(())
}

fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on() {
        for good in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert_eq!(check(good.parse().expect("an address")), Ok(()), "{good}");
        }
        for bad in ["0.0.0.0:80", "[::]:80", "192.168.1.7:80", "[fe80::1]:80"] {
            let refused = check(bad.parse().expect("an address")).expect_err(bad);
            assert!(refused.to_string().contains("no access control yet; listen on 127.0.0.1"), "{refused}");
        }
    }

    #[test]
    fn a_name_that_only_looks_like_loopback_is_none() {
        for bad in ["localhost.evil.example", "127.0.0.1.evil.example", "evil.example", ""] {
            assert!(!is_loopback(bad), "{bad}");
        }
        for good in ["localhost", "LOCALHOST", "127.0.0.1", "[::1]"] {
            assert!(is_loopback(good), "{good}");
        }
    }
}
