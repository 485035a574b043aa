"""What the services share: a folder a feature, and the plumbing under them."""
