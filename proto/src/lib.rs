//! The gRPC contracts this workspace speaks: the only place where code is generated.
//!
//! Each proto package is one module. [`FILE_DESCRIPTOR_SET`] is what the reflection
//! service serves: our own services, not those of a fixture.

/// The encoded `google.protobuf.FileDescriptorSet` of our own services.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Package `helloworld`: the `Greeter` service.
#[expect(missing_docs, reason = "generated; the .proto file documents it")]
pub mod helloworld {
    tonic::include_proto!("helloworld");
}

/// Nacos' envelope, for a fixture: clients have nacos-sdk.
#[cfg(feature = "nacos")]
#[expect(
    missing_docs,
    non_camel_case_types,
    reason = "generated; the .proto file documents it, and its names are Nacos'"
)]
pub mod nacos {
    tonic::include_proto!("_");
}
