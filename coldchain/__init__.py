"""Command `coldchain`: puts the services, the embedded broker, the demo and the simulators together."""

__version__ = "0.1.0"
