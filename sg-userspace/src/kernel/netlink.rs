//! The rtnetlink requests that aya does not make: removing a clsact qdisc that it added, asking which program a
//! filter of it runs, and putting another program into that filter.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use futures_util::TryStreamExt as _;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use netlink_sys::protocols::NETLINK_ROUTE;
use rtnetlink::Handle;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcHeader, TcMessage,
    TcOption,
};

use super::Device;
use super::exchange::exchange;

type Error = Box<dyn std::error::Error>;

/// Removes the clsact qdisc of a device.
pub(super) fn remove_clsact(device: &str) -> Result<(), Error> {
    let index = i32::try_from(Device::open(device)?.index)?;
    with_handle(async |handle| {
        let mut request = handle.qdisc().del(index);
        // Where clsact sits (`linux/pkt_sched.h`: TC_H_CLSACT), and the handle it always has.
        let header = &mut request.message_mut().header;
        header.parent = TcHandle { major: 0xffff, minor: 0xfff1 };
        header.handle = TcHandle { major: 0xffff, minor: 0 };
        Ok(request.execute().await?)
    })
}

/// Whether a device has a qdisc of this kind.
pub(super) fn has_qdisc(device: u32, kind: &str) -> Result<bool, Error> {
    let index = i32::try_from(device)?;
    with_handle(async |handle| {
        let all: Vec<TcMessage> = handle.qdisc().get().execute().try_collect().await?;
        let is_kind = |one: &TcAttribute| matches!(one, TcAttribute::Kind(found) if found == kind);
        Ok(all.iter().any(|one| one.header.index == index && one.attributes.iter().any(is_kind)))
    })
}

/// A BPF filter of a clsact qdisc.
#[derive(Debug)]
pub(super) struct Filter {
    /// Device, direction, handle, priority and protocol: what makes it this filter and no other.
    header: TcHeader,
    /// Its name, which is its program's.
    name: String,
    /// Identity of the program that it runs.
    pub(super) program: u32,
}

impl Filter {
    /// The filter of this name that stands on what arrives on a device of this namespace (`inward`) or leaves it.
    pub(super) fn find(device: u32, inward: bool, name: &str) -> Result<Option<Self>, Error> {
        let index = i32::try_from(device)?;
        with_handle(async |handle| {
            let mut filters = handle.traffic_filter(index);
            let request = if inward { filters.get().ingress() } else { filters.get().egress() };
            let filters: Vec<TcMessage> = request.execute().try_collect().await?;
            Ok(filters.into_iter().find_map(|filter| Self::read(&filter, name)))
        })
    }

    /// A BPF filter, if it has this name.
    fn read(filter: &TcMessage, name: &str) -> Option<Self> {
        let (mut is_ours, mut program) = (false, None);
        for attribute in &filter.attributes {
            let TcAttribute::Options(options) = attribute else { continue };
            for option in options {
                if let TcOption::Bpf(TcFilterBpfOption::ProgName(found)) = option {
                    is_ours = found == name;
                } else if let TcOption::Bpf(TcFilterBpfOption::ProgId(found)) = option {
                    program = Some(*found);
                }
            }
        }
        let program = program.filter(|_| is_ours)?;
        Some(Self { header: filter.header.clone(), name: name.to_owned(), program })
    }

    /// Adds a filter of this name, where there is a clsact qdisc and none of its priority.
    pub(super) fn add(
        device: u32,
        inward: bool,
        name: &str,
        program: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let minor = if inward { TcHandle::MIN_INGRESS } else { TcHandle::MIN_EGRESS };
        let header = TcHeader {
            index: i32::try_from(device)?,
            parent: TcHandle { major: 0xffff, minor },
            // Priority 1, and ETH_P_ALL in network order.
            info: 1 << 16 | u32::from(3_u16.to_be()),
            ..TcHeader::default()
        };
        let filter = Self { header, name: name.to_owned(), program: 0 };
        filter.send(program, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Has the filter run another program. The kernel exchanges the two in one step (`cls_bpf_change`), and makes no
    /// filter where this one has gone meanwhile.
    pub(super) fn change(&self, program: BorrowedFd<'_>) -> Result<(), Error> {
        self.send(program, 0)
    }

    fn send(&self, program: BorrowedFd<'_>, flags: u16) -> Result<(), Error> {
        let options = [
            TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned()),
            TcFilterBpfOption::ProgName(self.name.clone()),
            TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
        ];
        let attributes = vec![
            TcAttribute::Kind(TcFilterBpf::KIND.to_owned()),
            TcAttribute::Options(options.map(TcOption::Bpf).to_vec()),
        ];
        let message = TcMessage::from_parts(self.header.clone(), attributes);
        exchange(NETLINK_ROUTE, RouteNetlinkMessage::NewTrafficFilter(message), NLM_F_ACK | flags)?;
        Ok(())
    }
}

/// Runs requests on a connection of their own.
fn with_handle<T>(requests: impl AsyncFnOnce(Handle) -> Result<T, Error>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (connection, handle, _messages) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        requests(handle).await
    })
}
