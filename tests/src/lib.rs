//! Stand-ins for everything around the BFF, and the programs built from them.
//!
//! Every fixture binds port 0 of the loopback address and keeps the listener, returns a handle,
//! and stops when the handle is dropped. What a fixture promises about the server it stands in
//! for is checked against the real one by the same contract tests.

pub mod chaos;
pub mod everything;
pub mod fixtures;
pub mod heavy;
mod load;
pub mod process;
mod test_bff;
pub mod websocket;

pub use self::load::Load;
pub use self::test_bff::{TestBff, TestBffBuilder};
