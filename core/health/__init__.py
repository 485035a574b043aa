"""Health of an installation: state of its parts, troubles, and advice for the operator."""
