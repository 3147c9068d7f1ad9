"""Pictures and videos as they come in: decoded beside the web process, under limits, and judged."""
