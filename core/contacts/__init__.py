"""Contacts: who is told first, second and third about an equipment, and whether they can be reached."""
