"""WeChat, by one hardened client."""
