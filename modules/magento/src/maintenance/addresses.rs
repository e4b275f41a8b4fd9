//! The addresses that may use the shop while it is closed.

use std::net::IpAddr;

use oxistrano_core::Failure;

/// The allowed addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(String);

impl Addresses {
    /// Checks addresses.
    ///
    /// # Errors
    /// When one is not an address: Magento compares it with the visitor's address.
    pub fn new(addresses: &[String]) -> Result<Self, Failure> {
        match addresses.iter().find(|address| !is_address(address)) {
            Some(address) => Err(Failure::new(
                "bad_address",
                format!("cannot allow the address '{}'", address.escape_debug()),
            )
            .cause(
                "Magento compares it with the visitor's address and does not resolve names; it \
                 must not contain spaces or commas",
            )
            .remedy(
                "give an IP address, such as 203.0.113.7 or 2001:db8::7, or a range, such as \
                203.0.113.0/24",
            )
            .state("Nothing was changed.")),
            None => Ok(Self(addresses.join(","))),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The content of the file.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// An address, or a range (from Magento 2.4.4 on).
fn is_address(text: &str) -> bool {
    let (address, length) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    length.is_none_or(|length| length.parse::<u8>().is_ok_and(|length| length <= most))
}
