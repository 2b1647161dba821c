"""The CNI contract as data: names, versions, configurations, results, errors.

The law of this folder: standard library only, no I/O, no environment. It is all that a runtime and a plugin share.
"""
