# The IPv6 router between the islands, until it dies.
---
tunnel64d:
  sysctl:
    forward_ipv6: true
  routes:
    fc00:1234:3::/64:
      via: fc00:1234:1::16
      dev: eth1
    fc00:1234:4::/64:
      via: fc00:1234:2::36
      dev: eth2
