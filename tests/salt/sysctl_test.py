"""Kernel settings: set, drifted, and put back as they were found."""

import os
import tempfile
import unittest

from formula import load

MODULES, STATES = load()
_, TESTING = load(test=True)

KEY = "net.ipv6.conf.lo.hop_limit"


class Sysctl(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "60-tunnel64d.conf")
        self.before = self.value()
        self.addCleanup(MODULES["tunnel64d_sysctl.assign"], KEY, self.before)

    def value(self):
        return MODULES["tunnel64d_sysctl.value"](KEY)

    def present(self, value, states=STATES):
        return states["tunnel64d_sysctl.present"](self.path, values={KEY: value} if value else {})

    def test_a_setting_comes_drifts_and_goes_back_to_what_it_was(self):
        self.assertIsNone(self.present(33, TESTING)["result"])
        self.assertFalse(os.path.exists(self.path) or self.value() == "33")
        changed = self.present(33)["changes"]
        self.assertEqual(changed[KEY], {"old": self.before, "new": "33"})
        self.assertEqual(self.present(33)["changes"], {})

        MODULES["tunnel64d_sysctl.assign"](KEY, "44")
        drift = {KEY: {"old": "44", "new": "33"}}
        self.assertEqual(self.present(33, TESTING)["changes"], drift)
        self.assertEqual(self.present(33)["changes"], drift)

        self.assertTrue(self.present(55)["result"])
        gone = STATES["tunnel64d_sysctl.absent"](self.path)
        self.assertEqual(gone["changes"][KEY], {"old": "55", "new": self.before})
        self.assertEqual(self.value(), self.before)
        self.assertFalse(os.path.exists(self.path))
        self.assertEqual(STATES["tunnel64d_sysctl.absent"](self.path)["changes"], {})

    def test_what_is_taken_out_of_the_pillar_goes_back_and_what_others_set_stays(self):
        self.present(33)
        self.present(None)
        self.assertEqual(self.value(), self.before)
        self.present(33)
        MODULES["tunnel64d_sysctl.assign"](KEY, "44")
        STATES["tunnel64d_sysctl.absent"](self.path)
        self.assertEqual(self.value(), "44")

    def test_a_setting_that_is_not_there_is_named_and_nothing_is_written(self):
        for key in ("net.ipv6.conf.nowhere.forwarding", "../../etc/passwd"):
            refused = STATES["tunnel64d_sysctl.present"](self.path, values={key: 1})
            self.assertFalse(refused["result"])
            self.assertIn(key, refused["comment"])
        self.assertFalse(os.path.exists(self.path))

    def test_interfaces_with_a_dot_are_written_as_sysctl_does(self):
        value = MODULES["tunnel64d_sysctl.value"]
        self.assertEqual(value("net/ipv6/conf/lo/hop_limit"), value(KEY))
        keys = ["net.ipv6.conf.all.forwarding", "net/ipv6/conf/eth0.7/accept_ra"]
        self.assertEqual(MODULES["tunnel64d_sysctl.in_order"](keys), keys[::-1])


if __name__ == "__main__":
    unittest.main()
