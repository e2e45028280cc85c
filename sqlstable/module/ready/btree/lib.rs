//! A `StableBTreeMap` from numbers to bytes, in a canister as lean as one can be.
//!
//! Arguments are numbers of 64 bits, little-endian; there is no Candid, so that what a message costs
//! is what the map costs. Values consist of one byte, repeated.

use ic_stable_structures::memory_manager::{MemoryId, MemoryManager, VirtualMemory};
use ic_stable_structures::{DefaultMemoryImpl, StableBTreeMap};
use std::cell::RefCell;

#[link(wasm_import_module = "ic0")]
extern "C" {
    fn msg_arg_data_size() -> usize;
    fn msg_arg_data_copy(dst: usize, offset: usize, size: usize);
    fn msg_reply_data_append(src: usize, size: usize);
    fn msg_reply();
}

type Map = StableBTreeMap<u64, Vec<u8>, VirtualMemory<DefaultMemoryImpl>>;

thread_local! {
    static MAP: RefCell<Map> = RefCell::new(StableBTreeMap::init(
        MemoryManager::init(DefaultMemoryImpl::default()).get(MemoryId::new(0))));
}

/// The argument: so many numbers, those that are missing 0.
fn numbers<const N: usize>() -> [u64; N] {
    let mut found = [0u64; N];
    unsafe {
        let size = msg_arg_data_size().min(N * 8);
        msg_arg_data_copy(found.as_mut_ptr() as usize, 0, size);
    }
    found
}

fn append(bytes: &[u8]) {
    unsafe { msg_reply_data_append(bytes.as_ptr() as usize, bytes.len()) }
}

fn reply() {
    unsafe { msg_reply() }
}

fn put(key: u64, size: u64) {
    MAP.with_borrow_mut(|map| map.insert(key, vec![b'x'; size as usize]));
}

/// `first`, `count`, `size`: inserts that many keys, one after the other.
#[export_name = "canister_update fill"]
fn fill() {
    let [first, count, size] = numbers();
    for key in first..first + count {
        put(key, size);
    }
    reply();
}

/// `key`, `size`: inserts or overwrites.
#[export_name = "canister_update put"]
fn put_one() {
    let [key, size] = numbers();
    put(key, size);
    reply();
}

fn answer_one() {
    let [key] = numbers();
    MAP.with_borrow(|map| {
        if let Some(value) = map.get(&key) {
            append(&value);
        }
    });
    reply();
}

/// `key`: replies with its value.
#[export_name = "canister_query get"]
fn get() {
    answer_one();
}

/// The same as an update, which leaves its heap warm.
#[export_name = "canister_update get_warm"]
fn get_warm() {
    answer_one();
}

/// `first`, `count`: replies with keys and values of a range.
#[export_name = "canister_query range"]
fn range() {
    let [first, count] = numbers();
    MAP.with_borrow(|map| {
        for entry in map.range(first..first + count) {
            append(&entry.key().to_le_bytes());
            append(&entry.value());
        }
    });
    reply();
}

/// Replies with the number of entries and the bytes of their values: reads all.
#[export_name = "canister_query scan"]
fn scan() {
    let mut found = [0u64; 2];
    MAP.with_borrow(|map| {
        for entry in map.iter() {
            found[0] += 1;
            found[1] += entry.value().len() as u64;
        }
    });
    append(&found[0].to_le_bytes());
    append(&found[1].to_le_bytes());
    reply();
}
