"""Unit tree with its people; rights and roles, and the actors that hold them."""
