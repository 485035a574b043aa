"""The one durable hand-over: what the collector appends, and telemetry and alerting follow by cursor."""
