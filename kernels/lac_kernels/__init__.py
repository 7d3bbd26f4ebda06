"""Engines that compute the soft Smith-Waterman recursion; `reference` is the specification."""
