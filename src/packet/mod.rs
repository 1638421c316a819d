//! x
pub mod buffer;
pub mod offload {
    #[derive(Debug, Default, Clone, Copy)]
    pub struct Offload {
        pub gso_size: u16,
        pub checksum_incomplete: bool,
    }
}
