//! Addresses of a cluster's servers, as the server's own configuration has them.

use crate::error::{Error, Result};

/// `192.0.2.1`, `192.0.2.1:27017` or `[2001:db8::1]:27017`, with its port.
///
/// # Errors
/// It is no address of a server.
pub(super) fn with_port(host: &str, port: u16) -> Result<String> {
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    let refused = || Error::invalid(format!("'{}' is no address of a server", host.escape_debug()));
    let valid = |name: &str, port: &str| is_name(name) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if let Some(rest) = host.strip_prefix('[') {
        let (name, after) = rest.split_once(']').ok_or_else(refused)?;
        return match after.strip_prefix(':') {
            Some(own) if valid(name, own) => Ok(host.to_owned()),
            None if after.is_empty() && is_name(name) => Ok(format!("{host}:{port}")),
            _ => Err(refused()),
        };
    }
    match host.matches(':').count() {
        0 if is_name(host) => Ok(format!("{host}:{port}")),
        1 => host.split_once(':').filter(|(name, own)| valid(name, own)).map(|_| host.to_owned()).ok_or_else(refused),
        // An address of IPv6 as it is.
        2.. if host.parse::<std::net::Ipv6Addr>().is_ok() => Ok(format!("[{host}]:{port}")),
        _ => Err(refused()),
    }
}

/// Name and port.
///
/// # Errors
/// It has none.
pub(super) fn split(host: &str) -> Result<(String, u16)> {
    let parts = host.rsplit_once(':').and_then(|(name, port)| Some((name.trim_matches(['[', ']']).to_owned(), port.parse().ok()?)));
    parts.ok_or_else(|| Error::guest(format!("'{}' is no address of a server with its port", host.escape_debug())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_get_the_port_they_lack() {
        let of = |host: &str| with_port(host, 27017).unwrap();
        assert_eq!((of("192.0.2.1"), of("192.0.2.1:1")), ("192.0.2.1:27017".into(), "192.0.2.1:1".into()));
        assert_eq!((of("2001:db8::1"), of("[2001:db8::1]:5")), ("[2001:db8::1]:27017".into(), "[2001:db8::1]:5".into()));
        assert_eq!(split("[2001:db8::1]:5").unwrap(), ("2001:db8::1".into(), 5));
        for bad in ["", ":1", "a:b", "a/b", "a b", "a,b", "[::1", "[::1]x", "h:0", "a:1:2", "a:65536"] {
            assert!(with_port(bad, 1).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_has_one_name_and_a_port(host in "\\PC{0,12}|[a-z0-9.:\\[\\]-]{0,20}") {
            if let Ok(address) = with_port(&host, 27017) {
                let (name, port) = split(&address).unwrap();
                prop_assert!(!name.is_empty() && port > 0);
                prop_assert!(!address.contains([',', '/', ' ']));
                prop_assert_eq!(with_port(&address, 1).unwrap(), address);
            }
        }
    }
}
