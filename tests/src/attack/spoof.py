"""What a hostile workload sends in other names. Run inside the workload; it listens to nothing.

The argument says which: `others`, everything but `link-local`, its own choice of an address of the link."""

import sys

from scapy.all import (
    ARP, BOOTP, DHCP, ICMP, IP, TCP, UDP, Ether, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS,
    ICMPv6ND_RA, ICMPv6ND_Redirect, ICMPv6NDOptDstLLAddr, ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr, IPv6, Raw, sendp, get_if_hwaddr)
from scapy.layers.dhcp6 import DHCP6_Advertise, DHCP6_Reply

DEVICE = "eth0"
OWN = get_if_hwaddr(DEVICE)
FOREIGN = "02:66:66:66:66:66"
CLIENT = "02:73:67:00:00:02"
ALL = "ff:ff:ff:ff:ff:ff"
ALL6 = "33:33:00:00:00:01"

frames = []

# IP: the router's, a neighbour's, nobody's and impossible sources.
for source in ["10.77.2.1", "10.77.2.21", "203.0.113.9", "127.0.0.1", "224.0.0.5", "0.0.0.0",
               "255.255.255.255"]:
    ip = Ether(src=OWN, dst=CLIENT) / IP(src=source, dst="10.77.2.20")
    frames += [ip / UDP(sport=53, dport=9000) / b"x", ip / TCP(dport=80, flags="S"),
               ip / TCP(dport=80, flags="A"), ip / ICMP()]
for source in ["fd77:2::1", "fd77:2::21", "2001:db8::9", "::1", "ff02::1", "::",
               "fe80::66", "::ffff:10.77.2.21"]:
    ip = Ether(src=OWN, dst=CLIENT) / IPv6(src=source, dst="fd77:2::20")
    frames += [ip / UDP(sport=53, dport=9000) / b"x", ip / TCP(dport=80, flags="S"),
               ip / ICMPv6EchoRequest()]

# Its own address with another MAC.
frames += [Ether(src=FOREIGN, dst=CLIENT) / IP(src="10.77.2.10", dst="10.77.2.20") / ICMP(),
           Ether(src=FOREIGN, dst=CLIENT) / IPv6(src="fd77:2::10", dst="fd77:2::20")
           / ICMPv6EchoRequest()]

# ARP: claims of the router's and a neighbour's address, asked for or not, and of another MAC.
for address in ["10.77.2.1", "10.77.2.21", "10.77.2.20"]:
    for operation in [1, 2]:
        for target in ["10.77.2.20", address]:
            frames.append(Ether(src=OWN, dst=ALL)
                          / ARP(op=operation, hwsrc=OWN, psrc=address, pdst=target))
frames += [Ether(src=OWN, dst=ALL) / ARP(op=2, hwsrc=FOREIGN, psrc="10.77.2.10", pdst="10.77.2.20"),
           Ether(src=FOREIGN, dst=ALL) / ARP(op=2, hwsrc=FOREIGN, psrc="10.77.2.10"),
           Ether(src=FOREIGN, dst=ALL) / ARP(op=1, hwsrc=OWN, psrc="10.77.2.10",
                                            pdst="10.77.2.20")]

# Neighbour discovery in other names.
for address in ["fd77:2::1", "fd77:2::21"]:
    for source in ["fd77:2::10", address]:
        frames.append(Ether(src=OWN, dst=ALL6) / IPv6(src=source, dst="ff02::1", hlim=255)
                      / ICMPv6ND_NA(tgt=address, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=OWN))
    frames.append(Ether(src=OWN, dst=CLIENT) / IPv6(src=address, dst="fd77:2::20", hlim=255)
                  / ICMPv6ND_NS(tgt="fd77:2::20") / ICMPv6NDOptSrcLLAddr(lladdr=OWN))

# What only routers and servers say.
for source in ["fe80::66", "fd77:2::10", "fd77:2::1"]:
    ip = Ether(src=OWN, dst=ALL6) / IPv6(src=source, dst="ff02::1", hlim=255)
    frames += [ip / ICMPv6ND_RA() / ICMPv6NDOptPrefixInfo(prefix="fd66::", prefixlen=64),
               ip / ICMPv6ND_Redirect(tgt="fe80::66", dst="2001:db8::1")]
for source in ["10.77.2.10", "10.77.2.1"]:
    frames.append(Ether(src=OWN, dst=ALL) / IP(src=source, dst="255.255.255.255")
                  / UDP(sport=67, dport=68) / BOOTP(op=2, yiaddr="10.77.2.66")
                  / DHCP(options=[("message-type", "offer"), "end"]))
for source in ["fd77:2::10", "fe80::66"]:
    for answer in [DHCP6_Advertise(), DHCP6_Reply()]:
        frames.append(Ether(src=OWN, dst=CLIENT) / IPv6(src=source, dst="fd77:2::20")
                      / UDP(sport=547, dport=546) / answer)

# Neither IP nor ARP.
frames += [Ether(src=OWN, dst=ALL, type=kind) / Raw(b"x" * 46) for kind in [0x88CC, 0x8035, 0x86D9]]

if sys.argv[1] == "link-local":
    advertised = ICMPv6ND_NA(tgt="fe80::66", S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=OWN)
    asked = ICMPv6ND_NS(tgt="fd77:2::20") / ICMPv6NDOptSrcLLAddr(lladdr=OWN)
    frames = [Ether(src=OWN, dst=ALL6) / IPv6(src="fe80::66", dst="ff02::1", hlim=255) / advertised,
              Ether(src=OWN, dst=CLIENT) / IPv6(src="fe80::66", dst="fd77:2::20", hlim=255) / asked]

sendp(frames, iface=DEVICE, verbose=False)
print(len(frames))
