"""Sending messages to URLs that clients chose, from inside the operator's network.

Which addresses are allowed, one checked and bounded request, and the threads that send.
"""
