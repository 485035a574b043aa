"""Simulators of devices, logger files and WeChat, which speak the real protocols over real sockets."""
