"""Budget spent and money earned: a job's books, months, receipts, the operator's economics.

Everything here reads or moves entries of the ledger, or sums them.
"""
