"""A run: its settings, the loop, the folder it leaves behind, and its evaluation."""
