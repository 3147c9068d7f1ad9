"""The front door: pages, the job API and the worker protocol, over the verbs of the farm."""
