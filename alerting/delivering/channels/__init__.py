"""Channels that reach a person: one module each, behind one port."""
