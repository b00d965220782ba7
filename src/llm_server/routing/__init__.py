"""Given candidates and their health, decide the order and say what was dropped and why. Pure."""
