"""Who pays and who may ask: accounts, sessions, keys, people, and alerts of their budgets."""
