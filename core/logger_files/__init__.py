"""Files that temperature loggers export: read into readings, or refused with all that is wrong."""
