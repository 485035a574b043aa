"""Core shared by the services: one package for each feature, and the infrastructure below them."""
