"""One lifecycle for every alarm: opening, three levels, acknowledging, recovery, handling, closing."""
