"""What we measure, with peers beside us. `python -m bench`."""
