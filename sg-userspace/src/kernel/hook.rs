//! The places on a device where programs sit, and what can be asked for.

use aya::programs::TcAttachType;
use serde::{Deserialize, Serialize};

/// Where ingress of a host's device is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// In the driver where that pays, else at TC.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// Behind the driver, for devices without support: works everywhere, gains nothing.
    Generic,
    /// At TC.
    Off,
}

/// How programs are attached at TC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TcMode {
    /// TCX links where the kernel has them (6.6), else clsact filters.
    #[default]
    Auto,
    /// TCX links.
    Tcx,
    /// Filters of a clsact qdisc.
    Clsact,
}

/// One program on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// XDP in the driver.
    XdpNative,
    /// XDP behind the driver.
    XdpGeneric,
    /// TCX link on what arrives.
    TcxIngress,
    /// TCX link on what leaves.
    TcxEgress,
    /// clsact filter on what arrives.
    ClsactIngress,
    /// clsact filter on what leaves.
    ClsactEgress,
}

impl Hook {
    /// The word for it in text, in JSON and in the names of pins.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
            Self::TcxIngress => "tcx-ingress",
            Self::TcxEgress => "tcx-egress",
            Self::ClsactIngress => "clsact-ingress",
            Self::ClsactEgress => "clsact-egress",
        }
    }

    pub(super) const fn attach_type(self) -> TcAttachType {
        if self.is_inward() { TcAttachType::Ingress } else { TcAttachType::Egress }
    }

    /// Whether it sits on what arrives on the device.
    pub(super) const fn is_inward(self) -> bool {
        matches!(self, Self::XdpNative | Self::XdpGeneric | Self::TcxIngress | Self::ClsactIngress)
    }

    pub(super) const fn is_clsact(self) -> bool {
        matches!(self, Self::ClsactIngress | Self::ClsactEgress)
    }
}

/// What a device got, for status and for detaching.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The hooks in use.
    pub hooks: Vec<Hook>,
    /// The clsact qdisc is ours and goes with the filters.
    pub made_qdisc: bool,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// See [`XdpMode`].
    pub xdp: XdpMode,
    /// See [`TcMode`].
    pub tc: TcMode,
}
