"""``defaults`` files: what the workflows of a folder take where they do not say it."""
