"""`retouch doctor`: what this machine has, whether it computes what it should, which settings suit it."""
