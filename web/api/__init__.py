"""The native API under /api/v1: sessions, quotes, jobs, models, workers, usage."""
