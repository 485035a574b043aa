"""Unit tree, people, accounts, rights, sessions and alarm contacts."""
