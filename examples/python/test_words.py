import unittest

from words import count


class Count(unittest.TestCase):
    def test_the_most_frequent_word_comes_first(self):
        self.assertEqual(count("b a, a! B? a"), [("a", 3), ("b", 2)])


unittest.main()
