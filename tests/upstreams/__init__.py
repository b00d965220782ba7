"""Upstream truth: the corpus of real responses, and a scripted upstream that serves it with faults on demand."""
