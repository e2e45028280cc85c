//! Notes by number in a stable B-tree, with a count of writes in the heap that dies at an upgrade.

use ic_stable_structures::memory_manager::{MemoryId, MemoryManager, VirtualMemory};
use ic_stable_structures::{DefaultMemoryImpl, StableBTreeMap, StableCell};
use std::cell::{Cell, RefCell};

type Memory = VirtualMemory<DefaultMemoryImpl>;

thread_local! {
    static MANAGER: RefCell<MemoryManager<DefaultMemoryImpl>> =
        RefCell::new(MemoryManager::init(DefaultMemoryImpl::default()));
    static NOTES: RefCell<StableBTreeMap<u64, String, Memory>> = RefCell::new(
        StableBTreeMap::init(MANAGER.with_borrow(|it| it.get(MemoryId::new(3)))));
    static TITLE: RefCell<StableCell<String, Memory>> = RefCell::new(
        StableCell::init(MANAGER.with_borrow(|it| it.get(MemoryId::new(0))), String::new()));
    static WRITES: Cell<u64> = const { Cell::new(0) };
}

#[ic_cdk::init]
fn init(title: String) {
    TITLE.with_borrow_mut(|it| it.set(title));
}

#[ic_cdk::post_upgrade]
fn post_upgrade() {
    // Opened here, so that an upgrade shows what opening touches.
    NOTES.with_borrow(|it| it.len());
}

#[ic_cdk::update]
fn nothing() {}

#[ic_cdk::update]
fn put(number: u64, text: String) -> Option<String> {
    WRITES.set(WRITES.get() + 1);
    NOTES.with_borrow_mut(|it| it.insert(number, text))
}

/// Writes `count` notes of `size` bytes.
#[ic_cdk::update]
fn fill(count: u64, size: u64) -> u64 {
    for number in 0..count {
        put(number, "x".repeat(size as usize));
    }
    NOTES.with_borrow(|it| it.len())
}

/// Writes a note, and traps.
#[ic_cdk::update]
fn put_and_trap(number: u64, text: String) {
    put(number, text);
    ic_cdk::trap("on purpose");
}

#[ic_cdk::query]
fn get(number: u64) -> Option<String> {
    NOTES.with_borrow(|it| it.get(&number))
}

#[ic_cdk::query]
fn title() -> String {
    TITLE.with_borrow(|it| it.get().clone())
}

/// How many notes there are, and how many were written since the heap is new.
#[ic_cdk::query]
fn counts() -> (u64, u64) {
    (NOTES.with_borrow(|it| it.len()), WRITES.get())
}

ic_cdk::export_candid!();
