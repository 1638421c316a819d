//! The memory of the process.

/// Gives the system back what the allocator keeps of freed memory (malloc_trim(3)); it takes some
/// microseconds a MiB. C libraries other than glibc decide that for themselves.
pub fn give_back() {
    // SAFETY: takes a number and may be called at any time, from any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
