"""Prints the most frequent words of the files that are named."""

import platform
import sys

from words import count


def main():
    print(f"Python {platform.python_version()} on {platform.machine()}")
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            for word, times in count(file.read())[:3]:
                print(f"{times:4} {word}")


main()
