"""The condition language: text to tree, and its evaluation."""
