//! Calls another canister, in all the ways that a call can end.

use candid::Principal;
use ic_cdk::call::{Call, CallFailed};
use std::cell::Cell;

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

fn step() -> u64 {
    STEPS.set(STEPS.get() + 1);
    STEPS.get()
}

/// Puts a note into a `store`, and returns what the store has then.
#[ic_cdk::update]
async fn put_there(store: Principal, number: u64, text: String) -> Result<Option<String>, String> {
    step();
    Call::unbounded_wait(store, "put")
        .with_args(&(number, text))
        .await
        .map_err(words)?;
    step();
    let found = Call::unbounded_wait(store, "get").with_arg(number).await.map_err(words)?;
    step();
    found.candid::<Option<String>>().map_err(|error| error.to_string())
}

/// Calls whatever method with whatever bytes.
#[ic_cdk::update]
async fn call_raw(callee: Principal, method: String, argument: Vec<u8>) -> Result<Vec<u8>, String> {
    step();
    let reply = Call::unbounded_wait(callee, &method).with_raw_args(&argument).await.map_err(words)?;
    step();
    Ok(reply.into_bytes())
}

/// Traps once the call has come back: what was before it stays, what comes after it does not.
#[ic_cdk::update]
async fn put_there_and_trap(store: Principal, number: u64, text: String) {
    step();
    let _ = Call::unbounded_wait(store, "put").with_args(&(number, text)).await;
    step();
    ic_cdk::trap("behind the call");
}

/// Tells a canister something without waiting for what it says.
#[ic_cdk::update]
fn tell(store: Principal, number: u64, text: String) -> bool {
    step();
    Call::unbounded_wait(store, "put").with_args(&(number, text)).oneway().is_ok()
}

#[ic_cdk::query(composite = true)]
async fn get_there(store: Principal, number: u64) -> Result<Option<String>, String> {
    let found = Call::unbounded_wait(store, "get").with_arg(number).await.map_err(words)?;
    found.candid::<Option<String>>().map_err(|error| error.to_string())
}

#[ic_cdk::query]
fn steps() -> u64 {
    STEPS.get()
}

fn words(error: CallFailed) -> String {
    match error {
        CallFailed::CallRejected(it) => {
            format!("{}: {}", it.raw_reject_code(), it.reject_message())
        }
        other => other.to_string(),
    }
}

ic_cdk::export_candid!();
