"""Runtime of every process: time, logging, lifecycle. It imports little, since the edge box uses it too."""
