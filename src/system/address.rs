//! The guest's own address, as other guests reach it.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use camino::Utf8Path;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use super::files;
use crate::error::{Error, Result, ResultExt};

/// Where 2026.1 writes the user's own network when it is kept apart from the controller's (trove/common/constants.py: ETH1_CONFIG_PATH).
const USER_NETWORK: &str = "/etc/trove/eth1.json";
/// An address of no machine: the route to it is the default route (RFC 5737; oslo.utils asks the same).
const ELSEWHERE: &str = "192.0.2.0:9";

/// The address other guests reach this one at: on the user's own network, where there is one; on the default route; or on the first network.
///
/// # Errors
/// The guest has no network.
pub fn own() -> Result<String> {
    let user = files::read_optional(Utf8Path::new(USER_NETWORK))?.and_then(|text| on_user_network(&text));
    match user.or_else(|| on_default_route().map(|address| address.to_string())) {
        Some(address) => Ok(address),
        None => on_first_network().map(|address| address.to_string()),
    }
}

fn on_user_network(text: &str) -> Option<String> {
    let config: serde_json::Value = serde_json::from_str(text).ok()?;
    let address = |name: &str| config.get(name)?.as_str().filter(|address| !address.is_empty()).map(str::to_owned);
    let address = address("ipv4_address").or_else(|| address("ipv6_address"))?;
    // It may carry the length of its prefix.
    Some(address.split('/').next().unwrap_or_default().to_owned())
}

/// No packet is sent: the kernel says which address it would send from.
fn on_default_route() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(ELSEWHERE).ok()?;
    socket.local_addr().ok().map(|local: SocketAddr| local.ip()).filter(|address| !address.is_unspecified() && !address.is_loopback())
}

fn on_first_network() -> Result<IpAddr> {
    let interfaces = getifaddrs().action("list the guest's network interfaces")?;
    let up = interfaces.filter(|one| one.flags.contains(InterfaceFlags::IFF_UP) && !one.flags.contains(InterfaceFlags::IFF_LOOPBACK));
    let addresses: Vec<IpAddr> = up
        .filter_map(|one| {
            let address = one.address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        })
        .filter(|address| match address {
            IpAddr::V4(address) => !address.is_link_local(),
            IpAddr::V6(address) => !address.is_unicast_link_local(),
        })
        .collect();
    let best = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    best.copied().ok_or_else(|| Error::guest("this guest has no network address that others could reach it at"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_network_comes_first() {
        let v4 = r#"{"ipv4_address": "198.51.100.9", "ipv6_address": "2001:db8::1", "mac_address": "fa:16:3e:00:00:01"}"#;
        assert_eq!(on_user_network(v4).as_deref(), Some("198.51.100.9"));
        assert_eq!(on_user_network(r#"{"ipv4_address": "", "ipv6_address": "2001:db8::1/64"}"#).as_deref(), Some("2001:db8::1"));
        assert_eq!(on_user_network("{}"), None);
        assert_eq!(on_user_network("nonsense"), None);
    }

    #[test]
    fn a_machine_on_a_network_has_an_address() {
        let address: IpAddr = on_default_route().map_or_else(on_first_network, Ok).unwrap();
        assert!(!address.is_loopback() && !address.is_unspecified());
    }
}
