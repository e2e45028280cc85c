"""Schemas that change: what is in one, what another one does to it, and the way there and back."""
