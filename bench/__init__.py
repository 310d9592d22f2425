"""Speed beside eager and the peers: `python -m bench`."""
