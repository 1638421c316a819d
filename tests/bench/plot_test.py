import unittest
import xml.etree.ElementTree as ElementTree

import plot
from report_test import results

SVG = "{http://www.w3.org/2000/svg}"


class Plots(unittest.TestCase):
    def test_a_picture_is_well_formed_and_names_what_was_measured(self):
        picture = ElementTree.fromstring(plot.svg(results()))
        words = [text.text for text in picture.iter(f"{SVG}text")]
        for word in ("direct", "tunnel64d-tls", "wireguard-go", "One TCP flow, Gbit/s", "9.5"):
            self.assertIn(word, words)
        self.assertNotIn("gone", words)

    def test_bars_are_as_long_as_their_figures(self):
        bars = plot.draw(("", True, [("a", 10), ("b", 5)]), 0, 0)
        lengths = [float(ElementTree.fromstring(part).get("width"))
                   for part in bars if part.startswith("<rect")]
        self.assertAlmostEqual(lengths[0], 2 * lengths[1], delta=0.1)

    def test_names_are_escaped(self):
        self.assertIn("a &lt; b", plot.text(0, 0, "a < b"))

    def test_figures_have_three_digits(self):
        shown = [plot.three_digits(value) for value in (12345.6, 123.4, 12.34, 1.234, 0.01234)]
        self.assertEqual(shown, ["12346", "123", "12.3", "1.23", "0.0123"])


if __name__ == "__main__":
    unittest.main()
