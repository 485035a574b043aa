"""Daily figures: which days are due, and the worker that computes them."""
