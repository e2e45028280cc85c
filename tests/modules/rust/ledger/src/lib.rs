//! Accounts of principals in a stable B-tree, and a log of what was transferred.

use candid::{CandidType, Deserialize, Nat, Principal};
use ic_stable_structures::memory_manager::{MemoryId, MemoryManager, VirtualMemory};
use ic_stable_structures::storable::{Bound, Storable};
use ic_stable_structures::{DefaultMemoryImpl, StableBTreeMap, StableLog};
use std::borrow::Cow;
use std::cell::RefCell;

type Memory = VirtualMemory<DefaultMemoryImpl>;

#[derive(CandidType, Deserialize, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Account {
    owner: Principal,
    subaccount: Option<Vec<u8>>,
}

impl Storable for Account {
    const BOUND: Bound = Bound::Unbounded;

    fn to_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Owned(candid::encode_one(self).unwrap())
    }

    fn into_bytes(self) -> Vec<u8> {
        candid::encode_one(self).unwrap()
    }

    fn from_bytes(bytes: Cow<[u8]>) -> Self {
        candid::decode_one(&bytes).unwrap()
    }
}

#[derive(CandidType, Deserialize)]
struct InitArguments {
    holder: Account,
    supply: Nat,
    fee: u64,
}

#[derive(CandidType, Deserialize)]
struct TransferArguments {
    to: Account,
    amount: Nat,
    memo: Option<Vec<u8>>,
}

#[derive(CandidType, Deserialize)]
enum TransferError {
    InsufficientFunds { balance: Nat },
    TooLarge,
}

thread_local! {
    static MANAGER: RefCell<MemoryManager<DefaultMemoryImpl>> =
        RefCell::new(MemoryManager::init(DefaultMemoryImpl::default()));
    static BALANCES: RefCell<StableBTreeMap<Account, u128, Memory>> = RefCell::new(
        StableBTreeMap::init(MANAGER.with_borrow(|it| it.get(MemoryId::new(0)))));
    static BLOCKS: RefCell<StableLog<Vec<u8>, Memory, Memory>> = RefCell::new(StableLog::init(
        MANAGER.with_borrow(|it| it.get(MemoryId::new(1))),
        MANAGER.with_borrow(|it| it.get(MemoryId::new(2)))));
}

#[ic_cdk::init]
fn init(arguments: InitArguments) {
    let supply = u128::try_from(arguments.supply.0).unwrap_or_else(|_| ic_cdk::trap("too large"));
    BALANCES.with_borrow_mut(|it| it.insert(arguments.holder, supply));
    log(arguments.fee.to_le_bytes().to_vec());
}

#[ic_cdk::post_upgrade]
fn post_upgrade() {}

#[ic_cdk::update]
fn transfer(arguments: TransferArguments) -> Result<Nat, TransferError> {
    let from = Account { owner: ic_cdk::api::msg_caller(), subaccount: None };
    let Ok(amount) = u128::try_from(arguments.amount.0) else {
        return Err(TransferError::TooLarge);
    };
    let there = balance(&from);
    if there < amount {
        return Err(TransferError::InsufficientFunds { balance: Nat::from(there) });
    }
    let block = candid::encode_args((&from, &arguments.to, amount)).unwrap();
    BALANCES.with_borrow_mut(|it| it.insert(from, there - amount));
    let other = balance(&arguments.to);
    BALANCES.with_borrow_mut(|it| it.insert(arguments.to, other + amount));
    Ok(Nat::from(log(block)))
}

#[ic_cdk::query]
fn balance_of(account: Account) -> Nat {
    Nat::from(balance(&account))
}

#[ic_cdk::query]
fn blocks() -> u64 {
    BLOCKS.with_borrow(|it| it.len())
}

fn balance(account: &Account) -> u128 {
    BALANCES.with_borrow(|it| it.get(account)).unwrap_or(0)
}

fn log(block: Vec<u8>) -> u64 {
    BLOCKS.with_borrow(|it| it.append(&block)).unwrap_or_else(|_| ic_cdk::trap("the log is full"))
}

ic_cdk::export_candid!();
