"""OpenVPN, point to point over TLS: AES-256-GCM in user space, certificates by fingerprint."""

from lab import GATEWAYS, OTHER, OUTER, TUNNELLED, run
from packages import program

INTERFACE = "ovpn0"


class OpenVpn:
    target = TUNNELLED

    def __init__(self, protocol):
        self.protocol = protocol

    def prepare(self, store):
        self.program = program("openvpn", "openvpn", store)
        self.version = self.program.version

    def start(self, lab):
        fingerprints = {host: certificate(lab, host) for host in GATEWAYS}
        tcp = {"VM1": "tcp-client", "VM3": "tcp-server"}
        role = {
            "VM1": ["--tls-client", "--remote", OUTER["VM3"], "1194"],
            "VM3": ["--tls-server", "--dh", "none", "--local", OUTER["VM3"], "--lport", "1194"],
        }
        daemons = []
        for host in ("VM3", "VM1"):
            daemons.append(lab.spawn(host, self.program.command(
                *role[host],
                "--proto", tcp[host] if self.protocol == "tcp" else "udp",
                *(["--nobind"] if host == "VM1" else []),
                "--dev", INTERFACE, "--dev-type", "tun", "--persist-tun", "--disable-dco",
                "--cert", lab.directory / f"{host}.crt", "--key", lab.directory / f"{host}.key",
                "--peer-fingerprint", fingerprints[OTHER[host]],
                "--data-ciphers", "AES-256-GCM",
                "--keepalive", "10", "60", "--connect-retry", "1", "--verb", "1"), host))
            if self.protocol == "tcp" and host == "VM3":
                lab.eventually("openvpn listens", 10, lambda: lab.run(
                    "VM3", ["ss", "-Hltn", "sport = :1194"]))
        lab.join({host: INTERFACE for host in GATEWAYS})
        return daemons


def certificate(lab, host):
    """A key and a certificate signed with it; returns the certificate's fingerprint."""
    key, crt = lab.directory / f"{host}.key", lab.directory / f"{host}.crt"
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", crt, "-days", "2", "-subj", f"/CN={host}"])
    return run(["openssl", "x509", "-in", crt, "-noout", "-fingerprint", "-sha256"]) \
        .strip().split("=")[1]
