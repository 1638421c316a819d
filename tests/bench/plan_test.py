import unittest

from plan import LINES, plan, there_and_back, turns

WAYS = {
    "direct": (None, True, True),
    "ours-tls": (None, True, True),
    "ours-tls-4": (None, True, False),
    "ours-odd": (None, False, False),
    "theirs": (None, True, False),
}


class Plans(unittest.TestCase):
    def test_a_run_unasked_is_whole(self):
        run = plan(WAYS)
        self.assertEqual(run.ways, ["direct", "ours-tls", "ours-tls-4", "theirs"])
        self.assertEqual(run.line_ways, ["direct", "ours-tls"])
        self.assertEqual(run.lines, list(LINES))
        self.assertTrue(run.whole)

    def test_a_quick_run_is_not(self):
        self.assertFalse(plan(WAYS, quick=True).whole)

    def test_a_run_of_something_else_than_what_ships_is_not(self):
        self.assertFalse(plan(WAYS, altered={"BENCH_SET": "queue.ecn=false"}).whole)

    def test_a_name_is_exact_or_a_beginning(self):
        self.assertEqual(plan(WAYS, ["ours-tls"]).ways, ["ours-tls"])
        self.assertEqual(plan(WAYS, ["ours"]).ways, ["ours-tls", "ours-tls-4"])
        self.assertEqual(plan(WAYS, ["ours-odd", "theirs"]).ways, ["ours-odd", "theirs"])

    def test_what_is_asked_for_is_measured_on_lines_too(self):
        self.assertEqual(plan(WAYS, ["theirs"], ["20mbit"]).line_ways, ["theirs"])

    def test_what_is_not_there_is_named(self):
        with self.assertRaisesRegex(ValueError, "no such way: them"):
            plan(WAYS, ["them"])
        with self.assertRaisesRegex(ValueError, "no such line: 1mbit"):
            plan(WAYS, lines=["1mbit"])

    def test_neighbours_stay_neighbours_there_and_back(self):
        names = ["a", "b", "c"]
        self.assertEqual([there_and_back(names, cycle) for cycle in range(3)],
                         [["a", "b", "c"], ["c", "b", "a"], ["a", "b", "c"]])

    def test_everybody_is_first_once(self):
        names = ["a", "b", "c"]
        self.assertEqual([turns(names, number)[0] for number in range(4)], ["a", "b", "c", "a"])
        self.assertEqual(turns([], 1), [])


if __name__ == "__main__":
    unittest.main()
