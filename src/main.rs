//! The `tunnel64d` binary.
fn main() {}
