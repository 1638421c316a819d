"""What tunnel64d is to reach beside its peers in the same run, and whether it does.

Reading a list of these is somebody's business; no run fails because a machine was busy.
"""

from dataclasses import dataclass

from figures import ratio

USERSPACE_PEERS = ("wireguard-go", "openvpn-udp", "openvpn-tcp", "tinc", "tinc-tcp", "ssh")


@dataclass
class Criterion:
    sentence: str
    bound: float
    measured: float
    unit: str
    at_most: bool = False

    @property
    def verdict(self):
        if self.measured is None:
            return "not measured"
        met = self.measured <= self.bound if self.at_most else self.measured >= self.bound
        return "met" if met else "not met"


def criteria(results, name):
    """The criteria of the way `name`, `tunnel64d-tls` for the published ones."""
    return clean(results, name) + lines(results, name)


def clean(results, name):
    def beside(measure, peer):
        return ratio(results.of(name, measure), results.of(peer, measure))

    def peers(measure):
        figures = [results.of(peer, measure) for peer in USERSPACE_PEERS]
        # The best of some is not the best.
        return [] if None in figures else figures

    found = [
        Criterion("one flow beside wireguard-go", 3, beside("tcp1", "wireguard-go"), "×"),
        Criterion("one flow beside openvpn-tcp", 15, beside("tcp1", "openvpn-tcp"), "×"),
        Criterion("one flow beside direct kernel routing", 0.55, beside("tcp1", "direct"), "×"),
        Criterion("processor time beside wireguard-go", 0.3, beside("cpu", "wireguard-go"), "×",
                  at_most=True),
        Criterion("idle RTT beside the best userspace peer", 1.25,
                  ratio(results.of(name, "idle_p50"), min(peers("idle_p50"), default=None)), "×",
                  at_most=True),
        Criterion("resident memory", 16, results.of(name, "rss"), "MiB", at_most=True),
        Criterion("UDP 64 B beside the best peer", 2,
                  ratio(results.of(name, "udp64"), max(peers("udp64"), default=None)), "×"),
    ]
    if name != "tunnel64d-plaintext":
        plaintext = ratio(results.of("tunnel64d-plaintext", "tcp1"), results.of("direct", "tcp1"))
        found.append(Criterion(
            "plaintext, one flow beside direct kernel routing", 0.65, plaintext, "×"))
    return found


def lines(results, name):
    def on(line, measure, load):
        return results.on_line(line, name, measure, load)

    share = ratio(on("20mbit", "mbit", 1), 20)
    share4 = ratio(on("20mbit", "mbit", 4), 20)
    return [
        Criterion("20 Mbit/s: ping p95 beside one flow", 40, on("20mbit", "p95", 1), "ms", True),
        Criterion("20 Mbit/s: ping p95 beside four flows", 50, on("20mbit", "p95", 4), "ms", True),
        Criterion("20 Mbit/s: goodput of one flow, of the line", 0.9, share, "×"),
        Criterion("20 Mbit/s: goodput of four flows, of the line", 0.9, share4, "×"),
        Criterion("100 Mbit/s, 1 % loss: goodput of one flow", 60,
                  on("100mbit-loss", "mbit", 1), "Mbit/s"),
        Criterion("100 Mbit/s, 1 % loss: ping p95 beside one flow", 60,
                  on("100mbit-loss", "p95", 1), "ms", True),
    ]
