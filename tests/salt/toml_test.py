"""The pillar as TOML: what comes out means what went in."""

import unittest

import tomllib

from formula import load

MODULES, _ = load()


class Toml(unittest.TestCase):
    def test_what_is_written_reads_back_as_it_was(self):
        config = {
            "interface": {
                "addresses": ["fc00::1/64", "10.0.0.1/8"],
                "mtu": 1400,
                "routes": {"fc00:4::/64": {"via": "fc00::10", "metric": 5}, "::/0": {}},
            },
            "link": {"reconnect": {"min": "200ms", "max": "30s"}, "streams": "auto"},
            "queue": {"ecn": True},
            "odd": {"quotes": 'a "b" \\ \n \t \x7f \x01 ü 😀', "a key": [[1, 2], ["x"]], "f": 0.5},
        }
        self.assertEqual(tomllib.loads(MODULES["tunnel64d.toml"](config)), config)

    def test_keys_without_a_value_are_left_out(self):
        config = {"link": {"listen": None, "reconnect": {"min": None}}, "log": None}
        written = tomllib.loads(MODULES["tunnel64d.toml"](config))
        self.assertEqual(written, {"link": {"reconnect": {}}})

    def test_the_daemon_names_mistakes_by_key(self):
        found = MODULES["tunnel64d.check_config"]("tun0", {"link": {"conect": "x"}, "mtu": 1})
        self.assertTrue(any(line.startswith("link.conect: unknown key") for line in found), found)
        self.assertFalse(any("/tmp" in line for line in found), found)


if __name__ == "__main__":
    unittest.main()
