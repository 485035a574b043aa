"""WeChat client for official accounts."""
