"""`ssh -w`: VM1 is the client; OpenSSH with the ciphers it chooses by itself."""

import os
import shutil
from pathlib import Path

from lab import GATEWAYS, OUTER, TUNNELLED, run
from packages import Unavailable, program

PORT = 2222
PRIVILEGE_SEPARATION = Path("/run/sshd")

SERVER = """
Port {port}
ListenAddress {address}
HostKey {directory}/host
AuthorizedKeysFile {directory}/user.pub
PermitRootLogin prohibit-password
PermitTunnel point-to-point
StrictModes no
UsePAM no
PidFile none
LogLevel ERROR
"""

CLIENT = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null",
          "LogLevel=ERROR", "Tunnel=point-to-point", "ExitOnForwardFailure=yes"]


class Ssh:
    target = TUNNELLED

    def prepare(self, store):
        self.server = program("sshd", "openssh-server", store)
        self.client = shutil.which("ssh")
        if not self.client:
            raise Unavailable("openssh-client is not installed")
        self.version = self.server.version

    def start(self, lab):
        for name in ("host", "user"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", lab.directory / name])
        config = SERVER.format(port=PORT, address=OUTER["VM3"], directory=lab.directory)
        session = self.server.path.parent.parent / "lib/openssh/sshd-session"
        if self.server.libraries and session.exists():
            config += f"SshdSessionPath {session}\nSshdAuthPath {session.parent}/sshd-auth\n"
        (lab.directory / "sshd_config").write_text(config)
        users(lab, "VM3")
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        server = lab.spawn("VM3", self.server.command(
            "-D", "-e", "-f", lab.directory / "sshd_config"), "VM3")
        lab.eventually("sshd listens", 10, lambda: lab.run(
            "VM3", ["ss", "-Hltn", f"sport = :{PORT}"]))
        options = [word for option in CLIENT for word in ("-o", option)]
        client = lab.spawn("VM1", [
            self.client, "-F", "none", "-N", "-w", "0:0", "-i", lab.directory / "user",
            "-p", PORT, *options, f"root@{OUTER['VM3']}"], "VM1")
        lab.join({host: "tun0" for host in GATEWAYS})
        return [server, client]


def users(lab, host):
    """An sshd that was not installed has no user of its own, and root may be locked: in this host,
    and nowhere else, both are as sshd wants them (`ip netns exec` binds these files over /etc's)."""
    directory = Path("/etc/netns") / lab.namespace(host)
    (directory / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\n"
        f"sshd:x:65534:65534::{PRIVILEGE_SEPARATION}:/usr/sbin/nologin\n")
    (directory / "shadow").write_text("root:*:1::::::\nsshd:*:1::::::\n")
    os.chmod(directory / "shadow", 0o600)
