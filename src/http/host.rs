//! Which host names are ours while auth is off: a page elsewhere must not reach the gateway through a name that it
//! has pointed at this machine (DNS rebinding).

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::HOST;
use http::request::Parts;
use http::{Method, Version};
use url::Url;

use super::code::Code;
use super::problem::Problem;

/// The host part of `public_url`, in lower case, without a port.
#[derive(Clone, Debug)]
pub struct Own(Option<String>);

impl Own {
    /// From `public_url`.
    pub fn new(public_url: &Url) -> Self {
        Self(public_url.host_str().map(str::to_ascii_lowercase))
    }

    /// Refuses a request for another host.
    ///
    /// # Errors
    /// 421 `wrong_host`; 400 `bad_request` when it names no one host (RFC 9112, section 3.2).
    pub fn check(&self, request: &Parts) -> Result<(), Problem> {
        let mut hosts = request.headers.get_all(HOST).into_iter();
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(Problem::new(Code::BadRequest, "There are two Host headers."));
        }
        if host.is_none() && request.version == Version::HTTP_11 && request.uri.authority().is_none() {
            return Err(Problem::new(Code::BadRequest, "There is no Host header."));
        }
        let named = host.map(|host| host.to_str().unwrap_or_default());
        let target = request.uri.authority().map(|authority| authority.as_str());
        let ours = named.into_iter().chain(target).all(|authority| self.is_ours(authority));
        if ours && request.method != Method::CONNECT {
            Ok(())
        } else {
            Err(Problem::new(Code::WrongHost, "With auth off only a loopback name or public_url's host will do."))
        }
    }

    fn is_ours(&self, authority: &str) -> bool {
        let Some(host) = without_port(authority) else { return false };
        let host = host.to_ascii_lowercase();
        is_loopback(&host) || self.0.as_deref() == Some(host.as_str())
    }
}

/// The host of `host[:port]`; nothing when it is not of that form.
fn without_port(authority: &str) -> Option<&str> {
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    let port = port.strip_prefix(':').unwrap_or(port);
    (!host.is_empty() && !host.contains('@') && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(host)
}

/// A loopback address, `localhost`, or a name under it (RFC 6761, section 6.3: such names never leave the machine).
fn is_loopback(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    if name == "localhost" || name.ends_with(".localhost") {
        return true;
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    }
    host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names_and_our_own_are_ours() {
        let own = Own::new(&"https://Chat.Example:8443/x".parse().unwrap());
        for ours in [
            "localhost",
            "LOCALHOST:1",
            "localhost.",
            "a.b.localhost:8080",
            "127.0.0.1",
            "127.9.8.7:80",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
            "chat.example",
            "CHAT.example:1",
        ] {
            assert!(own.is_ours(ours), "{ours}");
        }
        for other in [
            "",
            ":80",
            "evil.example",
            "localhost.evil.example",
            "evillocalhost",
            "127.0.0.1.evil.example",
            "0.0.0.0",
            "128.0.0.1",
            "[::2]",
            "[::1",
            "[::1]x",
            "localhost:8a",
            "user@localhost",
            "localhost@evil",
            "::1",
            "127.1",
            "2130706433",
            "chat.example.",
        ] {
            assert!(!own.is_ours(other), "{other}");
        }
    }
}
