"""The command `coldchain`: where the services, the embedded broker, the demo and the simulators are put together."""

__version__ = "0.1.0"
