"""The peers: an environment of their own, and the small programs that each of them is measured by."""
