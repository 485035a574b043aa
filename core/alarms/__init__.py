"""Alarms: opening, escalation over three levels, acknowledgement, recovery, handling and closing."""
