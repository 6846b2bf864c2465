"""The wire between frontends and engine workers, and the response log that travels on it.

Both sides import this package and never each other. It knows nothing of HTTP, of vLLM, or of who runs where.
"""
