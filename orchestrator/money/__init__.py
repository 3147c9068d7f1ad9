"""Arithmetic of budgets and prices: the ledger's movements, months, plans, rate cards, quotes.

Pure functions; whole GPU-milliseconds and millionths of a dollar.
"""
