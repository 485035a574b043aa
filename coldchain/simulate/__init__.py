"""Stand-ins for what a newcomer doesn't have: devices, loggers, WeChat. Real protocols over real sockets."""
