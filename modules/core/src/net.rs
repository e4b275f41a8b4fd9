//! Names of hosts, without `getaddrinfo`, which a static program must not call: it loads the
//! plugins of NSS.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::command::Program;

/// A name server that does not answer must not hold up a deploy.
const LOOKUP: Duration = Duration::from_secs(10);

/// The addresses that a host and a port stand for: as it is written, from `/etc/hosts`, or
/// from `getent`.
///
/// # Errors
/// Why the name leads nowhere.
pub fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let at = |addresses: Vec<IpAddr>| {
        addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()
    };
    if let Ok(address) = host.parse() {
        return Ok(at(vec![address]));
    }
    let hosts = fs::read("/etc/hosts").unwrap_or_default();
    let mut found = in_hosts(&String::from_utf8_lossy(&hosts), host);
    if found.is_empty() {
        if let Ok(output) = Program::new(["getent", "ahosts", "--", host]).timeout(LOOKUP).run_ok()
        {
            found = in_ahosts(&String::from_utf8_lossy(&output.stdout));
        }
    }
    if found.is_empty() && host == "localhost" {
        found.push(Ipv4Addr::LOCALHOST.into());
    }
    if found.is_empty() {
        return Err(format!("neither /etc/hosts nor getent knows '{host}'"));
    }
    Ok(at(found))
}

fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect()
}

/// `192.0.2.1     STREAM php`
fn in_ahosts(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let address = line.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
        if let Some(address) = address.filter(|address| !found.contains(address)) {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_the_hosts_file() {
        let text = "# php\n127.0.0.1 localhost\n192.0.2.7\tshop PHP # x\n::1 php\nnonsense php\n";
        let expected: Vec<IpAddr> = vec!["192.0.2.7".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(in_hosts(text, "php"), expected);
        assert!(in_hosts(text, "x").is_empty());
        assert_eq!(in_ahosts("192.0.2.1 STREAM a\n192.0.2.1 DGRAM\nx\n").len(), 1);
        assert!(!resolve("localhost", 9000).unwrap().is_empty());
        let error = resolve("no-such-host.invalid", 9000).unwrap_err();
        assert!(error.contains("no-such-host.invalid"), "{error}");
    }
}
