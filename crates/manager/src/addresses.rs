//! What kind of network an IP address leads to, so that an address that a stranger named is not asked blindly (F245).
//!
//! Pure: a decision about numbers, without a name lookup. Whoever connects must ask with the addresses that a name has
//! *resolved to*, once per hop, and connect to exactly those. What is not known to be public is not public: an address
//! outside the ranges that are handed out counts as reserved. Must not decide what is allowed: that is the caller's.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of network an address leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reach {
    /// A host on the Internet.
    Public,
    /// This machine, the unspecified address included: connecting to it reaches this machine.
    Loopback,
    /// Somebody's own network: RFC 1918, carrier-grade NAT, unique local, site-local.
    Private,
    /// The network segment that this machine is on.
    LinkLocal,
    /// A service that hands out the credentials of a cloud machine, a task or a pod.
    Metadata,
    /// Many hosts.
    Multicast,
    /// Documentation, benchmarks, protocols, the future: nobody's.
    Reserved,
}

impl Reach {
    /// The kind of an address. An IPv4 address within an IPv6 one (mapped, compatible, translated, NAT64, 6to4, Teredo)
    /// is judged as what it leads to.
    pub fn of(address: IpAddr) -> Reach {
        match address {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => of_v6(address),
        }
    }

    /// Whether it is a host on the Internet and nothing else.
    pub fn is_public(self) -> bool {
        self == Reach::Public
    }

    /// In words that complete "the address is …".
    pub fn words(self) -> &'static str {
        match self {
            Reach::Public => "a public address",
            Reach::Loopback => "this machine's own (loopback) address",
            Reach::Private => "an address of a private network",
            Reach::LinkLocal => "a link-local address",
            Reach::Metadata => "the address of a cloud metadata service",
            Reach::Multicast => "a multicast address",
            Reach::Reserved => "a reserved address",
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// Where cloud machines, tasks and pods ask for their credentials. Some lie in ranges that would be public.
const METADATA_V4: [Ipv4Addr; 7] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(169, 254, 0, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];

const METADATA_V6: [Ipv6Addr; 5] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
];

fn of_v4(address: Ipv4Addr) -> Reach {
    if METADATA_V4.contains(&address) {
        return Reach::Metadata;
    }
    match address.octets() {
        [0, 0, 0, 0] | [127, ..] => Reach::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Reach::Private,
        [169, 254, ..] => Reach::LinkLocal,
        [224..=239, ..] => Reach::Multicast,
        [0, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18..=19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [240..=255, ..] => Reach::Reserved,
        [..] => Reach::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> Reach {
    if METADATA_V6.contains(&address) {
        return Reach::Metadata;
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Reach::Loopback,
        // Mapped, translated, and NAT64 by the well-known prefix: exactly that IPv4 host.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => of_v4(within(high, low)),
        // Abandoned ways to carry an IPv4 address: never public, but said as what it would reach.
        [0, 0, 0, 0, 0, 0, high, low] => abandoned(within(high, low)),
        [0x2001, 0, _, _, _, _, high, low] => abandoned(within(!high, !low)),
        // NAT64 of somebody's own network, by a prefix of theirs.
        [0x64, 0xff9b, 1, ..] => Reach::Private,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Reach::Private,
        [0xfe80..=0xfebf, ..] => Reach::LinkLocal,
        [0xff00..=0xffff, ..] => Reach::Multicast,
        // Protocol assignments, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Reach::Reserved,
        [0x2000..=0x3fff, ..] => Reach::Public,
        [..] => Reach::Reserved,
    }
}

fn within(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

fn abandoned(address: Ipv4Addr) -> Reach {
    let reach = of_v4(address);
    if reach.is_public() {
        Reach::Reserved
    } else {
        reach
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First and last address of each range, and its neighbours on both sides.
    const TABLE: &[(Reach, &[&str])] = &[
        (
            Reach::Public,
            &[
                "1.0.0.0",
                "1.1.1.1",
                "8.8.8.8",
                "9.255.255.255",
                "11.0.0.0",
                "100.63.255.255",
                "100.128.0.0",
                "126.255.255.255",
                "128.0.0.0",
                "168.63.129.15",
                "168.63.129.17",
                "169.253.255.255",
                "169.255.0.0",
                "172.15.255.255",
                "172.32.0.0",
                "191.255.255.255",
                "192.0.1.0",
                "192.0.3.0",
                "192.88.98.255",
                "192.88.100.0",
                "192.167.255.255",
                "192.169.0.0",
                "198.17.255.255",
                "198.20.0.0",
                "198.51.99.255",
                "198.51.101.0",
                "203.0.112.255",
                "203.0.114.0",
                "223.255.255.255",
                "2000::1",
                "2001:200::1",
                "2001:4860:4860::8888",
                "2001:db7:ffff::1",
                "2001:db9::1",
                "2606:4700:4700::1111",
                "3ffe:ffff::1",
                "3fff:1000::1",
                "::ffff:8.8.8.8",
                "::ffff:0:8.8.8.8",
                "64:ff9b::8.8.8.8",
                "2002:808:808::1",
            ],
        ),
        (
            Reach::Loopback,
            &[
                "0.0.0.0",
                "127.0.0.0",
                "127.0.0.1",
                "127.255.255.255",
                "::",
                "::1",
                "::ffff:127.0.0.1",
                "::ffff:0.0.0.0",
                "::ffff:0:127.0.0.1",
                "::127.0.0.1",
                "64:ff9b::127.0.0.1",
                "2002:7f00:1::",
                "2001:0:4136:e378:8000:63bf:80ff:fffe",
            ],
        ),
        (
            Reach::Private,
            &[
                "10.0.0.0",
                "10.255.255.255",
                "100.64.0.0",
                "100.127.255.255",
                "172.16.0.0",
                "172.31.255.255",
                "192.168.0.0",
                "192.168.255.255",
                "fc00::",
                "fd00::1",
                "fdff:ffff::1",
                "fec0::1",
                "feff::1",
                "::ffff:10.1.2.3",
                "::ffff:192.168.1.1",
                "::10.0.0.1",
                "64:ff9b::10.0.0.1",
                "64:ff9b::c0a8:101",
                "64:ff9b:1::8.8.8.8",
                "64:ff9b:1:ffff::1",
                "2002:a00:1::1",
                "2002:c0a8:101::",
            ],
        ),
        (
            Reach::LinkLocal,
            &[
                "169.254.0.0",
                "169.254.169.253",
                "169.254.255.255",
                "fe80::1",
                "febf:ffff::1",
                "::ffff:169.254.1.1",
                "64:ff9b::169.254.1.1",
                "2002:a9fe:101::",
            ],
        ),
        (
            Reach::Metadata,
            &[
                "169.254.169.254",
                "169.254.170.2",
                "169.254.170.23",
                "169.254.0.23",
                "100.100.100.200",
                "168.63.129.16",
                "192.0.0.192",
                "fd00:ec2::254",
                "fd00:ec2::23",
                "fd20:ce::254",
                "fd00:c1::a9fe:a9fe",
                "fe80::a9fe:a9fe",
                "::ffff:169.254.169.254",
                "::ffff:a9fe:a9fe",
                "::ffff:0:169.254.169.254",
                "::169.254.169.254",
                "64:ff9b::169.254.169.254",
                "2002:a9fe:a9fe::",
                "2001:0:4136:e378:8000:63bf:5601:5601",
            ],
        ),
        (
            Reach::Multicast,
            &[
                "224.0.0.0",
                "239.255.255.255",
                "ff00::",
                "ff02::1",
                "ffff::1",
                "::ffff:224.0.0.1",
            ],
        ),
        (
            Reach::Reserved,
            &[
                "0.0.0.1",
                "0.255.255.255",
                "192.0.0.0",
                "192.0.0.255",
                "192.0.2.0",
                "192.0.2.255",
                "192.88.99.0",
                "192.88.99.255",
                "198.18.0.0",
                "198.19.255.255",
                "198.51.100.0",
                "198.51.100.255",
                "203.0.113.0",
                "203.0.113.255",
                "240.0.0.0",
                "255.255.255.254",
                "255.255.255.255",
                "::2:0:0",
                "::8.8.8.8",
                "64:ff9b:0:1::1",
                "64:ff9b:2::1",
                "100::1",
                "100:0:0:1::1",
                "1fff:ffff::1",
                "2001:0:4136:e378:8000:63bf:f7f7:f7f7",
                "2001:2::1",
                "2001:10::1",
                "2001:1ff:ffff::1",
                "2001:db8::",
                "2001:db8:ffff::1",
                "3fff::1",
                "3fff:fff::1",
                "4000::1",
                "5f00::1",
                "fbff::1",
                "fe00::1",
                "fe7f::1",
                "::ffff:240.0.0.1",
            ],
        ),
    ];

    #[test]
    fn f245_every_range_is_what_it_is_up_to_its_last_address() {
        for (reach, addresses) in TABLE {
            for text in *addresses {
                let address: IpAddr = text.parse().unwrap();
                assert_eq!(Reach::of(address), *reach, "{text}");
            }
        }
    }

    #[test]
    fn f245_an_address_in_disguise_is_never_more_public_than_itself() {
        let plain = TABLE.iter().flat_map(|(_, addresses)| *addresses);
        for text in plain {
            let Ok(address) = text.parse::<Ipv4Addr>() else {
                continue;
            };
            let [a, b, c, d] = address.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            let same = [
                address.to_ipv6_mapped(),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 1, 2, 3, 4, 5),
            ];
            for disguise in same {
                assert_eq!(
                    Reach::of(disguise.into()),
                    Reach::of(address.into()),
                    "{text} as {disguise}"
                );
            }
            let never_public = [
                address.to_ipv6_compatible(),
                Ipv6Addr::new(0x2001, 0, 1, 2, 3, 4, !high, !low),
                Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
            ];
            for disguise in never_public {
                assert!(!Reach::of(disguise.into()).is_public(), "{disguise}");
            }
        }
    }

    #[test]
    fn only_public_is_public() {
        for (reach, _) in TABLE {
            assert_eq!(reach.is_public(), *reach == Reach::Public);
            assert!(!reach.to_string().is_empty());
        }
    }
}
