//! Candid's own crates, called through linear memory.
//!
//! A request is one byte that says what is asked, then fields, each its length (u32, little-endian)
//! and so many bytes. The answer begins with its length (u32), then 0 and the answer, or 1 and a
//! failure as JSON: `message`, and `start` and `end` (bytes) in `source` where it is at a place in
//! a text. Interfaces stay in the instance and are named by their numbers.

mod failure;
mod interface;
mod json;
mod mismatch;
mod values;

use failure::{Failure, Outcome};
use interface::{Direction, Interface};
use std::cell::RefCell;

thread_local! {
    static INTERFACES: RefCell<Vec<Interface>> = const { RefCell::new(Vec::new()) };
}

/// Gives room for a request of so many bytes.
#[no_mangle]
pub extern "C" fn allocate(size: usize) -> *mut u8 {
    Box::leak(vec![0u8; size].into_boxed_slice()).as_mut_ptr()
}

/// Gives back what `allocate` gave.
///
/// # Safety
/// `start` and `size` are of one call of `allocate`, and not given back yet.
#[no_mangle]
pub unsafe extern "C" fn release(start: *mut u8, size: usize) {
    drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(
        start, size,
    )));
}

/// Carries out a request; the answer is to be given back with its length and 4 bytes more.
///
/// # Safety
/// `start` and `size` are of one call of `allocate`.
#[no_mangle]
pub unsafe extern "C" fn carry_out(start: *const u8, size: usize) -> *mut u8 {
    let (status, body) = match answer(std::slice::from_raw_parts(start, size)) {
        Ok(body) => (0u8, body),
        Err(failure) => (1u8, failure.to_json().into_bytes()),
    };
    let mut whole = Vec::with_capacity(body.len() + 5);
    whole.extend_from_slice(&(body.len() as u32 + 1).to_le_bytes());
    whole.push(status);
    whole.extend_from_slice(&body);
    Box::leak(whole.into_boxed_slice()).as_mut_ptr()
}

fn answer(request: &[u8]) -> Outcome<Vec<u8>> {
    let (&kind, rest) = request.split_first().expect("a request has a kind");
    let mut fields = Fields(rest);
    match kind {
        b'I' => Ok(interface::imports(fields.text()?)?.into_bytes()),
        b'L' => load(fields),
        b'E' => {
            let (number, direction, method) =
                (fields.number()?, fields.direction()?, fields.text()?);
            let (is_json, data) = (fields.text()? == "json", fields.text()?);
            with(number, |it| {
                let (env, types) = it.types(direction, method)?;
                values::encode(data, is_json, env, &types)
            })
        }
        b'D' => {
            let (number, direction, method) =
                (fields.number()?, fields.direction()?, fields.text()?);
            let (is_json, data) = (fields.text()? == "json", fields.bytes());
            with(number, |it| {
                let (env, types) = it.types(direction, method)?;
                Ok(values::decode(data, is_json, env, &types)?.into_bytes())
            })
        }
        b'e' => values::encode_untyped(fields.text()?),
        b'd' => {
            let (number, is_json, data) =
                (fields.text()?, fields.text()? == "json", fields.bytes());
            if number.is_empty() {
                return Ok(values::decode_untyped(data, is_json, None)?.into_bytes());
            }
            let number = number.parse().expect("a number");
            with(number, |it| {
                Ok(values::decode_untyped(data, is_json, Some(&it.names))?.into_bytes())
            })
        }
        b'C' => {
            let (new, old) = (fields.number()?, fields.number()?);
            INTERFACES.with_borrow(|all| {
                Ok(interface::incompatibilities(&all[new], &all[old])?.into_bytes())
            })
        }
        b'M' => {
            let names = fields.text()?.split('\n');
            let plain: Vec<String> = names
                .map(|name| format!("{:#}", rustc_demangle::demangle(name)))
                .collect();
            Ok(plain.join("\n").into_bytes())
        }
        _ => unreachable!("a kind of request that there is"),
    }
}

fn load(mut fields: Fields) -> Outcome<Vec<u8>> {
    let (main, init) = (fields.text()?, fields.text()?);
    let mut imports = Vec::new();
    while !fields.0.is_empty() {
        imports.push((fields.text()?, fields.text()? == "service", fields.text()?));
    }
    let loaded = Interface::load(main, init, imports)?;
    let description = loaded.describe();
    INTERFACES.with_borrow_mut(|all| {
        all.push(loaded);
        Ok(format!("{}\n{description}", all.len() - 1).into_bytes())
    })
}

fn with<T>(number: usize, work: impl FnOnce(&Interface) -> Outcome<T>) -> Outcome<T> {
    INTERFACES.with_borrow(|all| work(&all[number]))
}

/// The fields of a request that are still to be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self) -> &'a [u8] {
        let (length, rest) = self.0.split_at(4);
        let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        let (field, rest) = rest.split_at(length);
        self.0 = rest;
        field
    }

    fn text(&mut self) -> Outcome<&'a str> {
        std::str::from_utf8(self.bytes()).map_err(|error| Failure::new(error.to_string()))
    }

    fn number(&mut self) -> Outcome<usize> {
        Ok(self.text()?.parse().expect("a number"))
    }

    fn direction(&mut self) -> Outcome<Direction> {
        Ok(match self.text()? {
            "arguments" => Direction::Arguments,
            "replies" => Direction::Replies,
            _ => Direction::Init,
        })
    }
}
