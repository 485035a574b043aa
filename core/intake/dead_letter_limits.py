"""Limits of dead letters, for either database: how many are kept, and how many bytes of each."""

MOST_OF_A_GATEWAY = 100
MOST_IN_ALL = 5_000
"""Of all gateways together, so that fifty with the most don't displace the others'."""
LARGEST_BYTES = 65_536
"""A longer message is cut; one faulty gateway can't fill the disk."""
