"""Figures of days over devices, limits and telemetry: computed, kept, and computed anew when something comes late."""
