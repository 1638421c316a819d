"""Ways to join the islands, one file a program. Each is started in a lab of its own.

A way has a name, the `target` that is VM3-6 along it, and:
  prepare(store)   finds its programs; raises Unavailable with the reason
  version          what was measured, after `prepare`
  start(lab)       starts it; returns the processes whose memory and processor time are the tunnel's
"""

from tunnels.direct import Direct
from tunnels.openvpn import OpenVpn
from tunnels.ssh import Ssh
from tunnels.tinc import Tinc
from tunnels.tunnel64d import Tunnel64d
from tunnels.wireguard import WireguardGo

# Everything that can be asked for; the second says whether a run measures it unasked, the third
# whether on emulated lines too.
WAYS = {
    "direct": (Direct(), True, True),
    "tunnel64d-tls": (Tunnel64d("tls"), True, True),
    "tunnel64d-tls-1": (Tunnel64d("tls", streams=1), True, False),
    "tunnel64d-tls-2": (Tunnel64d("tls", streams=2), True, False),
    "tunnel64d-tls-4": (Tunnel64d("tls", streams=4), True, False),
    "tunnel64d-plaintext": (Tunnel64d("plaintext"), True, True),
    "tunnel64d-plaintext-1": (Tunnel64d("plaintext", streams=1), False, False),
    "tunnel64d-plaintext-2": (Tunnel64d("plaintext", streams=2), False, False),
    "tunnel64d-plaintext-4": (Tunnel64d("plaintext", streams=4), False, False),
    "tunnel64d-no-offload": (Tunnel64d("plaintext", offload="off"), False, False),
    "wireguard-go": (WireguardGo(), True, True),
    "openvpn-udp": (OpenVpn("udp"), True, True),
    "openvpn-tcp": (OpenVpn("tcp"), True, True),
    "tinc": (Tinc(), True, False),
    "tinc-tcp": (Tinc(tcp_only=True), True, True),
    "ssh": (Ssh(), True, True),
}
