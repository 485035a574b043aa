"""Storing: from the intake log into telemetry."""
