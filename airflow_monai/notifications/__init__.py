"""Notifications of what happens to jobs and workflow instances, posted to handlers that somebody has registered."""
