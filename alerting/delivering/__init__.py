"""Delivering: messages of the outbox to people, under a lease, by the channels that are configured."""
