//! Where an appliance is.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::ServerName;

/// The port of the management protocol.
pub const DEFAULT_PORT: u16 = 8443;

/// A host, by name or address, and a port. Reads `HOST`, `HOST:PORT` and both after `https://`;
/// an IPv6 address stands in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    name: ServerName<'static>,
}

/// Text that is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an endpoint: {rule}")]
pub struct EndpointError {
    text: String,
    rule: &'static str,
}

impl Endpoint {
    /// Its name or address, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same place, whose certificate is for another name than we know it by.
    pub fn known_as(self, name: &ServerName<'static>) -> Endpoint {
        let name = name.clone();
        Endpoint { name, ..self }
    }

    /// What its certificate must be for.
    pub(super) fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let refused = |rule| EndpointError {
            text: text.to_owned(),
            rule,
        };
        let rest = text.strip_prefix("https://").unwrap_or(text);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split(rest).map_err(refused)?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| refused("the host is a DNS name or an IP address"))?;
        Ok(Endpoint {
            host: host.to_owned(),
            port,
            name,
        })
    }
}

fn split(text: &str) -> Result<(&str, u16), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("a bracket is not closed")?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err("only ':PORT' follows a bracket"),
            }
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("an IPv6 address stands in brackets");
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    match port.map_or(Ok(DEFAULT_PORT), str::parse) {
        Ok(port) if port != 0 => Ok((host, port)),
        _ => Err("the port is 1 to 65535"),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_and_perhaps_a_port() {
        for (text, shown) in [
            ("box1", "box1:8443"),
            ("https://box1:9000/", "box1:9000"),
            ("192.0.2.7", "192.0.2.7:8443"),
            ("[2001:db8::1]", "[2001:db8::1]:8443"),
            ("https://[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "http://box1",
            "box1:0",
            "box1:70000",
            "::1",
            "[::1",
            "[::1]x",
            "box1/path",
            "a b",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad:?}");
        }
    }
}
