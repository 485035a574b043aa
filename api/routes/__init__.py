"""Routes of the API: each translates a request, and leaves the work to the core."""
