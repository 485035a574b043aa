"""What can be set, the defaults, and the data that ships: device profiles, rule profiles, code tables."""
