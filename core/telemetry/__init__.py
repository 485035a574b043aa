"""Telemetry stores: one port, an embedded and an InfluxDB adapter, and figures that are the same on both."""
