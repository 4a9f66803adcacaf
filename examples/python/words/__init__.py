"""Counts words."""

from collections import Counter


def count(text):
    """The words of a text and how often each comes, the most frequent first."""
    words = "".join(c.lower() if c.isalnum() else " " for c in text).split()
    return sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))
