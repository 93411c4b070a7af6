//! Builds the BPF objects that the programs are held against.

#[path = "../sg-ebpf/build_object.rs"]
mod build_object;

fn main() -> anyhow::Result<()> {
    build_object::build("sg-bench-ebpf", "../sg-bench-ebpf")
}
