//! Where a request comes from: the peer of its connection, or the client that a trusted proxy names.
//!
//! A proxy appends whom it saw to what it was sent, so both fields are read from the right: `Forwarded` (RFC 7239) and
//! `X-Forwarded-For`. Most proxies write one of them and let the other through as the client made it up: where both are
//! there and name different clients, neither is believed.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::header::{FORWARDED, HeaderName};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue};
use ipnet::IpNet;

use super::headers::{quotes_end, split, word};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The bits of an IPv6 address that tell subscribers apart: whoever has one address has the 2^64 beside it.
const SUBSCRIBER: u32 = 64;

/// The other end of a connection. The server lays it into each of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// The client's address. The guard lays it into the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address(pub IpAddr);

impl Address {
    /// That of a request; the guard has laid it there, unless the request came by no connection.
    pub fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get().copied()
    }

    /// What is counted as one client: an IPv4 address, or the /64 that an IPv6 address is in.
    pub fn client(self) -> IpAddr {
        match self.0 {
            IpAddr::V4(_) => self.0,
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << SUBSCRIBER))),
        }
    }
}

/// The proxies whose word counts.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Arc<[IpNet]>);

/// An address, or a network in CIDR notation; `None` where it is neither.
pub fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

impl Proxies {
    /// Those at these addresses and in these networks. A text that is neither trusts nobody.
    pub fn new(texts: &[String]) -> Self {
        Self(texts.iter().filter_map(|text| network(text)).collect())
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Where a request comes from; `None` where nobody knows the other end.
    pub fn address(&self, request: &Parts) -> Option<Address> {
        let Peer(peer) = request.extensions.get()?;
        Some(Address(self.client(*peer, &request.headers)))
    }

    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return peer;
        }
        let forwarded = headers.contains_key(FORWARDED).then(|| {
            let lines = headers.get_all(FORWARDED).into_iter().rev();
            self.walk(peer, lines.flat_map(elements).map(|element| element.and_then(forwarded_for)))
        });
        let listed = headers.contains_key(&X_FORWARDED_FOR).then(|| {
            // No grammar: a quote, or what is not ASCII, must not take along what a proxy has appended to it.
            let lines = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
            let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
            let hops = hops.map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty());
            self.walk(peer, hops.map(|hop| std::str::from_utf8(hop).ok().and_then(node)))
        });
        match (forwarded, listed) {
            (Some(one), Some(other)) if one != other => peer,
            (Some(client), _) | (None, Some(client)) => client,
            (None, None) => peer,
        }
    }

    /// From the nearest hop outwards: the first that is no proxy of ours is the client. Beyond a hop that hides itself, or
    /// that cannot be read, nothing is known: the client is then the last one that is.
    fn walk(&self, peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut nearest = peer;
        for hop in hops {
            let Some(hop) = hop else { return nearest };
            nearest = hop;
            if !self.trusts(hop) {
                break;
            }
        }
        nearest
    }
}

/// The elements of one line of `Forwarded`, the nearest first. A quote that a client leaves open, or what is not ASCII, must not
/// take along what a proxy has appended to it.
fn elements(line: &HeaderValue) -> Vec<Option<&str>> {
    match line.to_str() {
        Ok(text) if quotes_end(text) => {
            let mut elements: Vec<_> = split(text, ',').map(Some).collect();
            elements.reverse();
            elements
        }
        Ok(_) | Err(_) => line
            .as_bytes()
            .rsplit(|byte| *byte == b',')
            .map(|piece| std::str::from_utf8(piece.trim_ascii()).ok())
            .collect(),
    }
}

/// The `for` of one element of `Forwarded` (RFC 7239, section 4).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut nodes = split(element, ';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.eq_ignore_ascii_case("for").then(|| word(value))
    });
    let first = nodes.next()??;
    // Twice in one element says nothing.
    if nodes.next().is_some() { None } else { node(&first) }
}

/// A node: an address, with a port or without. `None` for `unknown`, for a name that hides one, and for nonsense.
fn node(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(address) => address.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok().or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip())),
    };
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};
    use proptest::prelude::{ProptestConfig, any, prop, proptest};

    use super::*;

    fn proxies() -> Proxies {
        Proxies::new(&["10.0.0.0/8".to_owned(), "127.0.0.1".to_owned(), "fd00::/8".to_owned()])
    }

    fn client(peer: &str, lines: &[(&str, &str)]) -> String {
        let mut request = Request::builder();
        for (name, value) in lines {
            request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        parts.extensions.insert(Peer(peer.parse().unwrap()));
        proxies().address(&parts).unwrap().0.to_string()
    }

    const LIST: &str = "x-forwarded-for";

    #[test]
    fn who_is_no_proxy_of_ours_names_nobody() {
        assert_eq!(client("192.0.2.1", &[(LIST, "198.51.100.9"), ("forwarded", "for=198.51.100.9")]), "192.0.2.1");
        assert_eq!(client("::ffff:192.0.2.1", &[]), "192.0.2.1");
        assert_eq!(client("::ffff:127.0.0.1", &[(LIST, "192.0.2.7")]), "192.0.2.7", "as the system may show it");
        assert_eq!(client("127.0.0.1", &[]), "127.0.0.1");
        for left_open in ["for=\", for=192.0.2.7", "a=\"\\, for=192.0.2.7", "a=\", for=\"[::ffff:192.0.2.7]\""] {
            assert_eq!(client("127.0.0.1", &[("forwarded", left_open)]), "192.0.2.7", "{left_open}");
        }
    }

    #[test]
    fn the_first_from_the_right_that_is_no_proxy_is_the_client() {
        for (line, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("203.0.113.1, 192.0.2.7", "192.0.2.7"),
            ("203.0.113.1, 192.0.2.7 , 10.1.1.1,10.2.2.2", "192.0.2.7"),
            ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
            ("192.0.2.7:4711", "192.0.2.7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("2001:db8::7", "2001:db8::7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("192.0.2.7, fd00::1", "192.0.2.7"),
            // What nobody can read hides whatever is beyond it.
            ("192.0.2.7, unknown", "127.0.0.1"),
            ("192.0.2.7, unknown, 10.1.1.1", "10.1.1.1"),
            ("192.0.2.7, 10.1.1.1.1", "127.0.0.1"),
            ("192.0.2.7, 10.1.1.1%eth0", "127.0.0.1"),
            ("192.0.2.7, [2001:db8::7", "127.0.0.1"),
            ("192.0.2.7, [192.0.2.9]", "127.0.0.1"),
            ("192.0.2.7, 010.1.1.1", "127.0.0.1"),
            ("", "127.0.0.1"),
            (" , ,", "127.0.0.1"),
        ] {
            assert_eq!(client("127.0.0.1", &[(LIST, line)]), expected, "{line}");
        }
        assert_eq!(client("127.0.0.1", &[(LIST, "203.0.113.1"), (LIST, "192.0.2.7"), (LIST, "10.1.1.1")]), "192.0.2.7");
    }

    #[test]
    fn forwarded_is_read_as_its_rfc_says() {
        for (line, expected) in [
            ("for=192.0.2.7", "192.0.2.7"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=192.0.2.7;proto=http;by=203.0.113.43", "192.0.2.7"),
            ("for=203.0.113.9, for=192.0.2.7;host=\"a,b;for=1.2.3.4\", for=10.0.0.1", "192.0.2.7"),
            ("proto=https ; FOR=\"192.0.2.7:80\"", "192.0.2.7"),
            ("for=203.0.113.9, for=unknown", "127.0.0.1"),
            ("for=203.0.113.9, for=_hidden", "127.0.0.1"),
            ("for=203.0.113.9, for=\"_SEVKISEK:_p\"", "127.0.0.1"),
            ("for=203.0.113.9, proto=https", "127.0.0.1"),
            ("for=203.0.113.9, for=192.0.2.7;for=192.0.2.8", "127.0.0.1"),
            ("for=2001:db8::7", "127.0.0.1"),
            ("for=\"192.0.2.7", "127.0.0.1"),
        ] {
            assert_eq!(client("127.0.0.1", &[("forwarded", line)]), expected, "{line}");
        }
    }

    #[test]
    fn where_both_fields_differ_neither_is_believed() {
        let forged = [("forwarded", "for=203.0.113.9"), (LIST, "192.0.2.7")];
        assert_eq!(client("127.0.0.1", &forged), "127.0.0.1");
        assert_eq!(client("127.0.0.1", &[("forwarded", "for=192.0.2.7"), (LIST, "192.0.2.7")]), "192.0.2.7");
    }

    #[test]
    fn a_hundred_hops_are_as_good_as_one() {
        let hops: Vec<String> = (0..100).map(|hop| format!("10.0.0.{hop}")).collect();
        let line = format!("203.0.113.1, 192.0.2.7, {}", hops.join(", "));
        assert_eq!(client("127.0.0.1", &[(LIST, &line)]), "192.0.2.7");
    }

    #[test]
    fn subscribers_of_ipv6_have_a_network_each() {
        let counted = |text: &str| Address(text.parse().unwrap()).client().to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("192.0.2.7"), "192.0.2.7");
    }

    #[test]
    fn a_network_is_an_address_or_cidr() {
        for good in ["127.0.0.1", "10.0.0.0/8", "10.1.2.3/8", "::1", "2001:db8::/32", "0.0.0.0/0"] {
            assert!(network(good).is_some(), "{good}");
        }
        for bad in ["", "localhost", "10.0.0.0/33", "10.0.0/8", "::1/129", "10.0.0.0/", "*"] {
            assert!(network(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever a client sends, a proxy that appends its address makes it known by that.
        #[test]
        fn nobody_hides_behind_what_they_send(junk in prop::collection::vec(any::<u8>(), 0..60), address in any::<[u8; 4]>()) {
            let address = IpAddr::from(address);
            let junk: Vec<u8> = junk.into_iter().filter(|byte| *byte >= 32 && *byte != 127).collect();
            let mut headers = HeaderMap::new();
            let line = [junk.as_slice(), b", ", address.to_string().as_bytes()].concat();
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(&line).unwrap());
            let found = proxies().client("127.0.0.1".parse().unwrap(), &headers);
            if !proxies().trusts(address) {
                assert_eq!(found, address);
            }
        }
    }
}
