//! The rtnetlink requests that aya does not make: removing a clsact qdisc that it added, and asking which program
//! a filter of it runs.

use futures_util::TryStreamExt as _;
use rtnetlink::Handle;
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption};

use super::Device;

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

/// The program of the first filter of one of these names that stands on what arrives on a device of this namespace
/// (`inward`) or leaves it.
pub(super) fn filter_program(
    device: u32,
    inward: bool,
    names: &[&str],
) -> Result<Option<u32>, Error> {
    let index = i32::try_from(device)?;
    with_handle(async |handle| {
        let mut filters = handle.traffic_filter(index);
        let request = if inward { filters.get().ingress() } else { filters.get().egress() };
        let filters: Vec<TcMessage> = request.execute().try_collect().await?;
        Ok(filters.iter().find_map(|filter| program(filter, names)))
    })
}

/// The program that a filter runs, if it is a BPF filter of one of these names.
fn program(filter: &TcMessage, names: &[&str]) -> Option<u32> {
    let (mut is_ours, mut id) = (false, None);
    for attribute in &filter.attributes {
        let TcAttribute::Options(options) = attribute else { continue };
        for option in options {
            if let TcOption::Bpf(TcFilterBpfOption::ProgName(name)) = option {
                is_ours = names.contains(&name.as_str());
            } else if let TcOption::Bpf(TcFilterBpfOption::ProgId(found)) = option {
                id = Some(*found);
            }
        }
    }
    id.filter(|_| is_ours)
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
