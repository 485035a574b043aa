"""Wire contract on the broker: versioned topics and messages. An incompatible change would be `v2` in the topic."""
