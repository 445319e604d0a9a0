"""YAML and JSON text to a tree of values with their places, and to the data that the model takes."""
