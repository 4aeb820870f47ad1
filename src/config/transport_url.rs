//! `transport_url`: which brokers, whose credentials, which virtual host.
//!
//! Mirrors `TransportURL.parse` of oslo_messaging/transport.py and the parts of Python's `urllib.parse` it uses. No message of
//! this module quotes the URL: a password with a raw `/` or `@` would land in any part of it.

use std::net::Ipv6Addr;

use secrecy::SecretString;

use super::value::python_int;

/// The parts of a `transport_url`, decoded.
#[derive(Debug, Clone)]
pub struct TransportUrl {
    /// Scheme in lower case; `rabbit` or `kombu` for a broker this agent can talk to.
    pub scheme: String,
    /// Hosts in the order given; none for `rabbit://`.
    pub hosts: Vec<UrlHost>,
    /// Path without its first slash; `None` when the URL has no path at all.
    pub virtual_host: Option<String>,
    /// Options after `?`, repeated ones joined with commas.
    pub query: Vec<(String, SecretString)>,
}

/// One host of the URL.
#[derive(Debug, Clone)]
pub struct UrlHost {
    /// Name or address without brackets; `None` when only credentials or a port were given.
    pub host: Option<String>,
    /// Port, when given.
    pub port: Option<u16>,
    /// User, when given.
    pub user: Option<String>,
    /// Password, when given.
    pub password: Option<SecretString>,
}

impl TransportUrl {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// What is wrong, without any part of the URL.
    pub fn parse(url: &str) -> Result<TransportUrl, String> {
        // Python's urlsplit drops leading control characters and blanks, and line ends and tabs anywhere.
        let url: String = url.trim_start_matches(|c| c <= ' ').chars().filter(|c| !matches!(c, '\t' | '\r' | '\n')).collect();
        let (scheme, rest) = split_scheme(&url).ok_or("it has no scheme; write rabbit://user:password@host:5672/")?;
        let (netloc, rest) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len())).unwrap_or((rest, "")),
            None => ("", rest),
        };
        if netloc.contains('[') != netloc.contains(']') {
            return Err("brackets around an IPv6 address do not match".into());
        }
        let rest = rest.split_once('#').map_or(rest, |(before, _fragment)| before);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let parts: Vec<&str> = netloc.split(',').filter(|part| !part.is_empty()).collect();
        let count = parts.len();
        let hosts = parts
            .into_iter()
            .enumerate()
            .map(|(index, part)| {
                parse_host(part).map_err(|reason| {
                    format!("host {} of {count}: {reason} (in a user or password, write / ? # @ : , as %2F %3F %23 %40 %3A %2C)", index + 1)
                })
            })
            .collect::<Result<_, _>>()?;
        let virtual_host = path.strip_prefix('/').map(unquote);
        Ok(TransportUrl { scheme, hosts, virtual_host, query: parse_query(query) })
    }
}

/// Mirrors urlsplit: a letter, then letters, digits, `+`, `-` and `.`, up to the first colon.
fn split_scheme(url: &str) -> Option<(String, &str)> {
    let (scheme, rest) = url.split_once(':')?;
    let starts_well = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let valid = starts_well && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    valid.then(|| (scheme.to_ascii_lowercase(), rest))
}

fn parse_host(part: &str) -> Result<UrlHost, &'static str> {
    let (credentials, address) = part.rsplit_once('@').map_or((None, part), |(credentials, address)| (Some(credentials), address));
    let (user, password) = match credentials.map(|text| text.split_once(':').map_or((text, None), |(user, rest)| (user, Some(rest)))) {
        Some((user, password)) => (Some(unquote(user)), password.map(|text| SecretString::from(unquote(text)))),
        None => (None, None),
    };
    let (host, port) = host_and_port(address)?;
    Ok(UrlHost { host, port, user, password })
}

/// Mirrors `parse_host_port` of oslo_utils/netutils.py: an IPv6 address with a port needs brackets.
pub(super) fn host_and_port(address: &str) -> Result<(Option<String>, Option<u16>), &'static str> {
    if address.is_empty() {
        return Ok((None, None));
    }
    if let Some(bracketed) = address.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or("the bracket of an IPv6 address is not closed")?;
        if rest.contains(']') {
            return Err("brackets around an IPv6 address do not match");
        }
        let address = host.split_once('%').map_or(host, |(address, _zone)| address);
        if address.parse::<Ipv6Addr>().is_err() {
            return Err("what stands in brackets is not an IPv6 address");
        }
        let port = rest.split(':').nth(1).map(port_number).transpose()?;
        return Ok((Some(host.to_owned()), port));
    }
    match address.split_once(':') {
        Some((host, port)) if !port.contains(':') => Ok((Some(host.to_owned()), Some(port_number(port)?))),
        _ => Ok((Some(address.to_owned()), None)),
    }
}

fn port_number(text: &str) -> Result<u16, &'static str> {
    python_int(text).and_then(|port| u16::try_from(port).ok()).ok_or("the port is not a number from 0 to 65535")
}

/// Mirrors `parse_qs`: blank values and names without `=` are dropped, `+` is a space, repeated names are joined.
fn parse_query(query: &str) -> Vec<(String, SecretString)> {
    let mut options: Vec<(String, Vec<String>)> = Vec::new();
    for part in query.split('&') {
        let Some((name, value)) = part.split_once('=').filter(|(_, value)| !value.is_empty()) else { continue };
        let (name, value) = (unquote(&name.replace('+', " ")), unquote(&value.replace('+', " ")));
        match options.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => options.push((name, vec![value])),
        }
    }
    options.into_iter().map(|(name, values)| (name, SecretString::from(values.join(",")))).collect()
}

/// Percent-decoding as Python's `unquote` does it: what is not `%` and two hexadecimal digits stays, and bytes that are not
/// UTF-8 become U+FFFD.
fn unquote(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((&byte, rest)) = bytes.split_first() {
        bytes = rest;
        if byte == b'%'
            && let [high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            out.push(high << 4 | low);
            bytes = after;
        } else {
            out.push(byte);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn takes_several_hosts_apart() {
        let url = TransportUrl::parse("Rabbit://u%40x:p%3a%zz@h1:5673,h2,a@b:c@[::1]:1/v%2Fh?ssl=1&x=a&x=b&y=#z").unwrap();
        assert_eq!(url.scheme, "rabbit");
        let [first, second, third] = url.hosts.as_slice() else { panic!("three hosts") };
        assert_eq!((first.user.as_deref(), first.host.as_deref(), first.port), (Some("u@x"), Some("h1"), Some(5673)));
        assert_eq!(first.password.as_ref().unwrap().expose_secret(), "p:%zz");
        assert!(second.user.is_none() && second.password.is_none() && second.port.is_none());
        assert_eq!((third.user.as_deref(), third.host.as_deref(), third.port), (Some("a@b"), Some("::1"), Some(1)));
        assert_eq!(url.virtual_host.as_deref(), Some("v/h"));
        assert_eq!(url.query.len(), 2);
        assert_eq!(url.query.last().unwrap().1.expose_secret(), "a,b");
    }

    #[test]
    fn no_message_quotes_the_url() {
        for url in ["user:hunter2@h", "rabbit://u:hunter2/x@h", "rabbit://u:p@[hunter2", "rabbit://u:p@h:hunter2"] {
            match TransportUrl::parse(url) {
                Ok(parsed) => assert_eq!(parsed.scheme, "user"),
                Err(message) => assert!(!message.contains("hunter2"), "{message}"),
            }
        }
    }

    proptest! {
        #[test]
        fn never_panics(url in "(?s).{0,80}") {
            let _outcome = TransportUrl::parse(&url);
        }

        #[test]
        fn quoted_credentials_come_back(user in "[ -~é]{1,12}", password in "[ -~é]{1,12}") {
            let quote = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
            let url = TransportUrl::parse(&format!("rabbit://{}:{}@h/", quote(&user), quote(&password))).unwrap();
            let host = url.hosts.first().unwrap();
            prop_assert_eq!(host.user.as_deref(), Some(user.as_str()));
            prop_assert_eq!(host.password.as_ref().unwrap().expose_secret(), password.as_str());
        }
    }
}
