"""Routes of the API: each translates, and leaves the work to the core."""
