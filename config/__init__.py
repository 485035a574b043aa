"""Settings with their defaults, and the data that ships: device profiles, rule profiles, texts."""
