//! The smallest policy worth a test, for [`Net::pair`](crate::net::Net::pair): a server that anybody
//! reaches on tcp/80 and udp/53, and a client that nobody reaches.

use anyhow::Result;

use crate::example::Example;

/// `server` has a device, `client` is a member of `default` that lives elsewhere.
pub const ONE: &str = r#"vpcs:
  - name: lab
    cidrs: [10.77.0.0/16, "fd77::/16"]
    security_groups:
      - name: web
        ingress:
          - {type: http, from: [0.0.0.0/0, "::/0"], description: everybody reads}
          - {type: dns-udp, from: [0.0.0.0/0, "::/0"]}
    interfaces:
      - {name: server, addresses: [10.77.2.10, "fd77:2::10"], groups: [web], device: to-server, side: workload}
      - {name: client, addresses: [10.77.1.10, "fd77:1::10"]}
"#;

/// The first rule of [`ONE`]'s server.
pub const HTTP: &str = "{type: http, from: [0.0.0.0/0, \"::/0\"], description: everybody reads}";
/// What tests put in its place.
pub const SSH: &str = "{type: ssh, from: {group: default}}";

/// Both have a device.
///
/// # Errors
/// When the policy is refused.
pub fn two() -> Result<Example> {
    let text = ONE.replace("::10\"]}", "::10\"], device: to-client, side: workload}");
    Example::new("lab", text)
}

/// [`ONE`].
///
/// # Errors
/// When the policy is refused.
pub fn one() -> Result<Example> {
    Example::new("lab", ONE)
}
