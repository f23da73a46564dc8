//! The gRPC contracts this workspace speaks: the only place where code is generated.
//!
//! Each proto package is one module. [`FILE_DESCRIPTOR_SET`] is what the reflection
//! service serves.

/// The encoded `google.protobuf.FileDescriptorSet` of every `.proto` file of this crate.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Package `helloworld`: the `Greeter` service.
#[expect(missing_docs, reason = "generated; the .proto file documents it")]
pub mod helloworld {
    tonic::include_proto!("helloworld");
}
