//! What the kernel says of a network device.

use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use ipnet::IpNet;
use sg_common::LinkLayer;

use super::KernelError;

/// A network device of the current namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Inode of its network namespace: name and index are unique only there.
    pub namespace: u64,
    /// What its packets begin with.
    pub link: LinkLayer,
    /// Its driver's name, where it has one.
    pub driver: Option<String>,
}

/// `ETHTOOL_GDRVINFO` of `linux/ethtool.h`.
const ETHTOOL_GDRVINFO: u32 = 3;
/// Length of `struct ethtool_drvinfo`.
const DRVINFO_LENGTH: usize = 196;
/// Where its driver name begins, and how long it may be.
const DRVINFO_DRIVER: std::ops::Range<usize> = 4..36;

impl Device {
    /// Looks a device up.
    ///
    /// # Errors
    /// When there is none of that name, or its link layer is one the engine cannot read.
    pub fn open(name: &str) -> Result<Self, KernelError> {
        let no_device = || KernelError::NoDevice {
            name: name.to_owned(),
            have: nix::net::if_::if_nameindex()
                .map(|all| {
                    let mut names: Vec<_> =
                        all.iter().map(|one| one.name().to_string_lossy().into_owned()).collect();
                    names.retain(|name| name != "lo");
                    names.join(", ")
                })
                .unwrap_or_default(),
        };
        let index = nix::net::if_::if_nametoindex(name).map_err(|_unknown| no_device())?;
        let kind = hardware_type(name).map_err(|_unknown| no_device())?;
        let link =
            link_layer(kind).ok_or(KernelError::LinkLayer { name: name.to_owned(), kind })?;
        Ok(Self {
            name: name.to_owned(),
            index,
            namespace: Self::namespace_here(),
            link,
            driver: driver(name),
        })
    }

    /// Inode of the calling thread's network namespace.
    #[must_use]
    pub fn namespace_here() -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata("/proc/thread-self/ns/net").map_or(0, |metadata| metadata.ino())
    }

    /// Whether a network namespace with this inode is still there: named, or some process's.
    #[must_use]
    pub fn namespace_exists(inode: u64) -> bool {
        super::namespace::find(inode).is_some()
    }

    /// Addresses that the device has now; link-local ones apart.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn addresses(&self) -> Result<Vec<IpNet>, KernelError> {
        let all = nix::ifaddrs::getifaddrs().map_err(|source| KernelError::Device {
            name: self.name.clone(),
            doing: "read the addresses of",
            source: source.into(),
        })?;
        Ok(all
            .filter(|one| one.interface_name == self.name)
            .filter_map(|one| {
                let address = one.address?;
                address
                    .as_sockaddr_in()
                    .map(|v4| IpNet::from(std::net::IpAddr::from(v4.ip())))
                    .or_else(|| {
                        let v6 = address.as_sockaddr_in6()?.ip();
                        (!v6.is_unicast_link_local()).then(|| std::net::IpAddr::from(v6).into())
                    })
            })
            .collect())
    }

    /// Whether it is a veth or a tap, of which the machine that has it is one end.
    #[must_use]
    pub fn is_a_pair_or_tap(&self) -> bool {
        matches!(self.driver.as_deref(), Some("veth" | "tun"))
    }

    /// Whether XDP in the driver pays here: on physical NICs, but not where it would cost the batching
    /// (GRO, GSO) that carries bulk TCP.
    #[must_use]
    pub fn prefers_xdp(&self) -> bool {
        const BATCHING: [&str; 12] = [
            "veth",
            "tun",
            "virtio_net",
            "bridge",
            "bonding",
            "802.1Q VLAN Support",
            "dummy",
            "macvlan",
            "ipvlan",
            "vxlan",
            "wireguard",
            "team",
        ];
        matches!(self.link, LinkLayer::Ethernet)
            && self.driver.as_deref().is_some_and(|driver| !BATCHING.contains(&driver))
    }
}

/// `ARPHRD_RAWIP`, which libc does not name.
const ARPHRD_RAWIP: u16 = 519;

/// By ARP hardware type (`linux/if_arp.h`).
fn link_layer(kind: u16) -> Option<LinkLayer> {
    match kind {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Some(LinkLayer::Ethernet),
        libc::ARPHRD_NONE
        | libc::ARPHRD_PPP
        | ARPHRD_RAWIP
        | libc::ARPHRD_TUNNEL
        | libc::ARPHRD_TUNNEL6
        | libc::ARPHRD_SIT
        | libc::ARPHRD_IPGRE => Some(LinkLayer::Ip),
        _ => None,
    }
}

fn hardware_type(name: &str) -> std::io::Result<u16> {
    let mut request = request(name)?;
    ioctl(libc::SIOCGIFHWADDR, &mut request)?;
    // SAFETY: the call has filled this member of the union.
    Ok(unsafe { request.ifr_ifru.ifru_hwaddr.sa_family })
}

fn driver(name: &str) -> Option<String> {
    let mut info = [0_u8; DRVINFO_LENGTH];
    info[..4].copy_from_slice(&ETHTOOL_GDRVINFO.to_ne_bytes());
    let mut request = request(name).ok()?;
    request.ifr_ifru.ifru_data = info.as_mut_ptr().cast();
    ioctl(libc::SIOCETHTOOL, &mut request).ok()?;
    let driver = CStr::from_bytes_until_nul(&info[DRVINFO_DRIVER]).ok()?;
    Some(driver.to_string_lossy().into_owned()).filter(|driver| !driver.is_empty())
}

fn request(name: &str) -> std::io::Result<libc::ifreq> {
    // SAFETY: all zero bytes are a valid request: an empty name and a null pointer.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte.cast_signed();
    }
    Ok(request)
}

fn ioctl(number: libc::c_ulong, request: &mut libc::ifreq) -> std::io::Result<()> {
    // SAFETY: takes no pointer; the result is checked.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: both calls in use fill a request, and one a buffer of `DRVINFO_LENGTH` that it points to.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), number, std::ptr::from_mut(request)) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
