"""The interface of the management canister, as far as it is answered here.

Source:
    Interface specification, "The IC management canister" (docs/references/ic-interface-spec/
    management-canister.md, developer-docs @ b58cf042, 2026-08-18).
"""

from functools import cache
from types import MappingProxyType
from typing import Final

from sqlstable.candid.interface import Interface

_TYPES: Final = """
type id = principal;
type settings = record {
  controllers : opt vec principal;
  compute_allocation : opt nat;
  memory_allocation : opt nat;
  freezing_threshold : opt nat;
  reserved_cycles_limit : opt nat;
  log_visibility : opt log_visibility;
  log_memory_limit : opt nat;
  wasm_memory_limit : opt nat;
  wasm_memory_threshold : opt nat;
  environment_variables : opt vec variable;
};
type variable = record { name : text; value : text };
type log_visibility = variant { controllers; public; allowed_viewers : vec principal };
type definite_settings = record {
  controllers : vec principal;
  compute_allocation : nat;
  memory_allocation : nat;
  freezing_threshold : nat;
  reserved_cycles_limit : nat;
  log_visibility : log_visibility;
  log_memory_limit : nat;
  wasm_memory_limit : nat;
  wasm_memory_threshold : nat;
  environment_variables : vec variable;
};
type mode = variant {
  install;
  reinstall;
  upgrade : opt record {
    skip_pre_upgrade : opt bool;
    wasm_memory_persistence : opt variant { keep; replace };
  };
};
type chunk_hash = record { hash : blob };
type status = record {
  status : variant { running; stopping; stopped };
  ready_for_migration : bool;
  version : nat64;
  settings : definite_settings;
  module_hash : opt blob;
  memory_size : nat;
  memory_metrics : record {
    wasm_memory_size : nat;
    stable_memory_size : nat;
    global_memory_size : nat;
    wasm_binary_size : nat;
    custom_sections_size : nat;
    canister_history_size : nat;
    wasm_chunk_store_size : nat;
    snapshots_size : nat;
  };
  cycles : nat;
  reserved_cycles : nat;
  idle_cycles_burned_per_day : nat;
  query_stats : record {
    num_calls_total : nat;
    num_instructions_total : nat;
    request_payload_bytes_total : nat;
    response_payload_bytes_total : nat;
  };
};
type change = record { timestamp_nanos : nat64; canister_version : nat64; origin : reserved };
"""

_SERVICE: Final = """
service : {
  create_canister : (record {
    settings : opt settings; sender_canister_version : opt nat64;
  }) -> (record { canister_id : id });
  update_settings : (record {
    canister_id : id; settings : settings; sender_canister_version : opt nat64;
  }) -> ();
  upload_chunk : (record { canister_id : id; chunk : blob }) -> (chunk_hash);
  clear_chunk_store : (record { canister_id : id }) -> ();
  stored_chunks : (record { canister_id : id }) -> (vec chunk_hash);
  install_code : (record {
    mode : mode; canister_id : id; wasm_module : blob; arg : blob;
    sender_canister_version : opt nat64;
  }) -> ();
  install_chunked_code : (record {
    mode : mode; target_canister : id; store_canister : opt id;
    chunk_hashes_list : vec chunk_hash; wasm_module_hash : blob; arg : blob;
    sender_canister_version : opt nat64;
  }) -> ();
  uninstall_code : (record {
    canister_id : id; sender_canister_version : opt nat64;
  }) -> ();
  start_canister : (record { canister_id : id }) -> ();
  stop_canister : (record { canister_id : id }) -> ();
  canister_status : (record { canister_id : id }) -> (status);
  canister_info : (record {
    canister_id : id; num_requested_changes : opt nat64;
  }) -> (record {
    total_num_changes : nat64; recent_changes : vec change;
    module_hash : opt blob; controllers : vec principal;
  });
  canister_metadata : (record { canister_id : id; name : text }) -> (record { value : blob });
  delete_canister : (record { canister_id : id }) -> ();
  deposit_cycles : (record { canister_id : id }) -> ();
  raw_rand : () -> (blob);
  provisional_create_canister_with_cycles : (record {
    amount : opt nat; settings : opt settings; specified_id : opt id;
    sender_canister_version : opt nat64;
  }) -> (record { canister_id : id });
  provisional_top_up_canister : (record { canister_id : id; amount : nat }) -> ();
}
"""

MISSING: Final = MappingProxyType(
    {
        **dict.fromkeys(("http_request", "flexible_http_request"), "outgoing HTTP"),
        **dict.fromkeys(
            ("sign_with_ecdsa", "sign_with_schnorr", "ecdsa_public_key", "schnorr_public_key"),
            "keys that a subnet signs with",
        ),
        **dict.fromkeys(("vetkd_public_key", "vetkd_derive_key"), "keys that a subnet derives"),
        **dict.fromkeys(
            (
                *("bitcoin_get_balance", "bitcoin_get_utxos", "bitcoin_send_transaction"),
                *("bitcoin_get_current_fee_percentiles", "bitcoin_get_block_headers"),
                *("bitcoin_get_balance_query", "bitcoin_get_utxos_query"),
            ),
            "the Bitcoin network",
        ),
        **dict.fromkeys(("node_metrics_history", "subnet_info"), "nodes"),
        **dict.fromkeys(("fetch_canister_logs", "list_canisters"), "a place where that is kept"),
        **dict.fromkeys(
            (
                *("take_canister_snapshot", "load_canister_snapshot", "list_canister_snapshots"),
                *("delete_canister_snapshot", "read_canister_snapshot_metadata"),
                *("read_canister_snapshot_data", "upload_canister_snapshot_metadata"),
                "upload_canister_snapshot_data",
            ),
            "snapshots by canisters",
        ),
    }
)
"""Methods that are not answered, by what they would need."""


@cache
def management_interface() -> Interface:
    """Return the interface."""
    return Interface.of_did(_TYPES + _SERVICE)
