"""Candid in and out: values as text, JSON or bytes, by the types of an interface."""
