//! Builds the BPF objects that the programs are held against.

#[path = "../sg-ebpf/build_object.rs"]
mod build_object;

fn main() -> anyhow::Result<()> {
    // Its packet reader is that of sg-ebpf.
    println!("cargo:rerun-if-changed=../sg-ebpf/src/packet.rs");
    build_object::build("sg-bench-ebpf", "../sg-bench-ebpf")
}
