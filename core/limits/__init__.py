"""Limits: what a zone is held to, by its rule profile and its own limits, and since when."""
