"""Readings for good: one port, an embedded store, and figures computed over it that are the same on every adapter."""
