"""Units in their tree, the people in them, who may do what, and who is told first, second and third."""
