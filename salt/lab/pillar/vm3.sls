# The gateway of the island fc00:1234:4::/64.
---
tunnel64d:
  package:
    source: salt://tunnel64d.deb
  tunnels:
    tun0:
      interface:
        addresses:
          - fc00:1234:ffff::10/64
        routes:
          fc00:1234:3::/64:
            via: fc00:1234:ffff::1
      link:
        listen: 172.16.2.163:4641
        connect: 172.16.2.131:4641
      security:
        peer_public_keys:
          - 4kNAmoS/UN7+S1Vv/hqdaNG7mYFmqmom+sS9hfp5UE0=
        peer_addresses:
          - 172.16.2.131/32
      # Everybody's: it protects nothing but a lab.
      private_key: rEYGO0vOAmBIzxN6pevDitiiRF16y0i9C3oOEpjDGXo=
  sysctl:
    forward_ipv6: true
  routes:
    172.16.2.128/28:
      via: 172.16.2.162
      dev: eth1
