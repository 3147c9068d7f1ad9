"""Payers and askers: accounts, sessions, keys, people, and alerts of their budgets."""
