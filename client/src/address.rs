//! HOST:PORT, parsed once at the edge.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// Where a server listens: a host name, an IPv4 address or a bracketed IPv6 address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(String);

impl Address {
    /// `HOST:PORT`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses a list.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the list is empty or one of them is no HOST:PORT.
    pub fn parse_all<S: AsRef<str>>(
        texts: impl IntoIterator<Item = S>,
    ) -> Result<Vec<Self>, Error> {
        let addresses: Vec<Address> = texts
            .into_iter()
            .map(|text| text.as_ref().parse())
            .collect::<Result<_, _>>()?;
        if addresses.is_empty() {
            return Err(Error::invalid(
                "no endpoint given; give at least one HOST:PORT",
            ));
        }
        Ok(addresses)
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::invalid(format!(
                "endpoint `{text}`: {why}; give HOST:PORT, for example 127.0.0.1:7400"
            ))
        };
        if text.contains("://") {
            return Err(wrong("it has a scheme"));
        }
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| wrong("it has no port"))?;
        if host.is_empty() {
            return Err(wrong("it has no host"));
        }
        if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
            return Err(wrong("an IPv6 address belongs in brackets"));
        }
        if host.contains(['/', '@', '?', '#']) || host.contains(char::is_whitespace) {
            return Err(wrong("the host has a character that no host has"));
        }
        match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok(Address(text.to_owned())),
            _ => Err(wrong("the port is no number from 1 to 65535")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_needed() {
        for right in [
            "127.0.0.1:7400",
            "[::1]:7400",
            "demo-0.demo-peers.default.svc:7400",
        ] {
            assert_eq!(right.parse::<Address>().unwrap().as_str(), right);
        }
        for wrong in [
            "",
            "demo",
            ":7400",
            "demo:",
            "demo:0",
            "demo:65536",
            "::1:7400",
            "http://demo:1",
            "a b:1",
        ] {
            let error = wrong.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
    }
}
