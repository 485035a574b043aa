"""Logger files: exports of temperature loggers, read into readings or refused with every problem."""
