"""Somebody's canister module, run and watched: the front door of any canister."""
