"""A bot of the README's shape with annotations, for the type checkers."""
