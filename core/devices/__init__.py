"""Equipment, zones, gateways and probes, with the timelines of their bindings."""
