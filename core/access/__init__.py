"""Access: accounts, sessions and tokens, and the actors that they stand for."""
