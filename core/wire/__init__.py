"""What travels on the broker: versioned topics and messages. An incompatible change is `v2` in the topic."""
