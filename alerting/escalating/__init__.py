"""Escalating: who is told now, level by level, and of late data in a digest."""
