"""Options that several commands of `farm` take, and the requests that they mean."""
