"""The APIs' document as a page to read: no script, nothing loaded from elsewhere."""
