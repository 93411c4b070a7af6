//! The one rtnetlink request that aya does not make: removing a clsact qdisc that it added.

use rtnetlink::packet_route::tc::TcHandle;

use super::Device;

/// Removes the clsact qdisc of a device.
pub(super) fn remove_clsact(device: &str) -> Result<(), Box<dyn std::error::Error>> {
    let index = i32::try_from(Device::open(device)?.index)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (connection, handle, _messages) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let mut request = handle.qdisc().del(index);
        // Where clsact sits (`linux/pkt_sched.h`: TC_H_CLSACT), and the handle it always has.
        let header = &mut request.message_mut().header;
        header.parent = TcHandle { major: 0xffff, minor: 0xfff1 };
        header.handle = TcHandle { major: 0xffff, minor: 0 };
        request.execute().await?;
        Ok(())
    })
}
