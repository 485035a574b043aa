"""Intake log: the durable hand-over. The collector appends; telemetry and alerting follow by cursor."""
