"""What tests share: the embedded stack, polling with a deadline."""
