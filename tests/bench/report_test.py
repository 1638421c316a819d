import json
import unittest

import report
from criteria import Criterion, criteria
from results import Results

MACHINE = {"processor": "A", "cores": 2, "memory_gib": 4, "kernel": "6.1", "system": "Debian",
           "congestion_control": "cubic", "iperf3": "3.12", "ping": "1"}


def results():
    found = Results(MACHINE, {"ways": ["direct", "tunnel64d-tls", "wireguard-go", "gone"],
                              "line_ways": ["tunnel64d-tls"], "whole": True})
    for value in (9000, 10000, None):
        found.add_clean("direct", "tcp1", value)
    found.add_clean("tunnel64d-tls", "tcp1", 6000)
    found.add_clean("tunnel64d-tls", "udp64", 123456)
    found.add_clean("wireguard-go", "tcp1", 2500)
    found.add_line("20mbit", "tunnel64d-tls", 1,
                   {"mbit": 18.5, "p50": 25, "p95": 33, "p99": 41, "lost": 0})
    found.versions.update({"wireguard-go": "0.1", "tunnel64d-tls": "2", "direct": "Linux"})
    found.missing["gone"] = "no such package"
    return found


class Reports(unittest.TestCase):
    def test_what_is_missing_is_named_in_the_table_and_below_it(self):
        text = report.text(results(), [])
        self.assertRegex(text, r"(?m)^gone +not measured$")
        self.assertIn("not measured: gone: no such package", text)

    def test_a_table_has_medians_and_dashes(self):
        text = report.text(results(), [])
        self.assertRegex(text, r"(?m)^direct +9500 +- ")
        self.assertRegex(text, r"(?m)^tunnel64d-tls +6000 .* 123\.5 ")
        self.assertRegex(text, r"(?m)^tunnel64d-tls +18\.5 +25 +33 +41 +0\.0 +- ")

    def test_versions_are_named_once(self):
        found = results()
        found.versions["tunnel64d-tls-4"] = "2"
        self.assertIn("tunnel64d-tls, tunnel64d-tls-4: 2; ", report.versions(found))

    def test_every_figure_is_in_the_json(self):
        written = json.loads(json.dumps(results().as_json()))
        self.assertEqual(written["ways"]["direct"]["clean"]["tcp1"],
                         {"median": 9500, "runs": [9000, 10000, None]})
        self.assertEqual(written["missing"], {"gone": "no such package"})
        self.assertNotIn("gone", written["ways"])


    def test_a_whole_run_says_what_it_has_not_measured(self):
        found = results()
        self.assertIn("not measured", report.verdicts(found, "tunnel64d-tls"))
        found.plan["whole"] = False
        self.assertNotIn("not measured", report.verdicts(found, "tunnel64d-tls"))


class Criteria(unittest.TestCase):
    def test_bounds_belong_to_what_is_met(self):
        self.assertEqual(Criterion("", 3, 3, "×").verdict, "met")
        self.assertEqual(Criterion("", 3, 2.99, "×").verdict, "not met")
        self.assertEqual(Criterion("", 40, 40, "ms", at_most=True).verdict, "met")
        self.assertEqual(Criterion("", 40, 40.1, "ms", at_most=True).verdict, "not met")
        self.assertEqual(Criterion("", 40, None, "ms").verdict, "not measured")

    def test_they_come_from_medians_of_the_same_run(self):
        found = {one.sentence: one for one in criteria(results(), "tunnel64d-tls")}
        beside = found["one flow beside wireguard-go"]
        self.assertEqual((beside.measured, beside.verdict), (2.4, "not met"))
        self.assertEqual(found["one flow beside direct kernel routing"].verdict, "met")
        self.assertEqual(found["one flow beside openvpn-tcp"].verdict, "not measured")
        self.assertEqual(found["20 Mbit/s: ping p95 beside one flow"].verdict, "met")
        self.assertAlmostEqual(
            found["20 Mbit/s: goodput of one flow, of the line"].measured, 0.925)


if __name__ == "__main__":
    unittest.main()
