"""Routes: drift is told, and what brings them back after a boot fits the interface."""

import os
import subprocess
import unittest

from formula import load

MODULES, STATES = load()
_, TESTING = load(test=True)

PREFIX = "fc00:77::/64"
UNIT = "/etc/systemd/system/tunnel64d-route-fc00-77---64.service"


def ip(*arguments):
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


class Route(unittest.TestCase):
    def setUp(self):
        ip("link", "add", "t64-a", "type", "veth", "peer", "name", "t64-b")
        self.addCleanup(ip, "link", "del", "t64-a")
        self.addCleanup(STATES["tunnel64d.route_absent"], PREFIX)
        for dev in ("t64-a", "t64-b"):
            ip("link", "set", dev, "up")
        ip("address", "add", "fc00:70::1/64", "dev", "t64-a", "nodad")

    def present(self, states=STATES, **changed):
        route = {"dev": "t64-a", "via": "fc00:70::2", **changed}
        return states["tunnel64d.route_present"](PREFIX, **route)

    def test_a_route_comes_drifts_changes_and_goes(self):
        foreseen = self.present(TESTING)
        self.assertIsNone(foreseen["result"])
        self.assertEqual(set(foreseen["changes"]), {"route", UNIT})
        self.assertFalse(ip("-6", "route", "show", PREFIX) or os.path.exists(UNIT))

        self.assertEqual(self.present()["changes"], foreseen["changes"])
        self.assertEqual(self.present()["changes"], {})
        self.assertEqual(self.present(TESTING)["result"], True)

        ip("-6", "route", "replace", PREFIX, "via", "fc00:70::3", "dev", "t64-a")
        drift = self.present(TESTING)["changes"]
        old, new = (f"{PREFIX} via fc00:70::{end} dev t64-a" for end in (3, 2))
        self.assertEqual(drift, {"route": {"old": f"{old} metric 1024", "new": new}})
        self.assertTrue(self.present()["result"])
        self.assertIn("via fc00:70::2", ip("-6", "route", "show", PREFIX))

        self.assertTrue(self.present(metric=50)["result"])
        shown = ip("-6", "route", "show", PREFIX)
        self.assertEqual((shown.count("\n"), "metric 50" in shown), (1, True), shown)

        gone = STATES["tunnel64d.route_absent"](PREFIX)
        self.assertEqual((gone["result"], set(gone["changes"])), (True, {"route", UNIT}))
        self.assertFalse(ip("-6", "route", "show", PREFIX) or os.path.exists(UNIT))
        self.assertEqual(STATES["tunnel64d.route_absent"](PREFIX)["changes"], {})

    def test_a_route_may_be_on_the_link_or_in_another_table(self):
        self.assertTrue(self.present(via=None)["result"])
        self.assertNotIn("via", ip("-6", "route", "show", PREFIX))
        other = self.present(table=177)
        self.assertTrue(other["result"], other)
        self.assertIn("via fc00:70::2", ip("-6", "route", "show", "table", "177"))
        self.assertEqual(self.present(table=177)["changes"], {})
        gone = STATES["tunnel64d.route_absent"](PREFIX, table=177)
        self.assertTrue(gone["result"] and gone["changes"], gone)
        self.assertNotIn("via", ip("-6", "route", "show", PREFIX), "the main table's stays")

    def test_who_brings_it_back_can_be_chosen_and_changed(self):
        script = "/etc/network/if-up.d/tunnel64d-fc00-77---64"
        self.present()
        chosen = self.present(persist="ifupdown")
        self.assertEqual(chosen["changes"], {script: "written", UNIT: "removed"})
        ip("-6", "route", "del", PREFIX)
        for dev, there in (("t64-b", False), ("t64-a", True)):
            subprocess.run([script], env={**os.environ, "IFACE": dev}, check=True)
            self.assertEqual(bool(ip("-6", "route", "show", PREFIX)), there)
        self.assertEqual(self.present(persist="ifupdown")["changes"], {})
        self.assertEqual(self.present(persist="none")["changes"], {script: "removed"})

    def test_the_unit_brings_it_back(self):
        self.present()
        unit = os.path.basename(UNIT)
        subprocess.run(["systemctl", "--quiet", "is-enabled", unit], check=True)
        ip("-6", "route", "del", PREFIX)
        subprocess.run(["systemctl", "restart", unit], check=True)
        self.assertEqual(self.present(TESTING)["changes"], {})

    def test_nonsense_and_impossible_routes_are_refused_with_a_reason(self):
        for changed, reason in [
            ({"dev": None}, "dev is missing"),
            ({"via": "nowhere"}, "'nowhere' does not appear to be an IPv4 or IPv6 address"),
            ({"persist": "networkd"}, "systemd-networkd does not configure t64-a"),
        ]:
            refused = self.present(**changed)
            self.assertFalse(refused["result"])
            self.assertIn(reason, refused["comment"])


if __name__ == "__main__":
    unittest.main()
