"""Encoders: a transformer over frames, and the image networks that may stand before it."""
