"""Ingest process: messages of gateways become rows of the intake log, and from there telemetry."""
