//! Builds the BPF object that `sgctl` carries.

#[cfg(feature = "kernel")]
#[path = "../sg-ebpf/build_object.rs"]
mod build_object;

#[cfg(not(feature = "kernel"))]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}

#[cfg(feature = "kernel")]
fn main() -> anyhow::Result<()> {
    build_object::build("sg-ebpf", "../sg-ebpf")
}
