//! Who is asking.

use sha2::{Digest, Sha256};

/// Who is asking, as a fingerprint: short, and the same in every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey(pub(crate) u128);

impl ClientKey {
    /// The fingerprint of what a client is known by. No client can choose another one's.
    pub(crate) fn of(identity: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(identity).into();
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        Self(u128::from_be_bytes(half))
    }
}
