# The gateway of the island fc00:1234:3::/64.
---
tunnel64d:
  package:
    source: salt://tunnel64d.deb
  tunnels:
    tun0:
      interface:
        addresses:
          - fc00:1234:ffff::1/64
        routes:
          fc00:1234:4::/64:
            via: fc00:1234:ffff::10
      link:
        listen: 172.16.2.131:4641
        connect: 172.16.2.163:4641
      security:
        peer_public_keys:
          - JBqfnNZiJyJBm4nexqXFZC0sxPOBaYdQmYp7Ou/uGsA=
        peer_addresses:
          - 172.16.2.163/32
      # Everybody's: it protects nothing but a lab.
      private_key: dNAvdgxqUfANkreQu7j71KG+0keL16Zq3vGkfHtC4OU=
  sysctl:
    forward_ipv6: true
  routes:
    172.16.2.160/28:
      via: 172.16.2.132
      dev: eth1
