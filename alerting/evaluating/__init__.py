"""Evaluating: live readings, late readings, and probes that have gone offline, by the rules."""
