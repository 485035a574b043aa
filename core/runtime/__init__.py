"""What every process needs to run: time, logging, lifecycle. Light: the edge box imports it."""
