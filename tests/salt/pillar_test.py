"""What the formula says of pillars, right ones and wrong ones."""

import unittest

import yaml

from formula import FORMULA, load

MODULES, _ = load()


def mistakes(pillar):
    return MODULES["tunnel64d_pillar.mistakes"](pillar)


class Pillar(unittest.TestCase):
    def test_the_example_has_no_mistakes_and_every_key_in_it_is_known(self):
        with open(f"{FORMULA}/pillar.example", encoding="utf-8") as file:
            text = file.read()
        self.assertEqual(mistakes(yaml.safe_load(text)["tunnel64d"]), [])
        keys = MODULES["tunnel64d.check_config"]("tun0", config(yaml.safe_load(text)))
        self.assertEqual(keys, [])

    def test_each_mistake_is_named_with_its_place(self):
        for pillar, expected in [
            ([], "tunnel64d: expected a mapping"),
            ({"tunels": {}}, "tunnel64d:tunels: unknown key (there are: "),
            ({"tunnels": {"tun0": {"peers": [None]}}}, "tunnels:tun0:peers:0: expected a mapping"),
            ({"package": {"versoin": "1"}}, "tunnel64d:package:versoin: unknown key"),
            ({"package": {"version": 1}}, "tunnel64d:package:version: 1 is not accepted"),
            ({"package": {"path": "x.deb"}}, "tunnel64d:package:path: expected an absolute path"),
            (
                {"package": {"source": "https://example.org/t.deb"}},
                "tunnel64d:package:source_hash: missing",
            ),
            (
                {"package": {"source": "salt://b", "source_hash": "sha256=12"}},
                "tunnel64d:package:source_hash: expected sha256=",
            ),
            ({"package": {"path": "/a", "source": "salt://b"}}, "source and path are given"),
            ({"tunnels": {"tun0": None}}, "tunnel64d:tunnels:tun0: expected a mapping"),
            ({"tunnels": {"tun0": {"enabled": "yes"}}}, "tunnel64d:tunnels:tun0:enabled: 'yes'"),
            ({"tunnels": {"tun0": {"apply": "now"}}}, "tunnel64d:tunnels:tun0:apply: 'now'"),
            ({"tunnels": {"tun0": {"peers": [{}]}}}, "tun0:peers:0: names no minion"),
            ({"tunnels": {"../tun0": {}}}, "tunnel64d:tunnels:../tun0: no name for a tunnel"),
            ({"tunnels": {"tunnel64d": {}}}, "tunnel64d:tunnels:tunnel64d: no name for a tunnel"),
            ({"routes": {"fc00::1/64": {"dev": "a"}}}, "fc00::1/64 has host bits set"),
            ({"routes": {"fc00::/64": {}}}, "tunnel64d:routes:fc00::/64:dev: missing"),
            (
                {"routes": {"fc00::/64": {"dev": "a", "via": "10.0.0.1"}}},
                "tunnel64d:routes:fc00::/64:via: 10.0.0.1 is of the other family",
            ),
            ({"routes": {"::/0": {"dev": "a", "metric": True}}}, ":metric: True is not accepted"),
            ({"service": {"wait": "never"}}, "tunnel64d:service:wait: 'never' is not accepted"),
        ]:
            with self.subTest(pillar=pillar):
                found = mistakes(pillar)
                self.assertEqual(len(found), 1, found)
                self.assertIn(expected, found[0])

    def test_empty_sections_are_no_mistakes(self):
        self.assertEqual(mistakes(dict.fromkeys(["package", "tunnels", "sysctl", "routes"])), [])

    def test_the_key_file_is_named_where_the_daemon_needs_one(self):
        for tunnel, expected in [
            ({}, "/etc/tunnel64d/tun0.key"),
            ({"security": {"private_key_file": "/k"}}, "/k"),
            ({"security": {"private_key_file": None}}, "/etc/tunnel64d/tun0.key"),
            ({"security": {"mode": "plaintext"}}, None),
            ({"security": {"mode": None}}, "/etc/tunnel64d/tun0.key"),
            ({"credential": True}, None),
        ]:
            self.assertEqual(MODULES["tunnel64d_pillar.key_file"]("tun0", tunnel), expected)

    def test_a_key_without_a_value_takes_back_what_another_pillar_has_set(self):
        given = {"service": {"wait_connected": None}, "routes": {"fc00:4::/64": None}}
        self.assertEqual(mistakes(given), [])
        left = MODULES["tunnel64d_pillar.valued"](given)
        self.assertEqual(left, {"service": {}, "routes": {}})
        tunnel = {"security": {"mode": None, "private_key_file": None}}
        self.assertEqual(
            MODULES["tunnel64d_pillar.config"]("tun0", tunnel)["config"],
            {"security": {"private_key_file": "/etc/tunnel64d/tun0.key"}},
        )

    def test_what_is_the_formulas_does_not_reach_the_daemon(self):
        tunnel = {"enabled": True, "private_key": "secret", "link": {"listen": "::"}}
        found = MODULES["tunnel64d_pillar.config"]("tun0", tunnel)
        self.assertEqual(
            found["config"],
            {
                "link": {"listen": "::"},
                "security": {"private_key_file": "/etc/tunnel64d/tun0.key"},
            },
        )


def config(pillar):
    return MODULES["tunnel64d_pillar.config"]("tun0", pillar["tunnel64d"]["tunnels"]["tun0"])[
        "config"
    ]


if __name__ == "__main__":
    unittest.main()
