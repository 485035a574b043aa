"""The ingest process: what gateways say becomes rows of the intake log, and from there telemetry."""
