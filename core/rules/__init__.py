"""Alarm rules: pure functions of samples and limits, without clock, session or settings."""
