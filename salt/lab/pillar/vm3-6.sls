# A host of the second island. What lies beyond the tunnel it reaches through VM3, VM2-6's own
# networks through VM2-6.
---
tunnel64d:
  sysctl:
    forward_ipv6: true
  routes:
    fc00:1234:1::/64:
      via: fc00:1234:2::26
      dev: eth1
    fc00:1234:3::/64:
      via: fc00:1234:4::3
      dev: eth2
    fc00:1234:ffff::/64:
      via: fc00:1234:4::3
      dev: eth2
