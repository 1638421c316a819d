"""Private keys: made once, never again, never told."""

import os
import tempfile
import unittest

from formula import load

MODULES, STATES = load()
_, TESTING = load(test=True)


class Key(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.path = os.path.join(directory.name, "tun0.key")

    def test_a_key_is_made_once_and_only_its_public_half_is_told(self):
        foreseen = TESTING["tunnel64d.key_present"](self.path)
        self.assertIsNone(foreseen["result"])
        self.assertEqual(os.listdir(self.directory), [])

        made = STATES["tunnel64d.key_present"](self.path)
        self.assertTrue(made["result"], made)
        with open(self.path, encoding="ascii") as file:
            private = file.read().strip()
        self.assertNotIn(private, str(made))
        public = MODULES["tunnel64d.pubkey_of"](self.path)
        self.assertEqual(made["changes"]["public key"]["new"], public)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o640)
        self.assertEqual(os.listdir(self.directory), ["tun0.key"])

        again = STATES["tunnel64d.key_present"](self.path)
        self.assertEqual((again["result"], again["changes"]), (True, {}))
        with open(self.path, encoding="ascii") as file:
            self.assertEqual(file.read().strip(), private)

    def test_a_key_that_lies_elsewhere_is_where_the_pillar_says(self):
        pillar = {"tunnels": {"tun7": {"security": {"private_key_file": self.path}}}}
        modules, states = load(pillar={"tunnel64d": pillar})
        self.assertNotIn("tun7", modules["tunnel64d.pubkeys"](), "none has been made")
        states["tunnel64d.key_present"](self.path)
        public = modules["tunnel64d.pubkey_of"](self.path)
        self.assertEqual(modules["tunnel64d.pubkey"]("tun7"), public)
        self.assertEqual(modules["tunnel64d.pubkeys"]()["tun7"], public)

    def test_the_file_of_a_tunnel_whose_key_is_a_credential_is_not_asked(self):
        tunnels = {"tun7": {"credential": True}, "tun8": {"security": {"mode": "plaintext"}}}
        modules, _ = load(pillar={"tunnel64d": {"tunnels": tunnels}})
        for name in tunnels:
            with self.assertRaisesRegex(Exception, f"{name}: by its pillar it has no key file"):
                modules["tunnel64d.pubkey"](name)
            self.assertNotIn(name, modules["tunnel64d.pubkeys"]())

    def test_a_directory_that_is_missing_is_told_of(self):
        refused = STATES["tunnel64d.key_present"](f"{self.directory}/none/tun0.key")
        self.assertFalse(refused["result"])
        self.assertIn("no key can be made: No such file or directory", refused["comment"])

    def test_a_key_that_others_can_read_is_locked_again(self):
        STATES["tunnel64d.key_present"](self.path)
        os.chmod(self.path, 0o644)
        foreseen = TESTING["tunnel64d.key_present"](self.path)
        self.assertIsNone(foreseen["result"], foreseen)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o644)
        mended = STATES["tunnel64d.key_present"](self.path)
        self.assertTrue(mended["result"] and mended["changes"], mended)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o640)

    def test_what_is_no_key_is_kept_and_told_of(self):
        with open(self.path, "w", encoding="ascii") as file:
            file.write("secret nonsense\n")
        for states in (STATES, TESTING):
            refused = states["tunnel64d.key_present"](self.path)
            self.assertFalse(refused["result"])
            self.assertIn(f"{self.path}: no key: ", refused["comment"])
            self.assertIn("remove the file to have another key made", refused["comment"])
            self.assertNotIn("nonsense", refused["comment"])
        with open(self.path, encoding="ascii") as file:
            self.assertEqual(file.read(), "secret nonsense\n")

    def test_without_the_daemon_it_says_what_to_do(self):
        program = MODULES["tunnel64d.binary"]()
        os.rename(program, f"{program}.away")
        self.addCleanup(os.rename, f"{program}.away", program)
        refused = STATES["tunnel64d.key_present"](self.path)
        self.assertFalse(refused["result"])
        self.assertIn("apply the state tunnel64d.package first", refused["comment"])
        self.assertEqual(os.listdir(self.directory), [])


if __name__ == "__main__":
    unittest.main()
