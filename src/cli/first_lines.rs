//! What `serve` says on stdout once it listens.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Prints the lines. The last word of the first one is the URL, for programs that start this one.
pub(super) fn print(address: SocketAddr, tls: bool, public_url: Option<&str>) {
    let mut out = io::stdout().lock();
    // Whoever closed our stdout does not want to know.
    let _ = out.write_all(lines(address, tls, public_url).as_bytes()).and_then(|()| out.flush());
}

fn lines(address: SocketAddr, tls: bool, public_url: Option<&str>) -> String {
    // The certificate is hardly one for this address, and whoever pastes the line sits before this machine.
    let (scheme, insecure) = if tls { ("https", "--insecure ") } else { ("http", "") };
    let url = format!("{scheme}://{}", reachable(address));
    let public = public_url.map(|url| format!("Others reach it at {url}\n")).unwrap_or_default();
    format!(
        "Tidegate is listening on {url}\n\
         {public}\
         curl {insecure}--no-buffer {url}/v1/chat/stream --header 'Content-Type: application/json' \
         --header 'Accept: application/x-ndjson' --data '{{\"message\":\"Hello!\"}}'\n"
    )
}

/// Nobody can open "every address": the loopback one is among them.
fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback: IpAddr = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let ip = if address.ip().is_unspecified() { loopback } else { address.ip() };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_ends_with_the_url_and_a_curl_follows() {
        let text = lines("127.0.0.1:4321".parse().unwrap(), false, None);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("Tidegate is listening on http://127.0.0.1:4321"));
        let curl = lines.next().unwrap();
        assert!(curl.starts_with("curl --no-buffer http://127.0.0.1:4321/v1/chat/stream "), "{curl}");
        assert!(curl.ends_with(r#"--data '{"message":"Hello!"}'"#), "{curl}");
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn every_address_is_printed_as_one_that_can_be_opened() {
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()).to_string(), "127.0.0.1:80");
        assert_eq!(reachable("[::]:80".parse().unwrap()).to_string(), "[::1]:80");
        assert_eq!(reachable("192.0.2.1:80".parse().unwrap()).to_string(), "192.0.2.1:80");
    }

    #[test]
    fn under_tls_the_url_and_the_curl_say_so() {
        let text = lines("127.0.0.1:4321".parse().unwrap(), true, None);
        assert_eq!(text.lines().next(), Some("Tidegate is listening on https://127.0.0.1:4321"));
        assert!(text.contains("\ncurl --insecure --no-buffer https://127.0.0.1:4321/v1/"), "{text}");
    }

    #[test]
    fn a_public_url_is_told_too() {
        let text = lines("127.0.0.1:1".parse().unwrap(), false, Some("https://chat.example"));
        assert!(text.lines().any(|line| line.ends_with(" https://chat.example")), "{text}");
    }
}
