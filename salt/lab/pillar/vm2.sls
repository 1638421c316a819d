# The IPv4 router between the gateways.
---
tunnel64d:
  sysctl:
    forward_ipv4: true
