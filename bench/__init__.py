"""Measurements behind the docs: speed, errors, representations; other authors' losses and peers to compare with.

A package of the checkout, not of the wheel: `pip install -e .`, then from the repository root

    python -m bench.measure            # every number of docs/performance.md
    python -m bench.training           # what share of a training step is the loss
    python -m bench.fuzz               # errors on thousands of random problems
    python -m bench.representations    # which loss makes the better representation
    python -m bench.from_video         # from video files to results
    python -m bench.report             # the tables and plots of README.md and docs, from the rows of all these
"""
