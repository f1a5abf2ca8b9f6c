"""One thin command a stage; run as `python -m scripts.NAME` from the repository root."""
