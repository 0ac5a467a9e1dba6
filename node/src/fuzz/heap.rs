//! Counts the heap of each thread, so that a target can bound what an input costs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting. A program that wants bounds checked installs it with
/// `#[global_allocator]`; without it every bound holds.
#[derive(Clone, Copy, Debug)]
pub struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

// An allocator cannot be written without; this one only counts.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(old, layout) }
    }
}

fn count(bytes: isize) {
    // A thread that is ending is not counted any more.
    let _ = LIVE.try_with(|live| {
        let now = live.get() + bytes;
        live.set(now);
        PEAK.with(|peak| peak.set(peak.get().max(now)));
    });
}

/// Bytes that this thread has allocated and not freed.
pub fn live() -> isize {
    LIVE.with(Cell::get)
}

/// What a call answers, and how many bytes more were allocated at most meanwhile.
pub fn peak_of<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let before = live();
    PEAK.with(|peak| peak.set(before));
    let answer = call();
    let peak = PEAK.with(Cell::get);
    (answer, (peak - before) as usize)
}
